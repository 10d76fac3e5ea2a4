"""Textual inversion, a baseline: soft tokens of each user, learned from that user's own history images alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.progress import track
from torch import Tensor, nn

from pmg.models.conditioning import Block, join
from pmg.models.generator import Generator

CHUNK = 32  # users that learn side by side; their results don't depend on it


@dataclass(frozen=True)
class HistoryImages:
    """One user's history, as the generator sees it.

    Attributes:
        latents: normalised latents `(H, C, h, w)`.
        captions: rows `(H,)` of the encoded captions.
    """

    latents: Tensor
    captions: Tensor


class TextualInversion:
    """Optimises n tokens a user by the denoising loss (Gal et al. 2023, equation 2).

    Args:
        generator: frozen.
        word: every token starts from this word's embedding.
        tokens: n, tokens a user.
        steps: optimiser steps a user.
        draws: noisy history images a step.
        learning_rate: Adam's.
    """

    def __init__(
        self, generator: Generator, word: str = "style", tokens: int = 4, steps: int = 50, draws: int = 4,
        learning_rate: float = 0.05,
    ) -> None:  # fmt: skip
        self.generator, self.word, self.tokens = generator, word, tokens
        self.steps, self.draws, self.learning_rate = steps, draws, learning_rate

    def __call__(self, users: Sequence[HistoryImages], captions: Block, seed: int) -> Tensor:
        """Learns every user's tokens.

        Args:
            users: their histories, U of them.
            captions: encoded captions of the history's items.
            seed: of images, noise and timesteps; each user has draws of their own.

        Returns:
            `(U, n, D)`.
        """
        chunks = [range(start, min(start + CHUNK, len(users))) for start in range(0, len(users), CHUNK)]
        learned = [
            self._learn([users[row] for row in rows], captions, [seed * len(users) + row for row in rows])
            for rows in track(chunks, description="Textual inversion")
        ]
        return torch.cat(learned)

    def start(self, users: int) -> Tensor:
        """The word's embedding for every token of `users` users, `(users, n, D)`."""
        encoded = self.generator.text_encoder.encode([self.word])
        return encoded.tokens[:, 1:2].repeat(users, self.tokens, 1)  # place 0 is the start of the text

    def _learn(self, users: Sequence[HistoryImages], captions: Block, seeds: Sequence[int]) -> Tensor:
        tokens = nn.Parameter(self.start(len(users)))
        optimizer = torch.optim.Adam([tokens], lr=self.learning_rate)  # elementwise: users don't touch each other
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for _ in range(self.steps):
            batch = [self._draw(user, own) for user, own in zip(users, generators, strict=True)]
            latents, rows, noise, timesteps = (torch.cat(parts) for parts in zip(*batch, strict=True))
            soft = Block(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool)).repeat(self.draws)
            loss = self.generator.denoising_loss(latents, noise, timesteps, join(captions[rows], soft))
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
        return tokens.detach()

    def _draw(self, user: HistoryImages, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        picks = torch.randint(len(user.latents), (self.draws,), generator=generator)
        latents = user.latents[picks]
        noise = torch.randn(latents.shape, generator=generator)
        limit = self.generator.noise_scheduler.config.num_train_timesteps
        return latents, user.captions[picks], noise, torch.randint(limit, (self.draws,), generator=generator)
