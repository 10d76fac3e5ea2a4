"""Interfaces of image generators, and of the parts that diffusion and flow-matching generators are composed of.

    batch = generator.sample_inputs(len(latents), rng)            # training
    loss = generator.loss(latents, condition, batch)
    images = generator.decode(generator.sample([condition], [1.0], seeds, steps=12))

`Generator` is all that training, generation and evaluation use. `DiffusionGenerator` implements it by a
`PromptEncoder`, a `DiffusersDenoiser` with its `ConditionAdapter`, a `NoiseProcess` and a `LatentCodec`. A
generator without noise, e.g. an autoregressive one, implements `Generator` itself.

Shapes: `B` batch, `C, h, w` latents, `H, W` pixels, `L` tokens of width `D`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from diffusers import ModelMixin
from torch import Tensor

from pmg.models.diffusion.conditioning import Condition, TextBlock

ALLOW_MORE = (
    "raise generator.max_length where there is one, or text_encoder.max_length with a generator without a text "
    "encoder of its own"
)  # the way out for a text that is longer than a `PromptEncoder` reads


@dataclass(frozen=True)
class Capabilities:
    """What a generator supports beyond a condition's tokens and mask.

    Attributes:
        attention_bias: whether it adds `Condition.bias` to the attention logits of the tokens.
        guidance_input: whether guidance is distilled into the model, which takes its scale as an input (LCM).
        embedding_scale: whether the scale of a token has an effect; False: the model normalises its text tokens.
        distilled_from: the checkpoint that a step-distilled model was made from, which has no guidance; "": none.
        references: whether it sees `Condition.references`.
        prompts_with_references: whether its text encoder reads a prompt behind them, see `PicturePromptEncoder`.
        fixed_steps: evaluations of a sampling, e.g. image tokens, where the model has no solver steps; None: it has.
        names: of all that it was trained to draw, other names by title; empty: it isn't limited to certain titles.
    """

    attention_bias: bool = False
    guidance_input: bool = False
    embedding_scale: bool = True
    distilled_from: str = ""
    references: bool = False
    prompts_with_references: bool = False
    fixed_steps: int | None = None
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


class PromptEncoder(Protocol):
    """Frozen text encoders of a generator, one or several."""

    max_length: int
    """Longest text in tokens, special tokens included."""

    @property
    def width(self) -> int:
        """Width `D` of the tokens."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def token_ids(self, text: str) -> list[int]:
        """Returns the tokens of a text, special tokens included, whose vectors are the first ones of `encode`."""

    def count_tokens(self, text: str) -> int:
        """Returns the length of a text in tokens, special tokens included."""

    def encode(self, texts: Sequence[str], *, padded: bool = True) -> TextBlock:
        """Returns tokens `(B, L, D)`, their mask, and a pooled vector of each text, on the CPU.

        If `padded`, texts have the visible padding that the generator was trained with, as the target block needs it;
        else none where the generator allows that, for blocks behind the target. PmgError if a text is longer than
        `max_length`.
        """


