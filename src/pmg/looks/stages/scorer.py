"""Pretraining of the scorer on looks: pictures against titles, and against what a captioner says of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pmg.configuration.ranges import Count, Fraction
from pmg.data.picture_groups import PictureGroups
from pmg.domain import PmgError
from pmg.looks.catalogue import TargetCaptions
from pmg.looks.models.codec import AutoencoderDCCodec, restore_some
from pmg.looks.models.scorer import LookScorer
from pmg.looks.stages.pretraining import VALIDATION_BATCH, Built, load_weights, save_half
from pmg.looks.stages.training import contrastive_loss, random_affine
from pmg.models.diffusion.interfaces import LatentCodec
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.loading.device import processor_autocast
from pmg.models.vision.scorer import EmbeddedScorer
from pmg.preferences.captioning import PictureDescriber
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows, seeded
from pmg.training.optim import OptimizedModule, OptimizerPartial, SchedulerPartial


class ScorerBatches:
    """Draws pictures with a title and some of the captioner's words."""

    def __init__(
        self, data: PictureGroups, rows: Tensor, captioner: PictureDescriber, text_encoder: TextEncoder,
        codec: LatentCodec, *, restored: float, captions: TargetCaptions,
    ) -> None:  # fmt: skip
        self.data, self.rows, self.captioner, self.text_encoder = data, rows, captioner, text_encoder
        self.codec, self.restored = codec, restored
        titled = {item.title: item for item in data.picture_items}  # items of one's own have a concept each
        self.title = {name: place for place, name in enumerate(sorted(titled))}
        self.titles = [text_encoder.encode(captions(titled[name])).pooled for name in sorted(titled)]

    def __call__(self, places: Tensor, rng: torch.Generator) -> Batch:
        """Returns pictures of ``rows[places]`` with all titles, words, and which of both fit which picture."""
        chance = random.Random(int(torch.randint(2**62, (), generator=rng)))
        rows = self.rows[places]
        pictures = self.data.draw_pictures(rows, chance)
        words = [set(said.values()) for said in self.captioner.describe(pictures)]
        some = [set(chance.sample(sorted(said), chance.randint(1, len(said)))) for said in words]
        restore_some(self.codec, pictures, self.restored, rng)
        items = [self.data.picture_items[row] for row in rows.tolist()]
        texts = [", ".join(chance.sample(sorted(said), len(said))) for said in some]
        with processor_autocast():
            encoded = self.text_encoder.encode(texts)
        return {
            "images": random_affine(pictures, rng),
            "concept": torch.tensor([self.title[item.title] for item in items]),
            "titles": torch.stack([some[chance.randrange(len(some))] for some in self.titles]),
            "words": encoded.pooled.float(),
            "fits": torch.tensor([[text <= said for text in some] for said in words]),
        }


class LookScorerTraining(OptimizedModule):
    """Contrast of each picture with every title, and with the words said of all pictures of its batch.

    Words that are said of one picture and fit another are right for both.
    """

    trained = "scorer"

    def __init__(self, scorer: EmbeddedScorer, optimizer: OptimizerPartial, lr_scheduler: SchedulerPartial) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.scorer = scorer

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the scaled cosines of pictures `(B,)` with titles `(B, K)` and words `(B, B)`."""
        content, style = self.scorer(batch["images"])
        scale = self.scorer.temperature.exp()
        titles, words = self.scorer.encode_target(batch["titles"]), self.scorer.encode_preference(batch["words"])
        return {"title": scale * content @ titles.T, "words": scale * style @ words.T}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One step on a batch of `ScorerBatches`."""
        logits = self.logits(batch)
        concept = torch.nn.functional.one_hot(batch["concept"], logits["title"].shape[1]).bool()
        losses = {
            "train/title": contrastive_loss(logits["title"], concept).mean(),
            "train/words": contrastive_loss(logits["words"], batch["fits"]).mean(),
        }
        self.log_dict(losses, prog_bar=True)
        return torch.stack(list(losses.values())).sum()

    def accuracy(self, batch: Batch) -> dict[str, float]:
        """Returns how often a picture's best title is its own, and its best words fit it."""
        logits = self.logits(batch)
        best = logits["words"].argmax(1, keepdim=True)
        return {
            "title_accuracy": float((logits["title"].argmax(1) == batch["concept"]).float().mean()),
            "words_accuracy": float(batch["fits"].gather(1, best).float().mean()),
        }

    def validation_step(self, batch: Batch, _: int) -> None:
        """Accuracy on held-out drawings."""
        values = {f"val/{name}": value for name, value in self.accuracy(batch).items()}
        self.log_dict(values, prog_bar=True, batch_size=len(batch["images"]))


class LookScorerStage:
    """The dual encoder that selects among candidates.

    The `scorer` is trained; its vectors are as wide as the text encoder's. `captions` name what a picture shows; a
    share `restored` of the pictures goes through ``vae`` in `generator_folder`. `start` is the folder of an earlier
    scorer of the same text encoder, which is trained further; None: `scorer` as it is. PmgError if `start` is missing,
    or holds a scorer of other sizes; or the text encoder has another width.
    """

    def __init__(
        self, folder: str, generator_folder: str, text_encoder: TextEncoder, captioner: PictureDescriber,
        scorer: LookScorer, *, captions: TargetCaptions, restored: Fraction,
        training: Callable[[LookScorer], LookScorerTraining], batch_size: Count, start: str | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.generator_folder, self.batch_size = folder, Path(generator_folder), batch_size
        self.text_encoder, self.captioner, self.captions, self.restored = text_encoder, captioner, captions, restored
        if scorer.config.width != (width := text_encoder.width):
            raise PmgError(f"the text encoder's vectors are {width} wide. Set stage.scorer.width={width}.")
        self.scorer = scorer.to(memory_format=torch.channels_last)
        if start is not None:
            load_weights(self.scorer, Path(start))
        self.module = training(self.scorer)

    def build(self, data: PictureGroups, seed: int) -> Built:
        """Contrast with titles and words; validation on held-out drawings."""
        codec = AutoencoderDCCodec.from_folder(self.generator_folder / "vae")

        def batches(split: str) -> ScorerBatches:
            """Returns what makes the batches of a split."""
            return ScorerBatches(
                data, data.rows(split), self.captioner, self.text_encoder, codec, restored=self.restored,
                captions=self.captions,
            )  # fmt: skip

        train, held_out = batches("train"), batches("validation")
        parts = torch.arange(len(held_out.rows)).split(VALIDATION_BATCH)
        fixed = [held_out(part, seeded(seed, "validation", number)) for number, part in enumerate(parts)]
        rows = torch.arange(len(train.rows))
        return self.module, RowsDataModule(ShuffledRows(rows, self.batch_size, seed, train), fixed)

    def save_and_evaluate(self, built: Built, data: PictureGroups) -> dict[str, float]:
        """Saves the scorer; its accuracy on held-out drawings."""
        save_half(self.scorer.eval(), self.folder)
        with torch.no_grad():
            parts = [(self.module.accuracy(batch), len(batch["images"])) for batch in built[1].validation]
        count = sum(size for _, size in parts)
        return {name: sum(part[name] * size for part, size in parts) / count for name in parts[0][0]}
