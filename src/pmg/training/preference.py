"""Trains the preference encoder by a weighted sum of terms; the language model and the generator stay frozen.

Shapes: `U` users a batch, `K` samples (target, noise, time) a user, `B = U * K`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import pytorch_lightning as pl
import torch
from torch import Tensor

from pmg.configuration.ranges import Count, Decay, Fraction
from pmg.domain import PmgError
from pmg.models.compilation import uncompiled
from pmg.models.diffusion.conditioning import Condition, SoftBlock, TextBlock, drop_target, join
from pmg.models.diffusion.interfaces import Generator
from pmg.models.diffusion.text_encoder import LazyTextEncodings
from pmg.models.language.language_model import LanguageModel
from pmg.models.preference.batch_norm import SharedBatchNorm1d
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.training.datamodule import Batch
from pmg.training.ema import AveragedWeights
from pmg.training.encoder_inputs import UserInputs
from pmg.training.latents import Latents
from pmg.training.objective import (
    AcceptedTokens,
    Answers,
    ImageOwner,
    ObjectiveTerm,
    SampleOutputs,
    StepOutputs,
    undeclared,
)  # fmt: skip
from pmg.training.optim import OptimizedModule, OptimizerPartial, SchedulerPartial

PARTS = ("target", "keywords", "soft")


def find_other_users(tastes: Sequence[int]) -> list[int]:
    """Returns for each user of a batch the position of the next one with another taste, cyclically.

    A user of whom the batch holds no such neighbour gets the own position.
    """
    count = len(tastes)
    following = ([(place + step) % count for step in range(1, count)] for place in range(count))
    return [next((p for p in some if tastes[p] != tastes[own]), own) for own, some in enumerate(following)]


class PreferenceBatches:
    """Collates users into batches of denoising samples.

    PmgError if `drop` names other parts, or a value is no probability.

    Args:
        samples: for each user the pairs (row of an image in `latents`, row of its target in the target block).
        tastes: for each user a name of the taste; users with equal names are no negatives of each other.
        latents: normalised latents of the images, `(N, C, h, w)`; None: no term needs them.
        generator: samples the random inputs of its loss.
        draws: K, samples a user.
        drop: probability to drop each of target, keywords and soft tokens.
        accepted: the generator's own tokens of the images, `(N, n, D)`; None: no term needs them.
        described: the option of each attribute that describes each image, int64 `(N, A)`, -1: none; None: as above.
    """

    def __init__(
        self, *, samples: Sequence[Sequence[tuple[int, int]]], tastes: Sequence[str], latents: Latents | None,
        generator: Generator, draws: Count, drop: Mapping[str, Fraction], accepted: Tensor | None = None,
        described: Tensor | None = None,
    ) -> None:  # fmt: skip
        if set(drop) != set(PARTS) or not all(0 <= chance <= 1 for chance in drop.values()):
            raise PmgError(f"objective.batches.drop needs a chance from 0 to 1 for {', '.join(PARTS)}, got {drop}")
        self.samples = [torch.tensor(pairs) for pairs in samples]
        codes = {name: code for code, name in enumerate(dict.fromkeys(tastes))}
        self.tastes = [codes[name] for name in tastes]
        self.latents, self.generator, self.draws, self.drop = latents, generator, draws, drop
        self.accepted, self.described = accepted, described
        self.variance = None if accepted is None else accepted.var(0, correction=0).sum()

    def __call__(self, users: Tensor, rng: torch.Generator) -> Batch:
        """Returns a batch for `users` `(U,)`, without its latents; all its randomness comes from `rng`."""
        rows = users.tolist()
        chosen = [self.samples[user] for user in rows]
        drawn = [torch.randint(len(pairs), (self.draws,), generator=rng) for pairs in chosen]
        image, target = torch.cat([pairs[rows] for pairs, rows in zip(chosen, drawn, strict=True)]).T
        # of the whole batch: the other user may be in another process's part
        other = torch.tensor(find_other_users([self.tastes[user] for user in rows]))
        batch = {
            "users": users,
            "target": target,
            "image": image,
            "other_target": target.view(-1, self.draws)[other].flatten(),
            "other_image": image.view(-1, self.draws)[other].flatten(),
            **self.generator.sample_inputs(len(image), rng),
        }
        for part in PARTS:
            batch[f"keep_{part}"] = torch.rand(len(image), generator=rng) >= self.drop[part]
        return batch

    def read(self, batch: Batch) -> Batch:
        """Returns the batch, or a process's part of it, with latents in place of their rows."""
        rows = [batch["image"], batch["other_image"]]
        rest = {name: part for name, part in batch.items() if name not in ("image", "other_image")}
        if self.accepted is not None and self.variance is not None:
            rest |= {"accepted": self.accepted[rows[0]], "accepted_variance": self.variance.expand(len(rows[0]))}
        if self.described is not None:
            rest["described"] = self.described[rows[0]]
        if self.latents is not None:
            rest["latents"], rest["other_latents"] = self.latents[torch.cat(rows)].split([len(some) for some in rows])
        return rest

    def fixed(self, users: Tensor, batch_size: int, seed: int) -> list[Batch]:
        """Returns validation batches with nothing dropped and noise that never changes."""
        batches = []
        for number, part in enumerate(users.split(batch_size)):
            batch = self.read(self(part, torch.Generator().manual_seed(seed + number)))
            batches.append({k: torch.ones_like(v) if k.startswith("keep_") else v for k, v in batch.items()})
        return batches


