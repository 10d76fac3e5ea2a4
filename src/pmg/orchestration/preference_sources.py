"""Builds the preference sources (keywords, soft tokens) that the configured methods use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pmg.cache import Cache
from pmg.configuration.identity import used_sources
from pmg.configuration.instantiate import check_targets, instantiate, nearest, to_plain
from pmg.configuration.portable import hash_groups, named_folders, portable
from pmg.configuration.trees import leaves
from pmg.domain import Example, PmgError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmg.data.dataset import Dataset
    from pmg.generation.requests import Method, Preference
    from pmg.models.diffusion.interfaces import Generator
    from pmg.preferences.extraction import ExtractedPreferences, PreferenceExtractor
    from pmg.preferences.sources import PreferenceSource, Requirements, SourceContext

METHOD = "pmg.generation.requests.Method"


def build_methods(cfg: DictConfig) -> dict[str, Method]:
    """Returns the configured methods by name; a node without ``_target_`` is a `Method`.

    With ``mismatched: false`` none has a mismatched control.

    Raises:
        PmgError: a method has an unknown argument.
    """
    nodes = {name: {"_target_": METHOD, **node} for name, node in to_plain(cfg.method).items() if node}
    check_targets({"method": nodes})
    methods = {name: instantiate(node) for name, node in nodes.items()}
    if cfg.mismatched:
        return methods
    return {name: replace(method, mismatch=False) for name, method in methods.items()}


def build_sources(cfg: DictConfig, methods: Mapping[str, Method]) -> dict[str, PreferenceSource]:
    """Returns the sources that methods use, by name; nothing is loaded.

    Raises:
        PmgError: there is no such source, or it gives soft tokens where keywords are needed, or the reverse.
    """
    nodes = {name: node for name, node in (cfg.preference or {}).items() if node}
    built: dict[str, PreferenceSource] = {}
    for key, name, kind in _references(methods):
        if name not in nodes:
            raise PmgError(
                f"method.{key}: no preference source '{name}'{nearest(name, nodes)} (known: {', '.join(nodes)}). Name "
                f"one of them, or add it: +preference.{name}={{_target_: …}}"
            )
        source = built[name] = built.get(name) or instantiate(nodes[name])
        if source.kind != kind:
            raise PmgError(
                f"method.{key}: the preference source '{name}' gives {source.kind}. Name one that gives {kind}"
            )
    return built


def _references(methods: Mapping[str, Method]) -> Iterator[tuple[str, str, str]]:
    """Yields (key below ``method``, name of a source, the kind that it has to be)."""
    for name, method in methods.items():
        if method.keywords:
            yield f"{name}.keywords", method.keywords, "keywords"
        if method.soft_tokens:
            yield f"{name}.soft_tokens", method.soft_tokens, "soft tokens"
        if method.negative:
            yield f"{name}.negative", method.negative, "keywords"
        if method.references:
            yield f"{name}.references", method.references, "reference images"


def runs_in_use(cfg: DictConfig | Mapping[str, Any]) -> dict[str, str]:
    """Returns the folders of the training runs that used sources name, each with the first source that names it."""
    plain = to_plain(cfg)
    nodes, used = plain.get("preference") or {}, used_sources(dict(leaves(plain)))
    found: dict[str, str] = {}
    for name, node in nodes.items():
        if name in used and node and node.get("run"):
            found.setdefault(node["run"], name)
    return found


def check_sources(cfg: DictConfig, sources: Mapping[str, PreferenceSource]) -> None:
    """Checks, before data and models are loaded, that the sources can be used.

    Raises:
        PmgError: see `PreferenceSource.check`.
    """
    values = dict(leaves(portable(cfg)))
    for name, source in sources.items():
        source.check(f"preference.{name}", values)


def check_labels(sources: Mapping[str, PreferenceSource], examples: Iterable[Example]) -> None:
    """Checks that all examples have the labels that sources need.

    Raises:
        PmgError: names the source and the label.
    """
    common = set.intersection(*(set(example.labels) for example in examples))
    for name, source in sources.items():
        for label in source.requires.labels:
            if label not in common:
                raise PmgError(
                    f"preference.{name} needs the label '{label}', which examples of this data set don't have"
                    f"{nearest(label, common)}. Leave out the methods that use it, e.g. method=real or ~method.oracle"
                )


def hash_sources(cfg: DictConfig, sources: Mapping[str, PreferenceSource]) -> dict[str, str]:
    """Returns a hash of what decides each source's result: its arguments, and its own identity, but no folder."""
    nodes = portable(cfg)["preference"]
    arguments = {name: {key: value for key, value in nodes[name].items() if key != "run"} for name in sources}
    return {name: Cache.key(config=arguments[name], identity=source.identity) for name, source in sources.items()}


def gather_requirements(sources: Mapping[str, PreferenceSource]) -> Requirements:
    """Returns what all sources need together."""
    from pmg.preferences.sources import Requirements

    needed = [source.requires for source in sources.values()]
    return Requirements(
        tuple(label for one in needed for label in one.labels),
        tuple(decoding for one in needed for decoding in one.decodings),
        tuple(decoding for one in needed for decoding in one.dislikes),
    )


def build_context(
    cfg: DictConfig, data: Dataset, examples: Sequence[Example], captions: Mapping[str, str], *,
    extractor: PreferenceExtractor, extracted: ExtractedPreferences, generator: Generator,
) -> SourceContext:  # fmt: skip
    """Returns what the sources get.

    Args:
        cfg: of the command.
        data: holds the items' images.
        examples: of all users; the first of each profile is taken.
        captions: of the items in their histories, by id.
        extractor: with the language model.
        extracted: of all profiles.
        generator: the frozen generator.
    """
    from pmg.preferences.sources import SourceContext

    first = {example.profile: example for example in reversed(examples)}
    return SourceContext(
        examples=[first[profile] for profile in extracted.profiles],
        images=data.images,
        captions=captions,
        extracted=extracted,
        extractor=extractor,
        generator=generator,
        cache=Cache(f"{cfg.paths.cache_dir}/preference"),
        identity=Cache.key(config=hash_groups(cfg, "data", "generator", "text_encoder", "seed"), data=data.identity),
        seed=cfg.seed or 0,
        folders=named_folders(cfg.paths),
    )


def build_preferences(sources: Mapping[str, PreferenceSource], context: SourceContext) -> dict[str, Preference]:
    """Calls each source once; returns the preference of each profile.

    Raises:
        PmgError: a source gives another number of rows than there are profiles.
    """
    from pmg.generation.requests import Preference

    made: dict[str, Any] = {}
    for name, source in sources.items():
        rows = made[name] = source(context)
        if len(rows) != len(context.examples):
            raise PmgError(
                f"preference.{name} gave {len(rows)} rows for {len(context.examples)} profiles. Return one each, "
                "in the order of context.examples"
            )
    words, tokens, images = (
        {name: rows for name, rows in made.items() if sources[name].kind == kind}
        for kind in ("keywords", "soft tokens", "reference images")
    )
    return {
        example.profile: Preference(
            example.user,
            {name: rows[row] for name, rows in words.items()},
            {name: rows[row] for name, rows in tokens.items()},
            len(example.history),
            {name: rows[row] for name, rows in images.items()},
        )
        for row, example in enumerate(context.examples)
    }
