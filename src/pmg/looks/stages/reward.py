"""Training of the personal reward: whose picture of two a user prefers, from a few pictures that they liked."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from pmg.configuration.ranges import Count, Fraction, NotNegative
from pmg.data.picture_groups import PictureGroups
from pmg.domain import PmgError
from pmg.looks.drawings import LookData
from pmg.looks.models.codec import AutoencoderDCCodec, restore_some
from pmg.looks.models.personal_reward import PersonalReward, PersonalRewardConfig
from pmg.looks.stages.pretraining import Built, count_groups, group_rows, save_half
from pmg.models.diffusion.interfaces import LatentCodec
from pmg.models.image_passes import fit_size
from pmg.models.vision.scorer import EmbeddedScorer
from pmg.seeding import stable_number
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows
from pmg.training.optim import OptimizedModule, OptimizerPartial, SchedulerPartial

FINISHES, LONGEST = 4, 8  # finishes of a batch, each by every artist of it; pictures of a history
VALIDATION_BATCHES = 24
SHARPER = torch.arange(0.5, 4.0, 0.05)  # factors of logits that a calibration tries


class RewardBatches:
    """Draws the users of a batch: each likes one look, and the others' looks are the rivals, hard ones among them.

    Every artist of a batch draws in every finish. A user has `LONGEST` pictures of a history, and one that they like
    next. A share `noise` of the histories are pictures of other users' looks, and a share
    `restored` of all pictures went through the codec, as generated ones do.
    """

    def __init__(
        self, data: LookData, codec: LatentCodec, artists: int, *, spread: float, noise: float, restored: float,
        split: str,
    ) -> None:  # fmt: skip
        self.data, self.codec, self.artists = data, codec, artists
        self.spread, self.noise, self.restored = spread, noise, restored
        self.rows = group_rows(data, (split,), artists, FINISHES)

    def __call__(self, _: Tensor, rng: torch.Generator) -> Batch:
        """Returns pictures `(U, LONGEST + 1, 3, H, W)`, histories' marks `(U, LONGEST)`, and hard rivals `(U, U)`."""
        chance = random.Random(int(torch.randint(2**62, (), generator=rng)))
        artists = chance.sample(sorted(self.rows), self.artists)
        centres = [self.data.space.sample(chance) for _ in range(FINISHES)]
        looks = [(artist, centre) for artist in artists for centre in centres]
        shown = [[look] * (LONGEST + 1) for look in looks]
        liked = torch.ones(len(looks), LONGEST, dtype=torch.bool)
        for user, pictures in enumerate(shown):
            for place in range(LONGEST):
                if chance.random() < 2 * self.noise:  # half of these are marked as disliked, the others mislead
                    pictures[place] = chance.choice(looks)
                    liked[user, place] = chance.random() < 0.5 or pictures[place] == looks[user]
        length = chance.randint(1, LONGEST)
        liked[:, LONGEST - 1] = True  # at least one picture of each history
        rows = [chance.choice(self.rows[artist]) for pictures in shown for artist, _ in pictures]
        finishes = [self.data.space.vary(centre, chance, self.spread) for each in shown for _, centre in each]
        drawn = self.data.drawings.pictures(torch.tensor(rows), finishes)
        restore_some(self.codec, drawn, self.restored, rng)
        return {
            "images": drawn.unflatten(0, (len(looks), LONGEST + 1)),
            "liked": liked,
            "known": (torch.arange(LONGEST) >= LONGEST - length).expand(len(looks), -1),
            "hard": hard_rivals(self.artists, FINISHES),
        }


class LookRewardTraining(OptimizedModule):
    """Bradley-Terry over hard rivals, and the cross-entropy of liked against all other pictures.

    The reward is trained; the scorer, whose image encoder's features it reads, is frozen.
    """

    trained = "reward"

    def __init__(
        self, reward: PersonalReward, scorer: EmbeddedScorer, optimizer: OptimizerPartial,
        lr_scheduler: SchedulerPartial,
    ) -> None:  # fmt: skip
        super().__init__(optimizer, lr_scheduler)
        self.reward = reward
        self.frozen = (scorer,)  # in a tuple it is no sub-module, so never saved or trained

    def logits(self, batch: Batch) -> Tensor:
        """Returns how much each user likes the next picture of each, `(U, U)`."""
        images, scorer = batch["images"], self.frozen[0]
        with torch.no_grad():
            features = scorer.encoder(fit_size(images.flatten(0, 1), scorer.config.size))
        vectors = self.reward.embed(features).unflatten(0, images.shape[:2])
        history, following = vectors[:, :LONGEST], vectors[:, LONGEST]
        return self.reward(following.expand(len(images), -1, -1), history, batch["liked"], batch["known"])

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One step on a batch of `RewardBatches`."""
        logits = self.logits(batch)
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        weight = own * (len(logits) - 1.0) + ~own  # as much of the liked picture as of all others
        losses = {
            "train/pairs": -logsigmoid(margins(logits, batch["hard"])).mean(),
            "train/likes": binary_cross_entropy_with_logits(logits, own.float(), weight) / 2,
        }
        self.log_dict(losses, prog_bar=True)
        return losses["train/pairs"] + losses["train/likes"]

    def validation_step(self, batch: Batch, _: int) -> None:
        """Share of the hard pairs in which the user's own picture is preferred."""
        self.log("val/pair_accuracy", pair_accuracy(self.logits(batch), batch["hard"]), prog_bar=True, batch_size=1)


