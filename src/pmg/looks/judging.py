"""Measures pictures against the targets of the embedded world."""

from __future__ import annotations

import torch
from torch import Tensor

from pmg.cache import Cache, hash_tensor
from pmg.domain import PmgError
from pmg.looks.choices import CANDIDATES, LookChoice
from pmg.looks.drawings import REFERENCES, LookData, has_colours
from pmg.looks.finish_targets import SIZE, finish_errors, finish_values
from pmg.looks.models.judge import LookJudge, pick_looks
from pmg.looks.targets import LookTarget, candidate_pictures

AT_ONCE = 50  # pictures in one pass of the judge


class StyleReader:
    """Reads the style of pictures, and keeps what it read.

    Args:
        judge: of looks.
        cache: of style vectors, by the pictures' pixels and the judge's weights; None: nothing is kept.
    """

    def __init__(self, judge: LookJudge, cache: Cache | None = None) -> None:
        self.judge, self.cache = judge.eval(), cache
        self.identity = "" if cache is None else _identity(judge)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Returns style vectors `(B, E)` of pictures `(B, 3, H, W)` in [-1, 1]."""
        if self.cache is None:
            return self._read(pictures)
        key = Cache.key(kind="style", judge=self.identity, pictures=hash_tensor(pictures))
        return self.cache.fetch(key, lambda: {"style": self._read(pictures)})["style"]

    @torch.no_grad()
    def _read(self, pictures: Tensor) -> Tensor:
        return self.judge(pictures).style


def _identity(judge: LookJudge) -> str:
    """Returns a sha256 of a model's config and weights."""
    weights = {name: hash_tensor(tensor) for name, tensor in judge.state_dict().items()}
    return Cache.key(config=judge.config.to_json_string(), weights=weights)


class LookJudging:
    """Style among ten, concept and finish error, for pictures of the same targets.

    Args:
        data: drawings and the space of finishes.
        read_style: of the drawings that show candidate looks; its judge reads the pictures, too.
        targets: of the pictures.
        spread: of the finishes of the drawings that show a candidate look.

    Raises:
        PmgError: the judge reads other parameters than finishes have.
    """

    def __init__(
        self, data: LookData, read_style: StyleReader, targets: list[LookTarget], spread: float = 0.02
    ) -> None:
        self.judge = read_style.judge
        if self.judge.config.values != SIZE:
            raise PmgError(
                f"the judge reads {self.judge.config.values} values of a finish, and a finish has {SIZE}. Train one: "
                "pmg-pretrain stage=look_judge stage.start=null"
            )
        concepts = {name: place for place, name in enumerate(self.judge.config.concepts)}
        self.concept = torch.tensor([concepts[data.drawings.items[one.row].concept] for one in targets])
        has_colour = has_colours(data.drawings.pixels[torch.tensor([target.row for target in targets])]).tolist()
        self.values, self.traces = finish_values([target.finish for target in targets], has_colour)
        choice = LookChoice(data, spread)
        shown = [read_style(candidate_pictures(choice, target)).view(CANDIDATES, REFERENCES, -1) for target in targets]
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