@dataclass(frozen=True)
class FrozenModels:
    """The models that terms of the objective may call; never trained, never in a checkpoint."""

    language_model: LanguageModel
    generator: Generator


@dataclass(frozen=True)
class EncodedTexts:
    """The encoded texts of a training: of targets one row a concept, keywords one a user, and the empty text."""

    targets: TextBlock
    keywords: TextBlock | LazyTextEncodings
    empty: TextBlock


class PreferenceTraining(OptimizedModule):
    """Trains the preference encoder; all else is frozen and not part of checkpoints. PmgError if there are no terms.

    Args:
        encoder: the trainable part.
        frozen: language model and generator.
        user_inputs: the encoder's inputs of all users, of training and validation.
        texts: encoded targets and keywords.
        terms: of the objective, by name; each is logged under its name. Those that are None are left out.
        ema_decay: of the moving average of the encoder's weights, which is validated and kept; None: the last weights.
    """

    trained = "encoder"

    def __init__(
        self, *, encoder: TokenEncoder, frozen: FrozenModels, user_inputs: UserInputs, texts: EncodedTexts,
        terms: Mapping[str, ObjectiveTerm | None], optimizer: OptimizerPartial, lr_scheduler: SchedulerPartial,
        ema_decay: Decay | None = None,
    ) -> None:  # fmt: skip
        super().__init__(optimizer, lr_scheduler)
        self.terms = {name: term for name, term in terms.items() if term is not None}
        if not self.terms:
            raise PmgError("objective.module.terms is empty: name at least one term, e.g. objective=denoise")
        self.encoder = encoder
        self.frozen = frozen  # a dataclass: its models are no sub-modules, so never saved or trained
        self.user_inputs, self.texts = user_inputs, texts
        self.needs_prediction = any(term.needs_prediction for term in self.terms.values())
        self.averages = [] if ema_decay is None else [AveragedWeights(encoder, ema_decay, refit=self._fit_to_sample)]

    @property
    def language_model(self) -> LanguageModel:
        """The frozen language model."""
        return self.frozen.language_model

    def transfer_batch_to_device(self, batch: Batch, *_: object) -> Batch:
        """Leaves batches on the CPU, beside histories and texts; a step moves what it needs by itself."""
        return batch

    def step_outputs(self, batch: Batch) -> StepOutputs:
        """Returns what the terms compute with; the soft tokens are computed here, once for all of them."""
        tokens, scores = self.encoder.respond(self.language_model, self.user_inputs.select(batch["users"]))
        keywords = self.texts.keywords[batch["users"]]
        samples_per_user = len(batch["target"]) // len(batch["users"])
        soft = SoftBlock.of(tokens).repeat(samples_per_user).masked(batch["keep_soft"].to(tokens.device))
        words = keywords.repeat(samples_per_user).masked(batch["keep_keywords"]).to(tokens.device)

        def evaluate(owner: ImageOwner, with_soft: bool) -> SampleOutputs:
            """Returns the denoiser's outputs on an owner's images, with soft tokens or without."""
            with torch.set_grad_enabled(with_soft and torch.is_grad_enabled()):
                prefix = "other_" if owner == "other" else ""
                if f"{prefix}latents" not in batch:
                    raise undeclared("outputs of the generator", "needs_generator")
                targets = self.texts.targets[batch[f"{prefix}target"]]
                targets = drop_target(targets, self.texts.empty, batch["keep_target"]).to(tokens.device)
                condition = join(targets, words, soft) if with_soft else join(targets, words)
                return self._denoise(batch, batch[f"{prefix}latents"], condition)

        accepted = AcceptedTokens(batch["accepted"], batch["accepted_variance"]) if "accepted" in batch else None
        answers = Answers(scores, batch["described"]) if "described" in batch else None
        return StepOutputs(tokens, keywords, samples_per_user, evaluate, accepted, answers)

    def _denoise(self, batch: Batch, latents: Tensor, condition: Condition) -> SampleOutputs:
        generator = self.frozen.generator
        if not self.needs_prediction:
            return SampleOutputs(condition, generator.loss(latents, condition, batch))
        details = generator.denoising_outputs(latents, condition, batch)
        return SampleOutputs(condition, details.loss, details)

    def objective(self, batch: Batch, stage: str) -> Tensor:
        """Returns the weighted sum of the terms' means, a scalar; logs it and each of its terms."""
        outputs = self.step_outputs(batch)
        means = {name: term(outputs).mean() for name, term in self.terms.items()}
        total = reduce(add, (term.weight * means[name] for name, term in self.terms.items()))
        logged = {f"{stage}/{name}": mean.detach() for name, mean in (*means.items(), ("total", total))}
        if stage == "train" and self._records_step():
            logged = {name: self.trainer.strategy.reduce(mean.clone()) for name, mean in logged.items()}
        for name, mean in logged.items():
            shown, summed = not name.endswith("/total"), stage == "val"
            self.log(name, mean, prog_bar=shown, batch_size=outputs.samples, sync_dist=summed)
        return total

    def _records_step(self) -> bool:
        """Returns whether values of this step are recorded: by loggers, beside a validation, or as the last ones.

        Of other steps the progress bar shows the main process's own part: a mean over processes takes time.
        """
        trainer = self.trainer
        step, every = trainer.global_step + 1, (trainer.log_every_n_steps, trainer.val_check_batch)
        return step == trainer.max_steps or any(often and step % often == 0 for often in every)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Returns the objective of one step."""
        return self.objective(batch, "train")

    def validation_step(self, batch: Batch, _: int) -> None:
        """Logs the objective on users that training doesn't see, with fixed noise and times."""
        with uncompiled():  # without gradients it would be compiled once more
            self.objective(batch, "val")

    def configure_callbacks(self) -> list[pl.Callback]:
        """Returns the moving average, where there is one."""
        return list(self.averages)

    def on_fit_start(self) -> None:
        """Raises PmgError for a single training profile where states are standardised over users."""
        standardised = any(isinstance(part, SharedBatchNorm1d) for part in self.encoder.modules())
        if standardised and len(self.trainer.datamodule.train.rows) < 2:
            raise PmgError(
                "there is a single training profile, and the encoder standardises states over profiles: set "
                "split_sizes.train=2 or more"
            )

    def recalibrate_statistics(self, users: Tensor, batch_size: int = 50) -> None:
        """Fits the running statistics to `users` `(U,)`."""
        self.encoder.eval()
        with torch.no_grad(), uncompiled():
            inputs = map(self.user_inputs.select, users.split(batch_size))
            parts = [self.encoder.states(self.language_model, some) for some in inputs]
        self.encoder.fit_statistics(torch.cat(parts))

    def _fit_to_sample(self) -> None:
        self.recalibrate_statistics(self.trainer.datamodule.train.rows[:50])