class ConditionAdapter(Protocol):
    """Translates a condition to the keyword arguments of one kind of denoiser."""

    @property
    def supports(self) -> Capabilities:
        """What the denoiser supports."""

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the denoiser, without its latents and times.

        Args:
            condition: of `B` rows, on the denoiser's device and in its type. Tokens outside the mask must have no
                effect on the denoiser's output.
            guidance: scale for denoisers with ``guidance_input``; None: 1.
            reused: whether the result serves many calls; then keys and values may be computed in advance.
        """


class LatentCodec(Protocol):
    """Images to normalised latents and back."""

    autoencoder: ModelMixin
    """The model of diffusers."""

    @property
    def channels(self) -> int:
        """Channels `C` of the latents."""

    @property
    def downsampling(self) -> int:
        """Pixels a side of one latent, in pictures to encode."""

    @property
    def enlargement(self) -> int:
        """Side of decoded pictures to that of encoded ones."""

    def encode(self, images: Tensor) -> Tensor:
        """Returns normalised latents `(B, C, h, w)`, float32, of images `(B, 3, H, W)` in [-1, 1]."""

    def decode(self, latents: Tensor) -> Tensor:
        """Returns images `(B, 3, H, W)` in [-1, 1], float32, of normalised latents `(B, C, h, w)`."""


@dataclass(frozen=True)
class DenoisingOutputs:
    """What a denoiser computes in a training step."""

    loss: Tensor  # weighted error of each sample, `(B,)`
    noisy_latents: Tensor  # the denoiser's input, `(B, C, h, w)`
    prediction: Tensor  # its output, `(B, C, h, w)`, float32
    target: Tensor  # what the prediction is compared with, `(B, C, h, w)`


@dataclass(frozen=True)
class Start:
    """Images that sampling starts from in place of noise alone (SDEdit, Meng et al. 2022).

    Attributes:
        latents: of the images, `(B, *latent_shape)`.
        strength: share of the solver's time that is left, in (0, 1], as in diffusers; the larger, the less is kept. It
            is rounded to steps / a whole number: with four steps .9 acts as 4/5.
        denoiser: a `DiffusersDenoiser` that was trained to draw from such images; None: the generator's own.
    """

    latents: Tensor
    strength: float
    denoiser: Any = None


class Generator(Protocol):
    """A frozen model that generates images under a condition, and the loss by which the condition is trained."""

    text_encoder: PromptEncoder

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    @property
    def size(self) -> int:
        """Side of the images in pixels."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of what `encode_images` returns of one image."""

    @property
    def supports(self) -> Capabilities:
        """What the generator supports."""

    def encode_images(self, images: Tensor) -> Tensor:
        """Returns latents `(B, *latent_shape)`, on the CPU, of images `(B, 3, H, W)` in [-1, 1] of any size.

        `loss` takes them: normalised latents of a diffusion model, numbers of an autoregressive model's tokens.
        """

    def decode(self, latents: Tensor) -> Tensor:
        """Returns images `(B, 3, size, size)` in [-1, 1], on the CPU, of latents `(B, *latent_shape)`."""

    def sample_inputs(self, count: int, rng: torch.Generator) -> dict[str, Tensor]:
        """Returns the random inputs of `loss` for `count` samples, by name, each of `count` rows.

        A diffusion generator returns ``noise`` and ``times``; a generator whose loss isn't random returns nothing.
        """

    def loss(self, latents: Tensor, condition: Condition, inputs: Mapping[str, Tensor]) -> Tensor:
        """Returns the loss of each sample, `(B,)`; it is differentiable with respect to the condition.

        Latents are those of the true images, `(B, *latent_shape)`, on any device; `inputs` has at least what
        `sample_inputs` returned, and further entries are ignored.
        """

    def denoising_outputs(
        self, latents: Tensor, condition: Condition, inputs: Mapping[str, Tensor]
    ) -> DenoisingOutputs:  # fmt: skip
        """Returns the loss with noisy latents, prediction and target, for the same arguments as `loss`.

        Only generators that remove noise have them, others raise a PmgError; they serve objective terms that declare
        to need them.
        """

    def sample(
        self, branches: Sequence[Condition], coefficients: Sequence[float], seeds: Sequence[int], steps: int,
        guidance: float | None = None, start: Start | None = None,
    ) -> Tensor:  # fmt: skip
        """Returns generated latents `(B, *latent_shape)`.

        Args:
            branches: conditions of `B` rows each, whose predictions are mixed.
            coefficients: of each branch's prediction, summing to 1.
            seeds: of each image, `B`; an image depends on its own seed, and not on the batch.
            steps: solver steps, or `Capabilities.fixed_steps`.
            guidance: scale for generators with ``guidance_input``.
            start: what solvers start from in place of noise alone; generators with ``fixed_steps`` are called without.
        """

    def compile_model(self, dynamic: bool | None) -> None:
        """Compiles what runs once a step, on its next call; if `dynamic`, one compilation serves all batch sizes."""
