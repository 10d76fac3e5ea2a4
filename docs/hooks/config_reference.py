"""Pages of the configuration reference, written from the files under ``conf/``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

LONGEST_VALUE = 70  # characters of a default
GUIDE = "../../configuration.md"
GLOBAL = "# @package _global_"


@dataclass(frozen=True)
class Key:
    """A value that an option sets.

    Attributes:
        name: dotted, from the root of a command's config.
        default: as the file writes it.
        comment: the text after it, and the comment lines above it.
    """

    name: str
    default: str
    comment: str


@dataclass(frozen=True)
class Option:
    """A file under ``conf/``.

    Attributes:
        name: what ``group=NAME`` selects.
        comment: the comment lines at the top of the file.
        extends: entries of its defaults list.
        target: the class or function that it builds, or an empty text.
        keys: the values that it sets.
    """

    name: str
    comment: str
    extends: tuple[str, ...]
    target: str
    keys: tuple[Key, ...]


def read_option(path: Path, package: str) -> Option:
    """Reads an option's comments, defaults list and values.

    Args:
        path: of the file.
        package: dotted name below which its values are placed; files with ``# @package _global_`` have none.
    """
    text = path.read_text()
    lines = text.splitlines()
    root = yaml.compose(text)
    prefix = "" if text.startswith(GLOBAL) or not package else f"{package}."
    mapping = root if isinstance(root, yaml.MappingNode) and root.value else None
    first = mapping.start_mark.line if mapping else len(lines)
    head = [line for line in lines[:first] if line.startswith("#") and line != GLOBAL]
    found = list(_keys(mapping, prefix, text, lines, first)) if mapping else []
    values = yaml.safe_load(re.sub(r"\$\{[^}]*\}", "x", text)) or {}
    target = values.get("_target_", "") if isinstance(values, dict) else ""
    extends = tuple(_default(entry) for entry in values.get("defaults", ())) if isinstance(values, dict) else ()
    return Option(path.stem, _join(head), tuple(each for each in extends if each != "_self_"), target, tuple(found))


def _default(entry: str | dict[str, object]) -> str:
    """Returns an entry of a defaults list as it is given on the command line."""
    if isinstance(entry, str):
        return entry
    (group, option), *_ = entry.items()
    return f"{group}={'null' if option is None else option}"


def _keys(node: yaml.MappingNode, prefix: str, text: str, lines: list[str], first: int) -> Iterator[Key]:
    """Yields the values below a mapping, with their comments."""
    for key, value in node.value:
        if key.value in ("defaults", "_partial_") or (key.value == "_target_" and node.start_mark.line == first):
            continue
        name = f"{prefix}{key.value}"
        above = [] if key.start_mark.line == first else _above(lines, key.start_mark.line, key.start_mark.column)
        if isinstance(value, yaml.MappingNode) and not value.flow_style and value.value:
            yield from _nested(name, value, above, text, lines)
            continue
        comment = _trailing(lines, key.end_mark.line if _is_block(value) else value.end_mark.line)
        yield Key(name, _shown(value, text), _join([*above, comment]))


def _nested(name: str, value: yaml.MappingNode, above: list[str], text: str, lines: list[str]) -> Iterator[Key]:
    """Yields what a mapping in block style holds; its own comment becomes a row, where it has one."""
    comment = _join([*above, _trailing(lines, value.start_mark.line - 1)])
    if comment:
        yield Key(name, "", comment)
    yield from _keys(value, f"{name}.", text, lines, -1)


def _is_block(value: yaml.Node) -> bool:
    return isinstance(value, yaml.CollectionNode) and not value.flow_style


def _above(lines: list[str], line: int, column: int) -> list[str]:
    """Returns the comment lines directly above a key, of its indentation."""
    found: list[str] = []
    while line > 0 and re.match(rf" {{{column}}}#", lines[line - 1]):
        line -= 1
        found.insert(0, lines[line])
    return found


def _trailing(lines: list[str], line: int) -> str:
    """Returns the comment at the end of a line."""
    if not 0 <= line < len(lines) or lines[line].lstrip().startswith("#"):
        return ""
    found = re.match(r"""^(?:[^#'"]|'[^']*'|"[^"]*"|(?<! )#)*?\s(#.*)$""", lines[line])
    return found[1] if found else ""


def _shown(value: yaml.Node, text: str) -> str:
    """Returns a default as the file writes it, shortened."""
    if isinstance(value, yaml.SequenceNode) and not value.flow_style:
        return f"{len(value.value)} values"
    written = " ".join(text[value.start_mark.index : value.end_mark.index].split())
    return written if len(written) <= LONGEST_VALUE else f"{written[: LONGEST_VALUE - 1]}…"


def _join(comments: list[str]) -> str:
    """Joins comment lines to a text."""
    return " ".join(text for line in comments if (text := line.strip().lstrip("#").strip()))


def groups(conf: Path) -> dict[str, list[tuple[str, Option]]]:
    """Returns the options of each group, with the folder of each, e.g. ``balance/weights``."""
    found: dict[str, list[tuple[str, Option]]] = {}
    for path in sorted(conf.rglob("*.yaml")):
        folder = path.parent.relative_to(conf)
        if path.parent != conf and folder.parts[0] != "local":
            option = read_option(path, ".".join(folder.parts))
            found.setdefault(folder.parts[0], []).append((folder.as_posix(), option))
    return found


def purposes(guide: str) -> dict[str, str]:
    """Returns what each group replaces, from the table of the guide to the configuration."""
    return dict(re.findall(r"^\| \[?`(\w+)`(?:\]\([^)]*\))? \| ([^|]+?) \|$", guide, re.MULTILINE))


def pages(conf: Path, guide: Path) -> Iterator[tuple[str, str]]:
    """Yields ``(file name, Markdown)`` of the overview and of a page for each group.

    Args:
        conf: the folder with the configs.
        guide: docs/configuration.md, whose table says what each group replaces.
    """
    text = guide.read_text()
    purpose, found = purposes(text), groups(conf)
    yield "index.md", "".join(_overview(conf, found, purpose))
    for group, options in found.items():
        yield f"{group}.md", "".join(_page(group, options, purpose.get(group, ""), f"\n## {group}\n" in text))


def _overview(conf: Path, found: dict[str, list[tuple[str, Option]]], purpose: dict[str, str]) -> Iterator[str]:
    yield "# Configuration reference\n\nWritten from the files under `conf/`. "
    yield f"[Configuration]({GUIDE}) has the same groups with explanations and commands.\n\n## Groups\n\n"
    yield "| group | what it replaces | options |\n| --- | --- | --- |\n"
    for group, options in found.items():
        names = ", ".join(
            f"[`{_selects(folder, option)}`]({group}.md#{_anchor(folder, option)})" for folder, option in options
        )
        yield f"| [`{group}`]({group}.md) | {purpose.get(group, '')} | {names} |\n"
    yield "\n## Commands\n\n"
    for path in sorted(conf.glob("*.yaml")):
        option = read_option(path, "")
        yield f"### `pmg-{path.stem}` {{#pmg-{path.stem}}}\n\n{_prose(option.comment)}\n\n"
        yield f"Composed of {_listed(option.extends)}.\n\n{_table(option.keys)}"


def _page(group: str, options: list[tuple[str, Option]], purpose: str, in_guide: bool) -> Iterator[str]:
    yield f"# Config group `{group}`\n\n"
    if purpose:
        yield f"{purpose[0].upper()}{purpose[1:]}.\n\n"
    if in_guide:
        yield f"Explanations and commands: [Configuration]({GUIDE}#{group}).\n\n"
    for folder, option in options:
        selects = option.name if group == "base" else f"{folder}={option.name}"
        yield f"## `{selects}` {{#{_anchor(folder, option)}}}\n\n{_prose(option.comment)}\n\n"
        if option.target:
            yield f"Builds {_link(option.target)}.\n\n"
        if option.extends:
            yield (
                f"Composed of {_listed(option.extends)}, with these values:\n\n"
                if option.keys
                else (f"Composed of {_listed(option.extends)}.\n\n")
            )
        yield _table(option.keys)


def _anchor(folder: str, option: Option) -> str:
    """Returns the anchor of an option on the page of its group."""
    return "-".join([*folder.split("/")[1:], option.name])


def _selects(folder: str, option: Option) -> str:
    """Returns an option's name, with the folder inside of its group, e.g. ``weights=grid``."""
    inner = folder.partition("/")[2]
    return f"{inner}={option.name}" if inner else option.name


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _link(target: str) -> str:
    """Returns classes and functions of pmg as references to their documentation, others as code.

    A method, which a class may inherit, leads to its class; targets of a sweep are separated by commas.
    """
    if "," in target:
        return ", ".join(map(_link, target.split(",")))
    owner = target.rpartition(".")[0]
    home = owner if owner.rpartition(".")[2][:1].isupper() else target
    return f"[`{target}`][{home}]" if target.startswith("pmg.") and not target.endswith("…") else f"`{target}`"


def _prose(comment: str) -> str:
    """Returns a comment as Markdown: characters that Markdown interprets are escaped."""
    return re.sub(r"([*_<>|\[\]])", r"\\\1", comment)


def _table(keys: tuple[Key, ...]) -> str:
    """Returns the table of an option's values."""
    if not keys:
        return ""
    rows = "".join(f"| `{key.name}` | {_cell(key)} | {_prose(key.comment)} |\n" for key in keys)
    return f"| key | default | meaning |\n| --- | --- | --- |\n{rows}\n"


def _cell(key: Key) -> str:
    """Returns a default as a table's cell."""
    if key.name.endswith("_target_"):
        return _link(key.default)
    shown = key.default.replace("|", "\\|")
    return f"`{shown}`" if shown else ""
