"""Reads users, for commands and the Python API: the preference sources of methods, and what they give of each user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

from pmg.configuration.identity import KINDS
from pmg.configuration.instantiate import nearest
from pmg.domain import Example, PmgError
from pmg.generation.requests import Method, Preference
from pmg.preferences.captioning import Pixels
from pmg.preferences.extraction import ExtractedPreferences, PreferenceExtractor
from pmg.preferences.sources import PreferenceSource, Requirements, SourceContext

Known = TypeVar("Known")


def choose_sources(
    methods: Mapping[str, Method], known: Mapping[str, Known], build: Callable[[Known], PreferenceSource],
    hint: str = "",
) -> dict[str, PreferenceSource]:  # fmt: skip
    """Returns the sources that methods use, by name, each built once of what is `known` by that name.

    PmgError, ending with `hint`, if there is no such source; also if one gives soft tokens where keywords are needed,
    or the reverse.
    """
    built: dict[str, PreferenceSource] = {}
    for method, (argument, kind) in product(methods, KINDS.items()):
        key, name = f"method.{method}.{argument}", getattr(methods[method], argument)
        if not name:
            continue
        if name not in known:
            listed = f"{nearest(name, known)} (known: {', '.join(known)})"
            raise PmgError(f"{key}: no preference source '{name}'{listed}. Name one of them{hint}")
        source = built[name] = built.get(name) or build(known[name])
        if source.kind != kind:
            raise PmgError(f"{key}: the preference source '{name}' gives {source.kind}. Name one that gives {kind}")
    return built


def read_users(
    examples: Sequence[Example], captions: Mapping[str, str], extractor: PreferenceExtractor,
    sources: Mapping[str, PreferenceSource],
    make_context: Callable[[Sequence[Example], ExtractedPreferences], SourceContext], *, pixels: Pixels,
    first: Sequence[Example] = (), phase: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Preference]:  # fmt: skip
    """Returns each profile's preference: what sources, called once for all users, give for it.

    PmgError if a source gives too few or too many rows.

    Args:
        examples: of any number of users, with their histories.
        captions: of the items in the histories, by id.
        extractor: of preferences, with its language model.
        sources: by name, see `choose_sources`.
        make_context: returns what sources get, of one example a profile and what was extracted of them.
        pixels: returns the images of items.
        first: examples that are extracted before all others, whose results other processes find in the cache.
        phase: measures the time inside, by name.
    """
    needed = _gather([source.requires for source in sources.values()])
    with phase("read histories"):
        for part in (first, examples) if first else (examples,):
            extracted = extractor.extract(
                part, captions, needed.decodings, needed.dislikes, pixels=pixels, prefill=needed.contexts
            )
    by_profile = {example.profile: example for example in reversed(examples)}
    users = [by_profile[profile] for profile in extracted.profiles]
    context, rows = make_context(users, extracted), dict[str, Any]()
    for name, source in sources.items():
        labels = source.requires.labels
        hidden = [  # without true images, and with those labels alone that the source requires
            replace(one, truth=(), labels={label: one.labels[label] for label in labels}) for one in users
        ]
        with phase(f"preference {name}"):
            rows[name] = source(replace(context, examples=hidden))
        if len(rows[name]) != len(users):
            raise PmgError(
                f"preference.{name} gave {len(rows[name])} rows for {len(users)} profiles. Return one for each"
            )
    return {
        one.profile: Preference(one.user, {name: given[place] for name, given in rows.items()}, len(one.history))
        for place, one in enumerate(users)
    }


def _gather(needed: Sequence[Requirements]) -> Requirements:
    """Returns what all sources need together."""
    return Requirements(
        tuple(label for one in needed for label in one.labels),
        tuple(decoding for one in needed for decoding in one.decodings),
        tuple(decoding for one in needed for decoding in one.dislikes),
        any(one.contexts for one in needed),
    )
