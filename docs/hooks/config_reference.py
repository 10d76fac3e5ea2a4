"""Pages of the configuration reference, written from the files under ``conf/``.

A key's meaning is the comment behind it, or the comment lines above it. A key that an option sets anew has the meaning
that the file says which it extends; one of another group that which this group says. A mapping whose comment begins
with "by " holds entries of one form, such as questions by attribute: it is one row, with the names of its entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

LONGEST_VALUE = 70  # characters of a default
GUIDE = "../../configuration.md"
GLOBAL = "# @package _global_"
LICENCE = re.compile(r"\s*Licence: (.+?)\.(?=\s|$)")
ENTRIES = "by "  # how the comment of a mapping with entries of one form begins


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
        comment = _join([*above, _trailing(lines, _last_line(key, value))])
        if not isinstance(value, yaml.MappingNode) or not value.value or (value.flow_style and comment):
            yield Key(name, _shown(value, text), comment)
        elif comment.startswith(ENTRIES):
            yield Key(name, ", ".join(entry.value for entry, _ in value.value), comment)
        elif value.flow_style:
            yield from _parts(value, f"{name}.", text)  # whose comments are those of other files
        else:
            if comment:
                yield Key(name, "", comment)
            yield from _keys(value, f"{name}.", text, lines, -1)


def _parts(node: yaml.MappingNode, prefix: str, text: str) -> Iterator[Key]:
    """Yields the values of a mapping in one line, which have no comments of their own."""
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _parts(value, f"{prefix}{key.value}.", text)
        else:
            yield Key(f"{prefix}{key.value}", _shown(value, text), "")


def _last_line(key: yaml.Node, value: yaml.Node) -> int:
    """Returns the line that may end with the comment of a key."""
    return key.end_mark.line if _is_block(value) else value.end_mark.line


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


class Reader:
    """Reads the options under some folders, each key with its meaning.

    Args:
        folders: ``conf``, and those of packages that add options to its groups.
    """

    def __init__(self, *folders: Path) -> None:
        found = [
            (path.relative_to(folder).with_suffix(""), path) for folder in folders for path in folder.rglob("*.yaml")
        ]
        self._paths = {name.as_posix(): path for name, path in found if name.parts[0] != "local"}
        self._said: dict[str, dict[str, str]] = {}  # meanings by key, by group; those of commands are below ""
        for name in sorted(self._paths, key=lambda name: name.count("/"), reverse=True):
            group = "" if name.startswith("base/") or "/" not in name else name.partition("/")[0]
            self._said[group] = _said(self._read(name)) | self._said.get(group, {})

    @property
    def names(self) -> list[str]:
        """Options with their folder, e.g. ``balance/weights/grid``; commands have none."""
        return sorted(self._paths)

    def path(self, name: str) -> Path:
        """Returns the file of an option."""
        return self._paths[name]

    def _read(self, name: str, package: str | None = None) -> Option:
        return read_option(self._paths[name], ".".join(name.split("/")[:-1]) if package is None else package)

    def option(self, name: str) -> Option:
        """Returns an option whose keys have the meanings of the files that it extends, and of other groups."""
        option = self._read(name)
        said = self._extended(name)
        meanings = (key.comment or _look_up(said, key.name) or self._elsewhere(name, key) for key in option.keys)
        return replace(
            option, keys=tuple(replace(key, comment=each) for key, each in zip(option.keys, meanings, strict=True))
        )

    def _elsewhere(self, name: str, key: Key) -> str:
        """Returns what the group of a key, or else a command, says about a key that is set in another group."""
        group, own = key.name.partition(".")[0], name.partition("/")[0]
        places = [place for place in (group, "") if place != own or own == "base"]
        return next((said for place in places if (said := _look_up(self._said.get(place, {}), key.name))), "")

    def _extended(self, name: str, package: str | None = None) -> dict[str, str]:
        """Returns the meanings that an option takes over from the files in its defaults list, by key."""
        found: dict[str, str] = {}
        for extended, inner in self._files(name, package):
            found |= self._extended(extended, inner)
            found |= _said(self._read(extended, inner))
        return found

    def _files(self, name: str, package: str | None) -> Iterator[tuple[str, str | None]]:
        """Yields the files in an option's defaults list, and where they are placed; None: by their folder."""
        folder = name.rpartition("/")[0]
        own = folder.replace("/", ".") if package is None else package
        if self._paths[name].read_text().startswith(GLOBAL):
            own = ""
        for entry in self._read(name, package).extends:
            file, _, chosen = entry.partition("=")
            file, _, place = file.partition("@")
            path = "/".join(filter(None, (file, chosen)))
            path = path[1:] if path.startswith("/") else "/".join(filter(None, (folder, path)))
            if path in self._paths:
                inner = ".".join(filter(None, (own, place.removeprefix("_here_"))))
                yield path, inner if place or not (chosen or file.startswith("/")) else None


def _said(option: Option) -> dict[str, str]:
    """Returns the meanings of values by key; comments of mappings in block style say nothing about single values."""
    return {key.name: key.comment for key in option.keys if key.comment and key.default}


def _look_up(said: dict[str, str], name: str) -> str:
    """Returns the meaning of a key, or else of the value in one line that it is a part of."""
    while name and name not in said:
        name = name.rpartition(".")[0]
    return said.get(name, "")


