"""A generator without noise: predicts the tokens of an image behind prompt and preference.

Shapes: `B` batch, `L` tokens of width `D`, `T` image tokens, `N` entries of the codebook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Condition, stack
from pmg.models.diffusion.interfaces import Capabilities, DenoisingOutputs, PromptEncoder, Start
from pmg.models.diffusion.sampling import combine
from pmg.models.image_passes import ImagePasses
from pmg_janus.image_transformer import ImageTransformer, InputSequence, TokenDecoding
from pmg_janus.prompts import PromptFrame


class ImageTokenizer(nn.Module):
    """The image tokenizer of Janus: an autoencoder whose latents are `codes` entries of a codebook.

    An image of `size` pixels a side has `T` `tokens`, `side` a side, row after row.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.codes, self.side = model, int(model.config.num_embeddings), int(model.config.num_patches)
        self.tokens, self.size = self.side**2, self.side * 2 ** (len(model.config.channel_multiplier) - 1)

    def encode(self, images: Tensor) -> Tensor:
        """Returns tokens `(B, T)`, int64, of images `(B, 3, size, size)` in [-1, 1].

        A token is the entry of the smallest angle to the latent, as in training (Yu et al. 2022, section 3.2), where
        ``JanusVQVAE.encode`` of transformers 5.24 also compares lengths, which its ``decode`` doesn't see.
        """
        latents = self.model.quant_conv(self.model.encoder(images.to(self.model.dtype)))
        latents = normalize(latents.permute(0, 2, 3, 1).flatten(1, 2), dim=-1)
        return (latents @ normalize(self.model.quantize.embedding.weight, dim=-1).T).argmax(-1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Returns images `(B, 3, size, size)` in [-1, 1], float32, of tokens `(B, T)`."""
        return self.model.decode(tokens.long()).to(torch.float32).clamp(-1, 1)


class ImageTokenGenerator(ImagePasses):
    """Implements `Generator` by a language model over image tokens, `(T,)` of an image.

    A sequence is the prompt, the blocks of the preference, the end of the chat template, the token that begins an
    image, and the image's tokens. Guidance mixes logits of the next token. The text encoder returns input embeddings;
    `frame` is what is around prompt and preference; tokens are drawn at a `temperature`, at 0 the likeliest.
    """

    def __init__(
        self, tokenizer: ImageTokenizer, transformer: ImageTransformer, text_encoder: PromptEncoder,
        frame: PromptFrame, temperature: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokenizer, self.transformer, self.text_encoder = tokenizer, transformer, text_encoder
        self.frame, self.temperature = frame, temperature
        self.size = self.encoded_size = tokenizer.size
        self.latent_shape = (tokenizer.tokens,)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.transformer.device

    @property
    def supports(self) -> Capabilities:
        """Biases of attention; there are no solver steps."""
        return Capabilities(attention_bias=True, fixed_steps=self.tokenizer.tokens)

    def encode_pass(self, images: Tensor) -> Tensor:
        """Returns tokens `(B, T)` of images `(B, 3, size, size)`, both on the weights' device."""
        return self.tokenizer.encode(images)

    def decode_pass(self, latents: Tensor) -> Tensor:
        """Returns images `(B, 3, size, size)` of tokens `(B, T)`, both on the weights' device."""
        return self.tokenizer.decode(latents)

    def frozen_models(self) -> dict[str, nn.Module]:
        """Returns the models by name, first the one that runs once a token."""
        return {"image transformer": self.transformer, "image tokenizer": self.tokenizer}

    def sequence(self, condition: Condition, lengths: Tensor | None = None) -> InputSequence:
        """Returns what precedes an image's first token.

        The end of the chat template follows a prompt, and no dropped one. The empty condition is padded where the
        frame has padding, to `lengths`, int64 `(B,)`; None: it is not. With each of its tokens replaced by padding, a
        prompt is dropped in the training of Janus.
        """
        condition = condition.to(self.device, self.transformer.dtype)
        suffix = self._fixed(self.frame.suffix, len(condition))
        parts = [InputSequence.of(condition.tokens, condition.mask, condition.bias)]
        if lengths is not None and self.frame.padding is not None:
            parts.append(self._padding(condition, lengths, self.frame.padding))
        return InputSequence.join([
            *parts,
            InputSequence.of(suffix, self._prompted(condition)[:, None].expand(suffix.shape[:2])),
            self._visible(self._fixed([self.frame.start], len(condition))),
        ])  # fmt: skip

    @staticmethod
    def _prompted(condition: Condition) -> Tensor:
        """Returns which rows have a prompt, bool `(B,)`: the empty one is the first token alone."""
        prompt = condition.mask.sum(1) if condition.target_length is None else condition.target_length
        return prompt > 1

    def lengths(self, condition: Condition) -> Tensor:
        """Returns the length of the unpadded sequence of each row, int64 `(B,)`."""
        return condition.mask.sum(1) + len(self.frame.suffix) * self._prompted(condition) + 1

    def _padding(self, condition: Condition, lengths: Tensor, token: int) -> InputSequence:
        """Returns what pads the rows of the empty condition to lengths `(B,)`."""
        empty = condition.mask.sum(1) == 1
        missing = (lengths.to(self.device) - self.lengths(condition)).clamp(min=0) * empty
        count = int(missing.max())
        visible = torch.arange(count, device=self.device) < missing[:, None]
        return InputSequence.of(self._fixed([token] * count, len(condition)), visible)

    def _fixed(self, tokens: Sequence[int], batch: int) -> Tensor:
        """Returns the embeddings of text tokens, of each row."""
        words = torch.tensor(tokens, dtype=torch.long, device=self.device)
        embeds = self.transformer.language_model.get_input_embeddings()(words)
        return embeds.to(self.transformer.dtype).expand(batch, *embeds.shape)

    @staticmethod
    def _visible(embeds: Tensor) -> InputSequence:
        return InputSequence.of(embeds, torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device))

    def predict(self, tokens: Tensor, condition: Condition) -> Tensor:
        """Returns float32 logits `(B, T, N)` of the tokens `(B, T)` of images, each under those before it."""
        before = self._visible(self.transformer.embed_images(tokens[:, :-1].to(self.device)))
        whole = InputSequence.join([self.sequence(condition), before])
        return self.transformer.predict(whole.embeds, whole.attention_mask(), whole.positions, tokens.shape[1])

    def sample_inputs(self, count: int, rng: torch.Generator) -> dict[str, Tensor]:
        """Returns nothing: the loss isn't random."""
        return {}

    def loss(self, latents: Tensor, condition: Condition, inputs: Mapping[str, Tensor]) -> Tensor:
        """Returns the cross-entropy of each image's tokens, their mean, `(B,)`, see `Generator.loss`."""
        tokens = latents.to(self.device).long()
        return cross_entropy(self.predict(tokens, condition).mT, tokens, reduction="none").mean(1)

    def denoising_outputs(
        self, latents: Tensor, condition: Condition, inputs: Mapping[str, Tensor]
    ) -> DenoisingOutputs:  # fmt: skip
        """Raises a `PmgError`: the generator removes no noise."""
        raise PmgError(
            "an objective term reads predictions of noise, and this generator predicts image tokens. Leave it out."
        )

    @torch.no_grad()
    def sample(
        self, branches: Sequence[Condition], coefficients: Sequence[float], seeds: Sequence[int], steps: int,
        guidance: float | None = None, start: Start | None = None,
    ) -> Tensor:  # fmt: skip
        """Returns tokens `(B, T)` on the weights' device, see `Generator.sample`.

        All branches go through the language model in one batch: a token costs an evaluation of each branch and image.
        PmgError if `steps` is not the number of tokens.
        """
        if steps != self.tokenizer.tokens:
            raise PmgError(f"this generator makes {self.tokenizer.tokens} tokens, and takes no {steps} steps.")
        stacked, count = stack(branches), len(branches)
        lengths = self.lengths(stacked).view(count, -1).amax(0).repeat(count)
        decoding = TokenDecoding(self.transformer, self.sequence(stacked, lengths))
        rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
        drawn: list[Tensor] = []
        for _ in range(steps):
            if drawn:
                decoding.append(drawn[-1].repeat(count))
            drawn.append(self._draw(combine(decoding.logits.chunk(count), coefficients), rngs).to(self.device))
        return torch.stack(drawn, 1)

    def _draw(self, logits: Tensor, rngs: Sequence[torch.Generator]) -> Tensor:
        """Returns a token of each row `(B,)`, drawn on the CPU, so that it depends on no device."""
        if self.temperature == 0:
            return logits.argmax(-1)
        chances = (logits / self.temperature).softmax(-1).cpu()
        return torch.cat([torch.multinomial(row, 1, generator=rng) for row, rng in zip(chances, rngs, strict=True)])

    def compile_model(self, dynamic: bool | None) -> None:
        """Compiles the language model on its next call, see `Generator.compile_model`."""
        self.transformer.language_model.compile(dynamic=dynamic)
