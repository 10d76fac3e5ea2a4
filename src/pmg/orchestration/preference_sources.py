"""Builds the preference sources (keywords, soft tokens) that the configured methods use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from pmg.cache import Cache
from pmg.configuration.identity import KINDS, used_sources
from pmg.configuration.instantiate import check_targets, instantiate, nearest, to_plain
from pmg.configuration.trees import leaves
from pmg.domain import Example, PmgError
from pmg.runs.content import select_content

if TYPE_CHECKING:
    from pmg.generation.requests import Method, Preference
    from pmg.preferences.sources import PreferenceSource, Requirements, SourceContext
    from pmg.runs.ledger import Ledger


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
    """Returns the sources that methods use, built of the config's nodes, by name; nothing is loaded.

    PmgError if there is no such source, or it gives soft tokens where keywords are needed, or the reverse.
    """
    nodes = {name: node for name, node in (preference or {}).items() if node}
    built: dict[str, PreferenceSource] = {}
    for method, (argument, kind) in product(methods, KINDS.items()):
        key, name = f"method.{method}.{argument}", getattr(methods[method], argument)
        if not name:
            continue
        if name not in nodes:
            raise PmgError(
                f"{key}: no preference source '{name}'{nearest(name, nodes)} (known: {', '.join(nodes)}). Name "
                f"one of them, or add it: +preference.{name}={{_target_: …}}"
            )
        source = built[name] = built.get(name) or instantiate(nodes[name])
        if source.kind != kind:
            raise PmgError(f"{key}: the preference source '{name}' gives {source.kind}. Name one that gives {kind}")
    return built


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


def gather_requirements(sources: Mapping[str, PreferenceSource]) -> Requirements:
    """Returns what all sources need together."""
    from pmg.preferences.sources import Requirements

    needed = [source.requires for source in sources.values()]
    return Requirements(
        tuple(label for one in needed for label in one.labels),
        tuple(decoding for one in needed for decoding in one.decodings),
        tuple(decoding for one in needed for decoding in one.dislikes),
        any(one.contexts for one in needed),
    )


def build_preferences(
    sources: Mapping[str, PreferenceSource], context: SourceContext, ledger: Ledger
) -> dict[str, Preference]:
    """Returns each profile's preference; PmgError if a source, called once for all, gives too few or too many rows."""
    from pmg.generation.requests import Preference

    made: dict[str, Any] = {}
    count = len(context.examples)
    for name, source in sources.items():
        labels = source.requires.labels
        hidden = [  # without true images, and with those labels alone that the source requires
            replace(one, truth=(), labels={label: one.labels[label] for label in labels}) for one in context.examples
        ]
        with ledger.phase(f"preference {name}"):
            rows = made[name] = source(replace(context, examples=hidden))
        if len(rows) != count:
            raise PmgError(f"preference.{name} gave {len(rows)} rows for {count} profiles. Return one for each")
    return {
        one.profile: Preference(one.user, {name: rows[place] for name, rows in made.items()}, len(one.history))
        for place, one in enumerate(context.examples)
    }
