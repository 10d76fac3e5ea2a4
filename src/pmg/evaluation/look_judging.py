"""Measures pictures against the targets of the embedded world."""

from __future__ import annotations

import torch
from torch import Tensor

from pmg.data.emoji.drawings import REFERENCES, LookData, has_colours
from pmg.data.emoji.finish_targets import finish_errors, finish_values
from pmg.data.emoji.look_choice import CANDIDATES, LookChoice
from pmg.data.emoji.look_targets import LookTarget, candidate_pictures
from pmg.models.vision.look_judge import LookJudge, pick_looks

AT_ONCE = 50  # pictures in one pass of the judge


class LookJudging:
    """Style among ten, concept and finish error, for pictures of the same targets.

    Args:
        data: drawings and the space of finishes.
        judge: of looks.
        targets: of the pictures.
        spread: of the finishes of the drawings that show a candidate look.
    """

    def __init__(self, data: LookData, judge: LookJudge, targets: list[LookTarget], spread: float = 0.02) -> None:
        self.judge = judge.eval()
        concepts = {name: place for place, name in enumerate(judge.config.concepts)}
        self.concept = torch.tensor([concepts[data.drawings.items[one.row].concept] for one in targets])
        has_colour = has_colours(data.drawings.pixels[torch.tensor([target.row for target in targets])]).tolist()
        self.values, self.traces = finish_values([target.finish for target in targets], has_colour)
        choice = LookChoice(data, spread)
        with torch.no_grad():
            shown = [
                judge(candidate_pictures(choice, target)).style.view(CANDIDATES, REFERENCES, -1) for target in targets
            ]
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
