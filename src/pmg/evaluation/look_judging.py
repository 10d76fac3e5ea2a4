"""Measures pictures against the questions of the embedded world."""

from __future__ import annotations

import torch
from rich.progress import track
from torch import Tensor

from pmg.data.emoji.drawings import LookData
from pmg.data.emoji.finish_targets import finish_errors, finish_values
from pmg.data.emoji.look_choice import CANDIDATES, REFERENCES, LookChoice
from pmg.data.emoji.look_questions import LookQuestion, candidate_pictures, true_pictures
from pmg.models.vision.look_judge import LookJudge, pick_looks
from pmg.models.vision.perceptual import PerceptualDistance

AT_ONCE = 50  # pictures in one pass of the judge
METRICS = ("style_accuracy", "concept_accuracy", "lpips_truth", "finish_error")


class LookJudging:
    """Style among ten, concept, finish error and LPIPS to the truth, for pictures of the same questions.

    Args:
        data: drawings and the space of finishes.
        judge: of looks.
        perceptual: LPIPS.
        questions: what was asked.
        coloured: which drawings have colours, bool `(N,)`.
        spread: of the finishes of the drawings that show a candidate look.
    """

    def __init__(
        self, data: LookData, judge: LookJudge, perceptual: PerceptualDistance, questions: list[LookQuestion],
        coloured: Tensor, spread: float = 0.02,
    ) -> None:  # fmt: skip
        self.judge, self.perceptual = judge.eval(), perceptual
        self.truth = true_pictures(data, questions)
        concepts = {name: place for place, name in enumerate(judge.config.concepts)}
        self.concept = torch.tensor([concepts[data.drawings.items[q.row].concept] for q in questions])
        has_colour = [bool(coloured[question.row]) for question in questions]
        self.values, self.traces = finish_values([question.finish for question in questions], has_colour)
        choice = LookChoice(data, spread)
        with torch.no_grad():
            shown = [
                judge(candidate_pictures(choice, question)).style.view(CANDIDATES, REFERENCES, -1)
                for question in track(questions, description="Reading candidates")
            ]
        self.references = torch.stack(shown)

    @torch.no_grad()
    def measure(self, pictures: Tensor) -> dict[str, Tensor]:
        """Returns each metric's value a picture, `(B,)`, for pictures `(B, 3, H, W)` in the order of the questions."""
        readings = [self.judge(part) for part in pictures.split(AT_ONCE)]
        style, finish, concept = (
            torch.cat([getattr(reading, name) for reading in readings]) for name in ("style", "finish", "concept")
        )
        pairs = zip(pictures.split(AT_ONCE), self.truth.split(AT_ONCE), strict=True)
        return {
            "style_accuracy": (pick_looks(style, self.references) == 0).float(),
            "concept_accuracy": (concept.argmax(1) == self.concept).float(),
            "lpips_truth": torch.cat([self.perceptual(a, b) for a, b in pairs]),
            "finish_error": finish_errors(finish, self.values, self.traces),
        }
