"""Pretraining of the judge of looks: style by contrast, finish by regression, concept by classification."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss

from pmg.configuration.ranges import Count, Fraction, NotNegative, Positive
from pmg.data.picture_groups import PictureGroups
from pmg.domain import PmgError
from pmg.looks.drawings import CANDIDATES, REFERENCES, LookChoice, LookData, has_colours
from pmg.looks.finish_targets import SIZE, finish_errors, finish_values
from pmg.looks.finishes import Finish
from pmg.looks.models.codec import AutoencoderDCCodec, restore_some
from pmg.looks.models.judge import LookJudge, LookJudgeConfig, pick_looks
from pmg.looks.stages.pretraining import VALIDATION_BATCH, Built, count_groups, group_rows, load_weights, save_half
from pmg.looks.stages.training import contrastive_loss, random_affine
from pmg.models.diffusion.interfaces import LatentCodec
from pmg.seeding import stable_number
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows
from pmg.training.optim import OptimizedModule, OptimizerPartial, SchedulerPartial

FINISHES, CONCEPTS = 4, 2  # of a batch: every artist in every finish, each look by two concepts


class JudgeBatches:
    """Draws batches that hold the hardest negatives of each look: same artist, other finish, and the reverse.

    The judge may see unseen regions and artists; held-out drawings it may not. A share `restored` of the pictures went
    through the codec, as generated ones do. PmgError if the data has fewer `artists` than a batch.
    """

    def __init__(self, data: LookData, codec: LatentCodec, restored: float, spread: float, artists: int) -> None:
        self.artists = artists
        self.data, self.codec, self.restored, self.spread = data, codec, restored, spread
        self.concept = {name: place for place, name in enumerate(data.drawings.concepts)}
        self.rows = group_rows(data, ("train", "unseen_artists"), artists, FINISHES * CONCEPTS)
        self.coloured = has_colours(data.drawings.pixels)

    def __call__(self, _: Tensor, rng: torch.Generator) -> Batch:
        """Returns a batch of `artists * FINISHES * CONCEPTS` pictures with their labels."""
        chance = random.Random(int(torch.randint(2**62, (), generator=rng)))
        artists = chance.sample(sorted(self.rows), self.artists)
        centres = [self.data.space.sample(chance, seen=chance.random() < 0.75) for _ in range(FINISHES)]
        rows, finishes = [], []
        for artist in artists:
            for centre in centres:
                rows += chance.sample(self.rows[artist], CONCEPTS)
                finishes += [self.data.space.vary(centre, chance, self.spread) for _ in range(CONCEPTS)]
        return self.label(rows, finishes, rng)

    def label(self, rows: list[int], finishes: list[Finish], rng: torch.Generator | None) -> Batch:
        """Returns pictures of `rows`, varied by `rng` where there is one, with looks, finishes and concepts."""
        pictures = self.data.drawings.pictures(torch.tensor(rows), finishes)
        if rng is not None:
            restore_some(self.codec, pictures, self.restored, rng)
            pictures = random_affine(pictures, rng)
        values, traces = finish_values(finishes, [bool(self.coloured[row]) for row in rows])
        return {
            "images": pictures,
            "look": torch.arange(len(rows)) // CONCEPTS,
            "values": values,
            "traces": traces,
            "concept": torch.tensor([self.concept[self.data.drawings.items[row].concept] for row in rows]),
        }


def contrast(style: Tensor, look: Tensor, temperature: float) -> Tensor:
    """Returns supervised contrast (Khosla et al. 2020) of unit vectors `(B, E)`; each label `(B,)` twice or more."""
    itself = torch.eye(len(style), dtype=torch.bool, device=style.device)
    logits = (style @ style.T / temperature).masked_fill(itself, float("-inf"))
    return contrastive_loss(logits, (look[:, None] == look) & ~itself).mean()


class LookJudgeTraining(OptimizedModule):
    """Contrast of looks, with a temperature; regression of finishes, with a weight; cross-entropy of concepts."""

    trained = "judge"

    def __init__(
        self, judge: LookJudge, optimizer: OptimizerPartial, lr_scheduler: SchedulerPartial,
        temperature: Positive = 0.1, finish_weight: NotNegative = 10.0,
    ) -> None:  # fmt: skip
        super().__init__(optimizer, lr_scheduler)
        self.judge = judge
        self.temperature, self.finish_weight = temperature, finish_weight

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One step on a batch of `JudgeBatches`."""
        reading = self.judge(batch["images"])
        traces = batch["traces"].float()
        errors = smooth_l1_loss(reading.finish, batch["values"], reduction="none", beta=0.1) * traces
        losses = {
            "train/style": contrast(reading.style, batch["look"], self.temperature),
            "train/finish": errors.sum() / traces.sum(),
            "train/concept": cross_entropy(reading.concept, batch["concept"], label_smoothing=0.1),
        }
        self.log_dict(losses, prog_bar=True)
        return losses["train/style"] + self.finish_weight * losses["train/finish"] + losses["train/concept"]

    def validation_step(self, batch: Batch, _: int) -> None:
        """Accuracy on held-out drawings."""
        reading = self.judge(batch["images"])
        values = {
            "val/concept_accuracy": (reading.concept.argmax(1) == batch["concept"]).float().mean(),
            "val/finish_error": finish_errors(reading.finish, batch["values"], batch["traces"]).mean(),
        }
        self.log_dict(values, prog_bar=True, batch_size=len(reading.style))


