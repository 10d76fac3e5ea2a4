"""Trains PMG's preference encoder: denoising loss through the frozen denoiser and language model.

Shapes: `U` users a batch, `K` draws (target, noise, timestep) a user, `B = U * K`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from pmg.configuration.ranges import Count, Decay, Positive, Share
from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Block, drop_target, join
from pmg.models.diffusion.generator import Generator
from pmg.models.diffusion.text_encoder import UnkeptTexts
from pmg.models.language.language_model import LanguageModel
from pmg.models.loading.compilation import uncompiled
from pmg.models.preference.image_prompt import HistoryFeatures, ImagePromptEncoder
from pmg.models.preference.preference_encoder import PreferenceEncoder
from pmg.preferences.contexts import Contexts
from pmg.training.datamodule import Batch
from pmg.training.ema import AveragedWeights
from pmg.training.latents import Latents
from pmg.training.objective import Losses, Term, Whose
from pmg.training.optim import SCHEDULES

PARTS = ("target", "keywords", "soft")


class PreferenceBatches:
    """Collates users into batches of denoising questions.

    Args:
        questions: for each user the rows of their truths in `latents` and of their targets in the target block.
        latents: normalised latents of the drawings, `(N, C, h, w)`.
        timesteps: number of the scheduler's timesteps.
        draws: K, questions a user.
        drop: chance to drop each of target, keywords and soft tokens.
        shape: of a latent, `(C, h, w)`.

    Raises:
        PmgError: `drop` names other parts, or a value is no probability.
    """

    def __init__(
        self,
        questions: Sequence[Sequence[tuple[int, int]]],
        latents: Latents,
        timesteps: int,
        draws: Count,
        drop: Mapping[str, Share],
        shape: tuple[int, int, int],
    ) -> None:
        if set(drop) != set(PARTS) or not all(0 <= chance <= 1 for chance in drop.values()):
            raise PmgError(f"objective.batches.drop needs a chance from 0 to 1 for {', '.join(PARTS)}, got {drop}")
        self.questions = [torch.tensor(pairs) for pairs in questions]
        self.latents, self.timesteps, self.draws, self.drop, self.shape = latents, timesteps, draws, drop, shape

    def __call__(self, users: Tensor, generator: torch.Generator) -> Batch:
        """A batch for `users` `(U,)`, without its latents; all its randomness comes from `generator`."""
        chosen = [self.questions[user] for user in users.tolist()]
        picks = [torch.randint(len(pairs), (self.draws,), generator=generator) for pairs in chosen]
        truth, target = torch.cat([pairs[pick] for pairs, pick in zip(chosen, picks, strict=True)]).T
        batch = {
            "users": users,
            "target": target,
            "truth": truth,
            "next_target": target.roll(-self.draws),  # the next user's, who may be in another process's share
            "next_truth": truth.roll(-self.draws),
            "noise": torch.randn(len(truth), *self.shape, generator=generator),
            "timesteps": torch.randint(self.timesteps, (len(truth),), generator=generator),
        }
        for part in PARTS:
            batch[f"keep_{part}"] = torch.rand(len(truth), generator=generator) >= self.drop[part]
        return batch

    def read(self, batch: Batch) -> Batch:
        """The batch, or a share of it, with latents instead of their rows."""
        truths = [batch["truth"], batch["next_truth"]]
        own, others = self.latents[torch.cat(truths)].split([len(rows) for rows in truths])
        kept = {name: part for name, part in batch.items() if name not in ("truth", "next_truth")}
        return {**kept, "latents": own, "next_latents": others}

    def fixed(self, users: Tensor, batch_size: int, seed: int) -> list[Batch]:
        """Validation batches with nothing dropped and noise that never changes."""
        batches = []
        for number, part in enumerate(users.split(batch_size)):
            batch = self.read(self(part, torch.Generator().manual_seed(seed + number)))
            batches.append({k: torch.ones_like(v) if k.startswith("keep_") else v for k, v in batch.items()})
        return batches


class PreferenceTraining(pl.LightningModule):
    """Trains the soft branch; everything else is frozen and stays out of checkpoints.

    Args:
        encoder: the trainable part.
        language_model: frozen; reads soft tokens behind cached histories.
        generator: frozen; its denoising loss is the objective.
        context: what is known of all users, training and validation: their histories, or the images in them.
        targets: encoded target keywords.
        keywords: encoded preference keywords, one row a user.
        empty: the encoded empty text, one row.
        learning_rate: its peak.
        snr_gamma: min-SNR ceiling, or None.
        terms: what is minimised, by name; each is logged under its name.
        ema_decay: decay of the moving average of the encoder's weights, which is validated and kept; None keeps
            the last weights.
        schedule: of the learning rate, see `pmg.training.optim.SCHEDULES`.

    Raises:
        PmgError: there are no terms, or there is no such schedule.
    """

    def __init__(
        self,
        encoder: PreferenceEncoder | ImagePromptEncoder,
        language_model: LanguageModel,
        generator: Generator,
        context: Contexts | HistoryFeatures,
        targets: Block,
        keywords: Block | UnkeptTexts,
        empty: Block,
        learning_rate: Positive,
        snr_gamma: Positive | None,
        terms: Mapping[str, Term],
        ema_decay: Decay | None = None,
        schedule: str = "one_cycle",
    ) -> None:
        super().__init__()
        if not terms:
            raise PmgError("objective.module.terms is empty: name at least one term, e.g. objective=denoise")
        if schedule not in SCHEDULES:
            raise PmgError(f"objective.module.schedule: no schedule '{schedule}'. Use one of {', '.join(SCHEDULES)}")
        self.schedule = SCHEDULES[schedule]
        self.encoder = encoder
        self._frozen = (language_model, generator)  # in a tuple: not sub-modules, so never saved or trained
        self.context, self.targets, self.keywords, self.empty = context, targets, keywords, empty
        self.learning_rate, self.snr_gamma, self.terms = learning_rate, snr_gamma, terms
        decays = [] if ema_decay is None else [ema_decay]
        self.averages = [AveragedWeights(encoder, decay, self._fit_to_sample) for decay in decays]

    @property
    def language_model(self) -> LanguageModel:
        """The frozen language model."""
        return self._frozen[0]

    def transfer_batch_to_device(self, batch: Batch, *_: object) -> Batch:
        """Leaves batches where histories and texts lie, on the processor; what a step needs is moved by itself."""
        return batch

    def losses(self, batch: Batch) -> Losses:
        """What the terms can ask of a batch; soft tokens are computed once for all of them."""
        language_model, generator = self._frozen
        tokens = self.encoder(language_model, self.context.select(batch["users"]))
        draws = len(batch["target"]) // len(batch["users"])
        everywhere = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        soft = Block(tokens, everywhere).repeat(draws).masked(batch["keep_soft"].to(tokens.device))
        words = self.keywords[batch["users"]].repeat(draws).masked(batch["keep_keywords"]).to(tokens.device)

        def ask(whose: Whose) -> Tensor:
            prefix = "next_" if whose == "next" else ""
            targets = drop_target(self.targets[batch[f"{prefix}target"]], self.empty, batch["keep_target"])
            condition = join(targets.to(tokens.device), words, soft)
            latents = batch[f"{prefix}latents"]
            return generator.denoising_loss(latents, batch["noise"], batch["timesteps"], condition, self.snr_gamma)

        return Losses(ask, len(batch["target"]))

    def loss(self, batch: Batch, stage: str) -> Tensor:
        """The objective, averaged over a batch's questions; logs it and each of its terms."""
        losses = self.losses(batch)
        means = {name: term(losses).mean() for name, term in self.terms.items()}
        total = sum(term.weight * means[name] for name, term in self.terms.items())
        named = {f"{stage}/{name}": mean for name, mean in means.items()}
        self.log_dict(named, prog_bar=True, batch_size=losses.questions, sync_dist=True)
        self.log(f"{stage}/total", total, batch_size=losses.questions, sync_dist=True)
        return total

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One step."""
        return self.loss(batch, "train")

    def validation_step(self, batch: Batch, _: int) -> None:
        """The objective on users that training doesn't see, with fixed noise and timesteps."""
        with uncompiled():  # without gradients it would be compiled once more
            self.loss(batch, "val")

    def configure_callbacks(self) -> list[pl.Callback]:
        """The moving average, where there is one."""
        return list(self.averages)

    def configure_optimizers(self) -> dict:
        """AdamW on the schedule."""
        return self.schedule(self, self.encoder.parameters(), self.learning_rate)

    def finish(self, users: Tensor, batch_size: int = 50) -> None:
        """Takes the moving average and fits the statistics to `users` `(U,)`: what is left once training is over."""
        for average in self.averages:
            average.copy()
        self._fit(users, batch_size)

    def _fit_to_sample(self, size: int = 50) -> None:
        """Fits the statistics to some of the training users."""
        self._fit(self.trainer.datamodule.train.rows[:size], size)

    def _fit(self, users: Tensor, batch_size: int) -> None:
        self.encoder.eval()
        language_model, _ = self._frozen
        with torch.no_grad(), uncompiled():
            parts = [self.encoder.states(language_model, self.context.select(u)) for u in users.split(batch_size)]
        self.encoder.fit_statistics(torch.cat(parts))
