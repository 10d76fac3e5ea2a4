"""The page of all models: one table, written from the options under ``conf/`` whose comments name a licence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import yaml
from config_reference import LICENCE, Option, Reader

GROUPS = ("language_model", "generator", "text_encoder", "scorer")
MEMORY = re.compile(r"([\d.]+) GB in bfloat16")
FIRST = re.compile(r"(.+?)(?:[.:](?=\s|$)|$)")
HEAD = """# All models

Language models, generators, text encoders and scorers, from `conf/`; `GROUP=OPTION` selects one. **GB**: the weights
in bfloat16. **Run here**: *its weights* ship with pmg, and the studies measure them; of all others, tests run *the
code* at toy size with random weights, and nobody here has loaded the weights. The text field and the menus above the
table leave rows out. Licences are those of the models' pages when this was written: read yours before you build on it.
What needs training is the preference encoder; the [benchmark](../studies/field.md) marks the methods
that do.

| group | option | model | GB | licence | run here |
| --- | --- | --- | ---: | --- | --- |
"""


def page(reader: Reader, options: Mapping[str, list[tuple[str, Option]]]) -> str:
    """Returns the page, of the configs and their options by group, see `config_reference.groups`."""
    return HEAD + "".join(_rows(reader, options))


def _rows(reader: Reader, options: Mapping[str, list[tuple[str, Option]]]) -> Iterator[str]:
    for group in GROUPS:
        for folder, option in options[group]:
            licence, memory = LICENCE.search(option.comment), MEMORY.search(option.comment)
            if licence is None:
                continue  # no weights of its own: any checkpoint, random ones, or none that ship
            source = yaml.safe_load(reader.path(f"{folder}/{option.name}").read_text()).get("source")
            ships = not source or source.startswith("package:")
            found = FIRST.match(LICENCE.sub("", option.comment))
            model = found[1] if found else option.name
            named = model if ships else f"{model} (`{source}`)"
            cells = (
                f"`{group}`", f"[`{option.name}`](config/{group}.md#{option.name})", named,
                memory[1] if memory else "–", licence[1], "its weights" if ships else "the code",
            )  # fmt: skip
            yield f"| {' | '.join(cells)} |\n"
