"""Tastes: which styles fit a user, and whether words can say why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pmg.configuration.instantiate import nearest
from pmg.domain import PmgError

Kind = Literal["describable", "indescribable"]
FACTS = ("colour", "outline", "shading", "artist_style")  # of a style, in the order of its caption


@dataclass(frozen=True)
class Taste:
    """What a simulated user likes.

    Attributes:
        name: key in the configuration.
        kind: ``describable`` (an attribute that words name and several sets share) or
            ``indescribable`` (one artist's style).
        styles: the sets that fit.
        words: the taste in words of the generator's captions; the method `oracle` uses them.
    """

    name: str
    kind: Kind
    styles: tuple[str, ...]
    words: str


def style_words(facts: Mapping[str, str]) -> str:
    """Returns all that the generator's captions say about a style, without its name."""
    return ", ".join(facts[name] for name in FACTS)


def build_tastes(tastes: Mapping[str, Mapping[str, Any]], styles: Mapping[str, Mapping[str, str]]) -> list[Taste]:
    """Returns the configured tastes; one without words of its own gets the full caption of its first style.

    Args:
        tastes: ``kind``, ``styles`` and perhaps ``words`` of each taste, by its name.
        styles: facts about each style, by its name.

    Raises:
        PmgError: a style lacks a fact; a taste has no style, an unknown one, or another kind.
    """
    for name, facts in styles.items():
        missing = [fact for fact in FACTS if fact not in facts]
        if missing:
            raise PmgError(f"data.styles.{name} has no '{missing[0]}': give each style {', '.join(FACTS)}")
    return [_build_taste(name, spec, styles) for name, spec in tastes.items()]


def _build_taste(name: str, spec: Mapping[str, Any], styles: Mapping[str, Mapping[str, str]]) -> Taste:
    key, fitting = f"data.tastes.{name}", tuple(spec.get("styles") or ())
    kind: Any = spec.get("kind")
    if kind not in get_args(Kind):
        raise PmgError(f"{key}.kind: '{kind}'. Use {' or '.join(get_args(Kind))}")
    if not fitting:
        raise PmgError(f"{key}.styles is empty. Name at least one of data.styles")
    unknown = [style for style in fitting if style not in styles]
    if unknown:
        raise PmgError(f"{key}.styles: data.styles has no '{unknown[0]}'{nearest(unknown[0], styles)}")
    return Taste(name, kind, fitting, spec.get("words") or style_words(styles[fitting[0]]))
