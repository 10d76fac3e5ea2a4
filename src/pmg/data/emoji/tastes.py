"""Tastes: which styles fit a user, and whether words can say why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["describable", "indescribable"]


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
    """Everything the generator's captions can say about a set, without its name."""
    return ", ".join(facts[name] for name in ("colour", "outline", "shading", "artist_style"))


def build_tastes(tastes: Mapping[str, Mapping], styles: Mapping[str, Mapping[str, str]]) -> list[Taste]:
    """Returns the configured tastes; one without words of its own gets the full caption of its first style."""
    return [
        Taste(
            name,
            spec["kind"],
            tuple(spec["styles"]),
            spec.get("words") or style_words(styles[spec["styles"][0]]),
        )
        for name, spec in tastes.items()
    ]


def check_tastes(tastes: Sequence[Taste], styles: Sequence[str]) -> None:
    """Checks that tastes name styles of the catalogue.

    Raises:
        ValueError: an unknown style or an empty taste.
    """
    for taste in tastes:
        unknown = set(taste.styles) - set(styles)
        if unknown or not taste.styles:
            raise ValueError(f"taste '{taste.name}' names unknown styles {sorted(unknown)}; known: {list(styles)}")
