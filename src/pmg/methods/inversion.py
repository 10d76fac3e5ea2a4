"""Textual inversion, a baseline: soft tokens of each user, learned from that user's own history images alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pmg.cache import Cache
from pmg.configuration.ranges import Count, Positive
from pmg.data.dataset import ImageStore, require_liked
from pmg.domain import Example, PmgError
from pmg.methods.word_tokens import own_tokens
from pmg.models.diffusion.conditioning import Block, SoftBlock, join
from pmg.models.diffusion.interfaces import Generator, PromptEncoder
from pmg.preferences.sources import SourceContext, TokenSource
from pmg.progress import track
from pmg.seeding import stable_number

CHUNK = 32  # users of one batch and of one cache entry


@dataclass(frozen=True)
class HistoryImages:
    """The liked images of one user: normalised latents `(H, C, h, w)`, and rows `(H,)` of the encoded captions."""

    latents: Tensor
    captions: Tensor


@dataclass(frozen=True)
class InvertedTokens(TokenSource):
    """Soft tokens of each user, optimised by the loss on liked images (Gal et al. 2023, equation 2), and cached."""

    word: str = "style"  # every token starts from this word's embedding
    tokens: Count = 4  # n, tokens a user
    steps: Count = 50  # optimiser steps a user
    draws: Count = 4  # noisy history images a step
    learning_rate: Positive = 0.05  # Adam's

    def __call__(self, context: SourceContext) -> Tensor:
        """Returns the learned tokens `(U, n, D)`."""
        return invert_histories(
            self, context.generator, context.examples, context.images, context.extractor.scenario.scene_words,
            context.cache, identity=f"{context.identity} {self!r}", seed=context.seed,
        )  # fmt: skip

    def learn(
        self, generator: Generator, users: Sequence[HistoryImages], captions: Block, seeds: Sequence[int]
    ) -> Tensor:
        """Returns learned tokens `(U, n, D)` of all users, in one batch; seeds are of the images, noise and times."""
        tokens = nn.Parameter(self.start(generator.text_encoder, len(users)))
        optimizer = torch.optim.Adam([tokens], lr=self.learning_rate)  # elementwise: users are independent
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for _ in range(self.steps):
            batch = [self._draw(generator, user, own) for user, own in zip(users, generators, strict=True)]
            latents, rows = (torch.cat(parts) for parts in zip(*((u, c) for u, c, _ in batch), strict=True))
            inputs = {name: torch.cat([drawn[name] for *_, drawn in batch]) for name in batch[0][2]}
            soft = SoftBlock.of(tokens).repeat(self.draws)
            loss = generator.loss(latents, join(captions[rows], soft), inputs)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
        return tokens.detach()

    def start(self, text_encoder: PromptEncoder, users: int) -> Tensor:
        """Returns the mean embedding of the word's tokens, `(users, n, D)`; PmgError where it has none."""
        (own,) = own_tokens(text_encoder, [self.word])
        if not len(own):
            raise PmgError(f"preference.inversion.word is {self.word!r}, which has no tokens. Name a word, e.g. style")
        return own.mean(0).repeat(users, self.tokens, 1)  # one may be a word and the space that a template ends with

    def _draw(
        self, generator: Generator, user: HistoryImages, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Returns latents and caption rows of random history images, and the random inputs of their loss."""
        picks = torch.randint(len(user.latents), (self.draws,), generator=rng)
        return user.latents[picks], user.captions[picks], generator.sample_inputs(self.draws, rng)


def invert_histories(
    inversion: InvertedTokens, generator: Generator, examples: Sequence[Example], images: ImageStore,
    scene_words: Sequence[str], cache: Cache, *, identity: str, seed: int,
) -> Tensor:  # fmt: skip
    """Returns tokens `(U, n, D)` learned from the liked images of histories, one a user; chunks are cached."""
    liked = partial(require_liked, images, need="textual inversion")

    def learn(part: Sequence[Example]) -> dict[str, Tensor]:
        """Returns the tokens of a chunk of users, `(C, n, D)`, in the form that the cache keeps."""
        items = list({item.id: item for example in part for item in liked(example)}.values())
        row = {item.id: number for number, item in enumerate(items)}
        captions = generator.text_encoder.encode([", ".join([item.title, *scene_words]) for item in items])
        latents = generator.encode_images(images.pixels(images.rows(items)))
        rows = [torch.tensor([row[item.id] for item in liked(example)]) for example in part]
        histories = [HistoryImages(latents[own], own) for own in rows]
        seeds = [stable_number("inversion", seed, example.profile) % 2**62 for example in part]
        return {"tokens": inversion.learn(generator, histories, captions, seeds)}

    chunks = [examples[start : start + CHUNK] for start in range(0, len(examples), CHUNK)]
    learned = []
    for part in track(chunks, "Textual inversion"):
        histories = {example.profile: [item.id for item in liked(example)] for example in part}
        key = Cache.key(kind="inversion", identity=identity, scene=list(scene_words), histories=histories)
        learned.append(cache.fetch(key, partial(learn, part))["tokens"])
    return torch.cat(learned)
