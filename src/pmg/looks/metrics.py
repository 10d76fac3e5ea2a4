"""Style, finish and concept of pictures of looks, by the judge of looks."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pmg.cache import Cache, hash_tensor, open_cache
from pmg.configuration.ranges import NotNegative
from pmg.data.dataset import Dataset
from pmg.domain import Example, PmgError
from pmg.evaluation.metric_interface import Input, MetricInfo, References
from pmg.looks.chat_dataset import LookChatDataset
from pmg.looks.dataset import LookDataset
from pmg.looks.drawings import CANDIDATES, REFERENCES, LookChoice, LookData, LookTarget, has_colours
from pmg.looks.finish_targets import SIZE, finish_errors, finish_values
from pmg.looks.models.judge import LookJudge, pick_looks
from pmg.seeding import stable_number

AT_ONCE = 50  # pictures in one pass of the judge


class StyleReader:
    """Reads the style of pictures, and keeps it in a `cache` by the pictures' pixels and the judge's weights."""

    def __init__(self, judge: LookJudge, cache: Cache | None = None) -> None:
        self.judge, self.cache = judge.eval(), cache
        if cache is not None:
            weights = {name: hash_tensor(tensor) for name, tensor in judge.state_dict().items()}
            self.identity = Cache.key(config=judge.config.to_json_string(), weights=weights)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Returns style vectors `(B, E)` of pictures `(B, 3, H, W)` in [-1, 1]."""
        if self.cache is None:
            return self.judge(pictures).style
        key = Cache.key(kind="style", judge=self.identity, pictures=hash_tensor(pictures))
        return self.cache.fetch(key, lambda: {"style": self.judge(pictures).style})["style"]


class LookJudging:
    """Style among ten, concept and finish error, for pictures of one list of targets.

    PmgError if the judge reads other parameters than finishes have.
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
        drawn = (choice.draw(one.row, one.finish, random.Random(one.seed)) for one in targets)
        self.references = torch.stack([read_style(each).view(CANDIDATES, REFERENCES, -1) for each in drawn])

    @torch.no_grad()
    def measure(self, pictures: Tensor) -> dict[str, Tensor]:
        """Returns each metric's value a picture, `(B,)`, for pictures `(B, 3, H, W)` in the order of the targets."""
        readings = [self.judge(part) for part in pictures.split(AT_ONCE)]
        style, finish, concept = (
            torch.cat([getattr(reading, name) for reading in readings]) for name in ("style", "finish", "concept")
        )
        picked = pick_looks(style, self.references)
        return {
            "picked": picked,  # the candidate look that was chosen, int64; 0: the true one
            "style_accuracy": (picked == 0).float(),
            "concept_accuracy": (concept.argmax(1) == self.concept).float(),
            "finish_error": finish_errors(finish, self.values, self.traces),
        }


class LookAccuracy:
    """Whether the judge picks the user's look among ten and finds the concept; distance of the finish to the look's.

    Users of several looks have several truths: the best value counts. Candidate looks are drawn from those of the
    evaluated `data`; PmgError if it has none. The judge is never the model that selects;
    `spread` is that of the finishes of pictures that show a candidate look. What the judge read of these, which are
    the same for each method, is in `cache_dir`; None: they are read anew. `judge_name` ends the names of a further
    judge's columns.
    """

    outputs: Sequence[MetricInfo] = (
        MetricInfo("style_accuracy", "style accuracy", range=(0.0, 1.0), aspect="preference"),
        MetricInfo("concept_accuracy", "concept accuracy", range=(0.0, 1.0), aspect="accuracy"),
        MetricInfo("finish_error", "finish error", higher_is_better=False, range=(0.0, None)),
    )
    inputs: Collection[Input] = ()

    def __init__(
        self, judge: LookJudge, data: Dataset | None, spread: NotNegative = 0.02, cache_dir: str | None = None,
        judge_name: str = "",
    ) -> None:  # fmt: skip
        looks = data.looks if isinstance(data, LookChatDataset) else data
        if not isinstance(looks, LookDataset):
            raise PmgError(
                "the data set has no looks, which this metric compares. Leave it out, e.g. metrics=distances"
            )
        self.read_style = StyleReader(judge, None if cache_dir is None else open_cache(cache_dir))
        self.data, self.spread = looks, spread
        self.images, self.suffix = looks.images, f"_{judge_name}" if judge_name else ""
        if judge_name:
            self.outputs = tuple(
                replace(info, name=info.name + self.suffix, title=f"{info.title} ({judge_name})")
                for info in LookAccuracy.outputs
            )

    def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
        """See `ImageMetric`."""
        judging, owners = references.once(("looks", id(self)), lambda: self._judging(references.examples))
        values = judging.measure(images[owners])
        kept = torch.full((len(images),), float("nan"))
        reductions = {"style_accuracy": "amax", "concept_accuracy": "amax", "finish_error": "amin"}
        return {
            name + self.suffix: kept.scatter_reduce(0, owners, values[name], reduce, include_self=False)
            for name, reduce in reductions.items()
        }

    def _judging(self, examples: Sequence[Example]) -> tuple[LookJudging, Tensor]:
        """Returns the judging of each truth of the examples, and the example that each belongs to, int64 `(T,)`."""
        truths = [(number, item) for number, example in enumerate(examples) for item in example.truth]
        pictures = [self.images.picture(item) for _, item in truths]
        targets = [
            LookTarget(picture.row, picture.finish, (), stable_number("look metric", item.id) % 2**31)
            for picture, (_, item) in zip(pictures, truths, strict=True)
        ]
        owners = torch.tensor([number for number, _ in truths])
        return LookJudging(self.data, self.read_style, targets, self.spread), owners