def hard_rivals(artists: int, finishes: int) -> Tensor:
    """Returns which users' looks have either the artist or the finish in common, bool `(U, U)`, artist by artist."""
    places = torch.arange(artists * finishes)
    artist, finish = places // finishes, places % finishes
    return (artist[:, None] == artist) ^ (finish[:, None] == finish)


def margins(logits: Tensor, hard: Tensor) -> Tensor:
    """Returns by how much each user's own next picture has a higher logit `(U, U)` than each hard rival `(U, U)`."""
    return (logits.diagonal()[:, None] - logits)[hard]


def pair_accuracy(logits: Tensor, hard: Tensor) -> Tensor:
    """Returns the share of `margins` above 0."""
    return (margins(logits, hard) > 0).float().mean()


def find_sharpness(margins: Tensor) -> float:
    """Returns the factor of `SHARPER` that makes pairs likeliest whose first was preferred by margins `(N,)`.

    Training's dropout leaves logits too small (temperature scaling, Guo et al. 2017).
    """
    losses = torch.stack([-logsigmoid(factor * margins).mean() for factor in SHARPER])
    return float(SHARPER[losses.argmin()])


class LookRewardStage:
    """The personal reward; PmgError if `batch_size`, four users of each artist, is no multiple of four.

    The reward reads features of the frozen `scorer`; a taste's vectors are `width` wide. A share `restored` of the
    pictures goes through ``vae`` in `generator_folder`, and a share `noise` of a history shows other looks than the
    liked one. `spread` is that of a look's finishes.
    """

    def __init__(
        self, folder: str, generator_folder: str, scorer: EmbeddedScorer, *, width: Count, spread: NotNegative,
        noise: Fraction, restored: Fraction, training: Callable[[PersonalReward, EmbeddedScorer], LookRewardTraining],
        batch_size: Count,
    ) -> None:  # fmt: skip
        self.folder, self.generator_folder, self.scorer = folder, Path(generator_folder), scorer
        self.artists, self.width, self.training = count_groups(batch_size, FINISHES), width, training
        self.spread, self.noise, self.restored = spread, noise, restored

    def build(self, data: PictureGroups, seed: int) -> Built:
        """Batches of users; validation on others, of held-out drawings; PmgError if the data has no finishes."""
        if not isinstance(data, LookData):
            raise PmgError("stage=look_reward learns from users of data=looks, whose looks it draws. Set data=looks")
        codec = AutoencoderDCCodec.from_folder(self.generator_folder / "vae")
        draw = partial(
            RewardBatches, data, codec, self.artists, spread=self.spread, noise=self.noise, restored=self.restored
        )
        batches, held_out = draw(split="train"), draw(split="validation")
        reward = PersonalReward(PersonalRewardConfig(self.scorer.encoder.width, self.width))
        numbers = [stable_number(seed, "reward validation", number) % 2**62 for number in range(VALIDATION_BATCHES)]
        fixed = [held_out(torch.arange(1), torch.Generator().manual_seed(number)) for number in numbers]
        module = self.training(reward, self.scorer)
        return module, RowsDataModule(ShuffledRows(torch.arange(1), 1, seed, batches), fixed)

    @torch.no_grad()
    def save_and_evaluate(self, built: tuple[LookRewardTraining, RowsDataModule], data: LookData) -> dict[str, float]:
        """Calibrates the reward on hard pairs of validation and saves it; its accuracy there."""
        module, batches = built
        module.reward.eval()
        logits = [module.logits(batch) for batch in batches.validation]
        hard = [batch["hard"] for batch in batches.validation]
        module.reward.sharpen(find_sharpness(torch.cat([margins(*pair) for pair in zip(logits, hard, strict=True)])))
        save_half(module.reward, self.folder)
        found = [pair_accuracy(*pair) for pair in zip(logits, hard, strict=True)]
        return {"pair_accuracy": float(torch.stack(found).mean())}
