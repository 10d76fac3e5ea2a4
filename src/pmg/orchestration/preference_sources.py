"""Builds the preference sources (keywords, soft tokens) that the configured methods use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pmg.cache import Cache
from pmg.configuration.identity import used_sources
from pmg.configuration.instantiate import check_targets, instantiate, nearest, to_plain
from pmg.configuration.trees import leaves
from pmg.domain import Example, PmgError
from pmg.runs.content import select_content

if TYPE_CHECKING:
    from pmg.generation.requests import Method
    from pmg.preferences.sources import PreferenceSource


def build_methods(method: Any, mismatched: bool) -> dict[str, Method]:
    """Returns the configured methods by name, but null ones; a node without ``_target_`` is a `Method`.

    Without `mismatched`, no method has a mismatched control. PmgError if a method has an unknown argument.
    """
    given = {name: node for name, node in to_plain(method).items() if node}
    for name, node in given.items():
        if not isinstance(node, Mapping):
            example = f"method.{name}={{keywords: keywords}}"
            raise PmgError(f"method.{name} is {node!r}; a method is a mapping, e.g. {example}")
    nodes = {name: {"_target_": "pmg.generation.requests.Method", **node} for name, node in given.items()}
    check_targets({"method": nodes})
    methods = {name: instantiate(node) for name, node in nodes.items()}
    return methods if mismatched else {name: replace(one, mismatch=False) for name, one in methods.items()}


def build_sources(preference: Any, methods: Mapping[str, Method]) -> dict[str, PreferenceSource]:
    """Returns the sources that methods use, built of the config's nodes; nothing is loaded. See `choose_sources`."""
    from pmg.generation.user_reading import choose_sources

    nodes = {name: node for name, node in (preference or {}).items() if node}
    return choose_sources(methods, nodes, instantiate, ", or add it: +preference.NAME={_target_: …}")


def runs_in_use(plain: Mapping[str, Any]) -> dict[str, str]:
    """Returns the folders of the training runs that used sources name, each with the first source that names it."""
    nodes, used = plain.get("preference") or {}, used_sources(dict(leaves(plain)))
    found: dict[str, str] = {}
    for name, node in nodes.items():
        if name in used and node and node.get("run"):
            found.setdefault(node["run"], name)
    return found


def check_sources(config: Mapping[str, Any], sources: Mapping[str, PreferenceSource]) -> None:
    """Checks by `PreferenceSource.check`, before data are loaded, that sources fit a config, see `mask_folders`."""
    values = dict(leaves(config))
    for name, source in sources.items():
        source.check(f"preference.{name}", values)


def check_labels(sources: Mapping[str, PreferenceSource], examples: Iterable[Example]) -> None:
    """Checks that all examples have the labels that sources need, else PmgError names source and label."""
    common = set.intersection(*(set(example.labels) for example in examples))
    for name, source in sources.items():
        for label in source.requires.labels:
            if label not in common:
                raise PmgError(
                    f"preference.{name} needs the label '{label}', which examples of this data set don't have"
                    f"{nearest(label, common)}. Leave out the methods that use it, e.g. method=real or ~method.oracle"
                )


def hash_sources(
    nodes: Mapping[str, Any], sources: Mapping[str, PreferenceSource], content: Mapping[str, str]
) -> dict[str, str]:  # fmt: skip
    """Returns a hash of what decides each source's result: its node's arguments, its identity, digests of files."""
    arguments = {name: {key: value for key, value in nodes[name].items() if key != "run"} for name in sources}
    digests = {name: select_content(content, f"preference.{name}") for name in sources}
    return {
        name: Cache.key(config=arguments[name], identity=source.identity, content=digests[name])
        for name, source in sources.items()
    }
