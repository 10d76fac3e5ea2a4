"""Measures pictures against the targets of the embedded world."""

from __future__ import annotations

from hashlib import sha256

import torch
from torch import Tensor

from pmg.cache import Cache
from pmg.data.emoji.drawings import REFERENCES, LookData, has_colours
from pmg.data.emoji.finish_targets import finish_errors, finish_values
from pmg.data.emoji.look_choice import CANDIDATES, LookChoice
from pmg.data.emoji.look_targets import LookTarget, candidate_pictures
from pmg.models.vision.look_judge import LookJudge, pick_looks

AT_ONCE = 50  # pictures in one pass of the judge


class StyleReader:
    """Reads the style of pictures, and keeps what it read.

    Args:
        judge: of looks.
        cache: of style vectors, by the pictures' pixels and the judge's weights; None: nothing is kept.
    """

    def __init__(self, judge: LookJudge, cache: Cache | None) -> None:
        self.judge, self.cache = judge, cache
        self.identity = "" if cache is None else _identity(judge)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Returns style vectors `(B, E)` of pictures `(B, 3, H, W)` in [-1, 1]."""
        if self.cache is None:
            return self._read(pictures)
        pixels = sha256(pictures.cpu().numpy().tobytes()).hexdigest()
        key = Cache.key(kind="style", judge=self.identity, pictures=pixels)
        return self.cache.fetch(key, lambda: {"style": self._read(pictures)})["style"]

    @torch.no_grad()
    def _read(self, pictures: Tensor) -> Tensor:
        return self.judge(pictures).style


def _identity(judge: LookJudge) -> str:
    """Returns a sha256 of a model's config and weights."""
    found = sha256(judge.config.to_json_string().encode())
    for name, weights in judge.state_dict().items():
        found.update(name.encode() + weights.cpu().numpy().tobytes())
    return found.hexdigest()


class LookJudging:
    """Style among ten, concept and finish error, for pictures of the same targets.

    Args:
        data: drawings and the space of finishes.
        judge: of looks.
        targets: of the pictures.
        spread: of the finishes of the drawings that show a candidate look.
        cache: of what the judge read of these drawings, which is most of the work; None: they are read again.
    """

    def __init__(
        self,
        data: LookData,
        judge: LookJudge,
        targets: list[LookTarget],
        spread: float = 0.02,
        cache: Cache | None = None,
    ) -> None:
        self.judge = judge.eval()
        concepts = {name: place for place, name in enumerate(judge.config.concepts)}
        self.concept = torch.tensor([concepts[data.drawings.items[one.row].concept] for one in targets])
        has_colour = has_colours(data.drawings.pixels[torch.tensor([target.row for target in targets])]).tolist()
        self.values, self.traces = finish_values([target.finish for target in targets], has_colour)
        choice, read = LookChoice(data, spread), StyleReader(self.judge, cache)
        shown = [read(candidate_pictures(choice, target)).view(CANDIDATES, REFERENCES, -1) for target in targets]
        self.references = torch.stack(shown)

    @torch.no_grad()
    def measure(self, pictures: Tensor) -> dict[str, Tensor]:
        """Returns each metric's value a picture, `(B,)`, for pictures `(B, 3, H, W)` in the order of the targets."""
        readings = [self.judge(part) for part in pictures.split(AT_ONCE)]
        style, finish, concept = (
            torch.cat([getattr(reading, name) for reading in readings]) for name in ("style", "finish", "concept")
        )
        return {
            "style_accuracy": (pick_looks(style, self.references) == 0).float(),
            "concept_accuracy": (concept.argmax(1) == self.concept).float(),
            "finish_error": finish_errors(finish, self.values, self.traces),
        }
