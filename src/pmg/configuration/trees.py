"""Walks over trees of mappings, lists and values: configs in built-in types, and parsed JSON.

Keys are dotted, with the places of lists: ``callbacks.best.monitor``, ``data.items.0``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


def children(node: Any) -> Iterable[tuple[Any, Any]]:
    """Returns (key, child) for each child of a mapping, (place, child) for each of a list, nothing for a value."""
    if isinstance(node, Mapping):
        return node.items()
    return enumerate(node) if isinstance(node, list) else ()


def nodes(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, node) for the root and everything below it, parents first."""
    yield prefix, node
    for name, child in children(node):
        yield from nodes(child, f"{prefix}.{name}" if prefix else str(name))


def mappings(node: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yields (dotted key, mapping) for each mapping of the tree, in lists too, parents first."""
    return ((key, part) for key, part in nodes(node, prefix) if isinstance(part, Mapping))


def texts(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields (dotted key, text) for each text of the tree, in lists too."""
    return ((key, part) for key, part in nodes(node, prefix) if isinstance(part, str))


def targets(node: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields (dotted key, mapping) for each mapping with a ``_target_``, in lists too."""
    return ((key, part) for key, part in mappings(node, prefix) if "_target_" in part)


def leaves(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) for each value that isn't a mapping; a list is one value."""
    for name, value in node.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping):
            yield from leaves(value, key)
        else:
            yield key, value


def replace_values(node: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """Returns a copy with other values, changed by the key of the innermost mapping around each, and the value."""
    if isinstance(node, Mapping):
        return {key: replace_values(value, change, str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [replace_values(value, change, name) for value in node]
    return change(name, node)


def replace_texts(node: Any, change: Callable[[str], str]) -> Any:
    """Returns a copy of the tree with other texts; other values remain."""
    return replace_values(node, lambda _, value: change(value) if isinstance(value, str) else value)


def is_below(key: str, group: str) -> bool:
    """Returns whether a dotted key is that of a group, or of a part of it."""
    return f"{key}.".startswith(f"{group}.")