def groups(reader: Reader) -> dict[str, list[tuple[str, Option]]]:
    """Returns the options of each group, with the folder of each, e.g. ``balance/weights``."""
    found: dict[str, list[tuple[str, Option]]] = {}
    for name in reader.names:
        folder = name.rpartition("/")[0]
        if folder:
            found.setdefault(folder.partition("/")[0], []).append((folder, reader.option(name)))
    return found


def purposes(guide: str) -> dict[str, str]:
    """Returns what each group replaces, from the table of the guide to the configuration."""
    return dict(re.findall(r"^\| \[?`(\w+)`(?:\]\([^)]*\))? \| ([^|]+?) \|$", guide, re.MULTILINE))


def guides(docs: Path) -> dict[str, str]:
    """Returns the page with explanations and commands of each group that has such a section."""
    pages = sorted(docs.glob("configuration*.md"))
    return {group: page.name for page in pages for group in re.findall(r"^## (\w+)$", page.read_text(), re.MULTILINE)}


def pages(reader: Reader, docs: Path) -> Iterator[tuple[str, str]]:
    """Yields ``(file name, Markdown)`` of the overview and of a page for each group.

    Args:
        reader: of the configs.
        docs: folder of the guides, in which a table of configuration.md says what each group replaces.
    """
    purpose, found, guide = purposes((docs / "configuration.md").read_text()), groups(reader), guides(docs)
    yield "index.md", "".join(_overview(reader, found, purpose))
    chosen = defaults(reader)
    for group, options in found.items():
        yield f"{group}.md", "".join(_page(group, options, purpose.get(group, ""), guide.get(group, ""), chosen))


def defaults(reader: Reader) -> dict[str, dict[str, list[str]]]:
    """Returns the options that commands choose by default: commands by option, by group or folder of one."""
    found: dict[str, dict[str, list[str]]] = {}
    for command in (name for name in reader.names if "/" not in name):
        chosen: dict[str, str] = {}
        waiting = [command]
        while waiting:
            for entry in reader.option(waiting.pop()).extends:
                group, _, option = entry.removeprefix("/").partition("=")
                if option and " " not in group and "@" not in group:
                    chosen[group] = option
                elif group in reader.names:
                    waiting.append(group)
        for group, option in chosen.items():
            found.setdefault(group, {}).setdefault(option, []).append(command)
    return found


def _overview(reader: Reader, found: dict[str, list[tuple[str, Option]]], purpose: dict[str, str]) -> Iterator[str]:
    yield "# Configuration reference\n\nWritten from the files under `conf/` and their comments. "
    yield f"[Configuration]({GUIDE}) explains how options and values are chosen.\n\n## Groups\n\n"
    yield "| group | what it replaces | options |\n| --- | --- | --- |\n"
    for group, options in found.items():
        names = ", ".join(
            f"[`{_selects(folder, option)}`]({group}.md#{_anchor(folder, option)})" for folder, option in options
        )
        yield f"| [`{group}`]({group}.md) | {purpose.get(group, '')} | {names} |\n"
    yield "\n## Commands\n\n"
    for name in reader.names:
        if "/" not in name:
            option = reader.option(name)
            shared = [key for each in option.extends if each in reader.names for key in reader.option(each).keys]
            yield f"### `pmg-{name}` {{#pmg-{name}}}\n\n{_prose(option.comment)}\n\n"
            yield f"Composed of {_listed(option.extends)}.\n\n{_table((*option.keys, *shared))}"


def _page(
    group: str, options: list[tuple[str, Option]], purpose: str, guide: str, chosen: dict[str, dict[str, list[str]]]
) -> Iterator[str]:
    yield f"# Config group `{group}`\n\n"
    if purpose:
        yield f"{purpose[0].upper()}{purpose[1:]}.\n\n"
    if guide:
        yield f"Explanations and commands: [Configuration](../../{guide}#{group}).\n\n"
    yield "| option | what it is |\n| --- | --- |\n"
    for folder, option in options:
        text = LICENCE.sub("", option.comment)
        yield f"| [`{_chosen(group, folder, option)}`](#{_anchor(folder, option)}) | {_prose(text)} |\n"
    yield "\n"
    for folder in dict.fromkeys(folder for folder, _ in options):
        for name, commands in chosen.get(folder, {}).items():
            yield f"`{folder}={name}` is the default of {_listed(tuple(f'pmg-{each}' for each in commands))}.\n\n"
    for folder, option in options:
        yield f"## `{_chosen(group, folder, option)}` {{#{_anchor(folder, option)}}}\n\n{_prose(option.comment)}\n\n"
        if option.target:
            yield f"Builds {_link(option.target)}.\n\n"
        if option.extends:
            yield (
                f"Composed of {_listed(option.extends)}, with these values:\n\n"
                if option.keys
                else (f"Composed of {_listed(option.extends)}.\n\n")
            )
        yield _table(option.keys)


def _chosen(group: str, folder: str, option: Option) -> str:
    """Returns an option as the command line selects it; those of `base` are selected by other options alone."""
    return option.name if group == "base" else f"{folder}={option.name}"


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
