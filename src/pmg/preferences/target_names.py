"""Which of the things that a generator was trained to draw a target means: "car" means "automobile"."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from pmg.domain import Item
from pmg.models.diffusion.interfaces import Generator, PromptEncoder
from pmg.models.loading.device import processor_autocast
from pmg.preferences.keywords import Budget
from pmg.preferences.stated import embed_texts

log = logging.getLogger(__name__)

SHOWN = 3  # targets that a warning names
COMPARED = 3  # names of a title that others are compared with; more take longer than they help


class TargetNames:
    """Titles of what a generator was trained to draw, by the names that people have for it.

    `names` are other names by title; a target that is none of them is compared with all by vectors of `text_encoder`.
    """

    @classmethod
    def of(cls, generator: Generator) -> Self | None:
        """Returns the names of what a generator was trained to draw; None: it isn't limited to certain titles."""
        return cls(generator.supports.names, generator.text_encoder) if generator.supports.names else None

    def __init__(self, names: Mapping[str, Sequence[str]], text_encoder: PromptEncoder) -> None:
        self.names, self.text_encoder = names, text_encoder
        self._told: set[str] = set()
        others = {name.casefold(): title for title, some in names.items() for name in some}
        self.known = others | {title.casefold(): title for title in names}

    def nearest(self, target: str, count: int = 3) -> list[str]:
        """Returns titles that a target may mean: the one of that name, then those of the nearest names in meaning."""
        own = self.known.get(target.strip().casefold())
        return list(dict.fromkeys([*filter(None, [own]), *self._nearest([target], count)[0]]))[:count]

    def resolve(self, items: Sequence[Item]) -> list[Item]:
        """Returns targets under the titles that they are drawn by; a warning names those that are guessed, once."""
        known = [self.known.get(item.title.strip().casefold()) for item in items]
        unknown = list(dict.fromkeys(item.title for item, title in zip(items, known, strict=True) if title is None))
        guessed = dict(zip(unknown, self._nearest(unknown, 3), strict=True)) if unknown else {}
        new = {one: titles for one, titles in guessed.items() if one not in self._told}
        self._told |= set(new)
        if new:
            some = [f"'{one}' is drawn as '{own}' (else: {', '.join(more)})" for one, (own, *more) in new.items()]
            log.warning(
                "the generator was trained to draw %d things; targets that are none of them: %d, e.g. %s",
                len(self.names), len(new), "; ".join(some[:SHOWN]),
            )  # fmt: skip
        return [replace(item, title=title or guessed[item.title][0]) for item, title in zip(items, known, strict=True)]

    def _nearest(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """Returns the titles of the nearest names in meaning, of each text `count` of them."""
        titles, cosines = [*self.names], self._embed(texts) @ self._vectors.T
        return [[titles[place] for place in row] for row in cosines.topk(min(count, len(titles))).indices.tolist()]

    @cached_property
    def _vectors(self) -> Tensor:
        """Of each title the mean vector of it and its first names, `(N, D)`: products are mean cosines."""
        texts = [[title, *names[:COMPARED]] for title, names in self.names.items()]
        vectors = self._embed([name for some in texts for name in some])
        return torch.stack([part.mean(0) for part in vectors.split([len(some) for some in texts])])

    @torch.no_grad()
    @processor_autocast()
    def _embed(self, texts: Sequence[str]) -> Tensor:
        """Returns unit vectors of texts, cut to what can be read, `(N, D)`."""
        return embed_texts(self.text_encoder, [*map(Budget.of(self.text_encoder).cut, texts)]).cpu()
