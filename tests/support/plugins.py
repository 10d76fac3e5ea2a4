"""What tests of foreign code share: a small plug-in, installed or not, and an object that runs code."""

from __future__ import annotations

import re
import textwrap

CODE = """
from dataclasses import dataclass
from pathlib import Path

from diffusers import ConfigMixin, ModelMixin

from pmg.configuration.ranges import Count
from pmg.preferences.keywords import merge_keywords, rank

Path({canary!r}).touch()


@dataclass(frozen=True)
class LastOptions:
    count: Count = 1

    def __call__(self, language_model, context, attributes):
        scores = [0.0] * self.count
        found = [rank(each.options[-self.count:], scores, self.count) for each in attributes.values()]
        return [merge_keywords(found)] * len(context)


class Encoder(ModelMixin, ConfigMixin):
    pass


def run(*args, **kwargs):
    Path({canary!r}).write_text("called")
"""


class WritesWhenUnpickled:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


OPTION = "# The last options of each attribute.\n_target_: {name}.LastOptions\ncount: 2\n"


def write_examples(text, folder):
    """Writes the code blocks of a document that begin with ``# NAME.py`` or ``# conf/GROUP/NAME.yaml``, as they are.

    Before the name there may be the line that tells Hydra the package.
    """
    block = r"```(?:python|yaml)\n((?:# @package _global_\n)?# ([\w/]+\.(?:py|yaml))[^\n]*\n.*?)```"
    for code, name in re.findall(block, text, re.DOTALL):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)


def write_plugin(folder, name, installed=True, package=True):
    """Writes a plug-in with a keyword decoder, and returns the file that appears when it is imported.

    Args:
        folder: on Python's path, or to be put there.
        name: of the module.
        installed: whether metadata with an entry point lies beside it, as pip writes it.
        package: whether it is a package, or a file with a folder ``conf`` beside it.
    """
    canary = folder / f"{name}_was_imported"
    code = textwrap.dedent(CODE).format(canary=str(canary))
    home = folder / name if package else folder
    (home / "conf" / "decoding").mkdir(parents=True)
    (home / "__init__.py" if package else home / f"{name}.py").write_text(code)
    (home / "conf" / "decoding" / f"{name}.yaml").write_text(OPTION.format(name=name))
    if installed:
        write_metadata(folder, name)
    return canary


def write_metadata(folder, name):
    """Writes the metadata of an installed package with an entry point, as pip does."""
    metadata = folder / f"{name}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[pmg.plugins]\n{name} = {name}\n")