@torch.no_grad()
def style_accuracy(judge: LookJudge, data: LookData, choice: LookChoice, count: int = 200, seed: int = 0) -> float:
    """Returns how often the judge picks the true look of a real held-out drawing among ten."""
    rows = data.rows("validation").tolist()[:count]
    hits = 0
    for row in rows:
        rng = random.Random(stable_number(seed, "style accuracy", row))
        finish = data.space.sample(rng)
        picture = data.drawings.pictures(torch.tensor([row]), [finish])
        references = judge(choice.draw(row, finish, rng)).style.view(1, CANDIDATES, REFERENCES, -1)
        hits += int(pick_looks(judge(picture).style, references)[0] == 0)
    return hits / len(rows)


class LookJudgeStage:
    """The judge of looks; PmgError if `batch_size`, eight pictures of each artist, is no multiple of eight.

    `judge` builds the judge of a config, which sees `size` pixels a side. A share `restored` of the pictures goes
    through ``vae`` in `generator_folder`; `spread` is that of a look's finishes. `start` is the folder of an earlier
    judge of the same concepts, which is trained further; None: as `judge` builds it.
    """

    def __init__(
        self, folder: str, generator_folder: str, judge: Callable[[LookJudgeConfig], LookJudge], *, size: Count,
        restored: Fraction, spread: NotNegative, training: Callable[[LookJudge], LookJudgeTraining],
        batch_size: Count, start: str | None = None,
    ) -> None:  # fmt: skip
        self.artists, self.start = count_groups(batch_size, FINISHES * CONCEPTS), start
        self.folder, self.generator_folder, self.judge = folder, Path(generator_folder), judge
        self.size, self.restored, self.spread, self.training = size, restored, spread, training

    def build(self, data: PictureGroups, seed: int) -> Built:
        """Batches of looks with their hardest rivals; validation on held-out drawings.

        PmgError if the data has no finishes, or fewer artists than a batch; or `start` is missing, or a judge of other
        sizes or concepts.
        """
        if not isinstance(data, LookData):
            raise PmgError(
                "stage=look_judge learns the finishes that data=looks draws, and other data has none. "
                "Compare pictures of your own with metrics=distances, which needs no judge."
            )
        config = LookJudgeConfig(size=self.size, values=SIZE, concepts=tuple(data.drawings.concepts))
        judge = self.judge(config).to(memory_format=torch.channels_last)
        if self.start is not None:
            started = load_weights(judge, Path(self.start))
            if started.config.concepts != config.concepts:
                raise PmgError(f"{self.start} judges other concepts than the data has. Set stage.start=null.")
        codec = AutoencoderDCCodec.from_folder(self.generator_folder / "vae")
        batches = JudgeBatches(data, codec, self.restored, self.spread, self.artists)
        rng = random.Random(stable_number(seed, "judge validation"))
        fixed = [
            batches.label(rows.tolist(), [data.space.sample(rng, seen=rng.random() < 0.75) for _ in rows], None)
            for rows in data.rows("validation").split(VALIDATION_BATCH)
        ]
        return self.training(judge), RowsDataModule(ShuffledRows(torch.arange(1), 1, seed, batches), fixed)

    def save_and_evaluate(self, built: tuple[LookJudgeTraining, RowsDataModule], data: LookData) -> dict[str, float]:
        """Saves the judge; its accuracy on held-out drawings."""
        judge, fixed = built[0].judge, built[1].validation
        save_half(judge.eval(), self.folder)
        with torch.no_grad():
            readings = [judge(batch["images"]) for batch in fixed]
        pairs = list(zip(readings, fixed, strict=True))
        concept = torch.cat([reading.concept.argmax(1) == batch["concept"] for reading, batch in pairs])
        errors = torch.cat([finish_errors(r.finish, batch["values"], batch["traces"]) for r, batch in pairs])
        return {
            "real_concept_accuracy": float(concept.float().mean()),
            "real_finish_error": float(errors.mean()),
            "real_style_accuracy": style_accuracy(judge, data, LookChoice(data, self.spread)),
        }
