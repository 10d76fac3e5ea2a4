"""The text encoders of Stable Diffusion: CLIP towers that read every text at one length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerBase

from pmg.models.diffusion.conditioning import Block
from pmg.models.diffusion.text_encoder import TextEncoder

Tower = tuple[CLIPTextModel | CLIPTextModelWithProjection, PreTrainedTokenizerBase]


class ClipTextEncoder(TextEncoder):
    """One tower (Stable Diffusion 1 and 2) or two (SDXL).

    Texts are padded to the towers' full length and all places count, since that is what the denoiser was trained
    with. One tower gives its last hidden states and its pooled output; two give their last hidden states but one, side
    by side, and the second tower's projected text vector (Podell et al. 2023, section 2.1).

    Args:
        towers: models with their tokenizers.
        zero_empty: whether the empty text is zeros (SDXL base) and not what the towers say of it.
    """

    def __init__(self, towers: Sequence[Tower], zero_empty: bool = False) -> None:
        (model, tokenizer), *others = towers
        super().__init__(model, tokenizer, max_length=tokenizer.model_max_length)
        self.second = torch.nn.ModuleList([other.requires_grad_(False).eval() for other, _ in others])
        self.tokenizers = [own for _, own in towers]
        self.zero_empty = zero_empty

    @property
    def width(self) -> int:
        """Width `D` of its tokens, over both towers."""
        return sum(tower.config.hidden_size for tower in (self.model, *self.second))

    def _encode(self, texts: list[str]) -> Block:
        self.check_lengths(texts)
        read = [
            tower(self._tokens(tokenizer, texts), output_hidden_states=True)
            for tower, tokenizer in zip((self.model, *self.second), self.tokenizers, strict=True)
        ]
        if self.second:
            tokens, pooled = torch.cat([part.hidden_states[-2] for part in read], dim=-1), read[-1].text_embeds
        else:
            tokens, pooled = read[0].last_hidden_state, read[0].pooler_output
        block = Block(tokens.float(), torch.ones(tokens.shape[:2], dtype=torch.bool), pooled.float())
        told = torch.tensor([bool(text) or not self.zero_empty for text in texts], device=tokens.device)
        return Block(block.tokens * told[:, None, None], block.mask, block.pooled * told[:, None])

    def _tokens(self, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Tensor:
        padded = tokenizer(texts, padding="max_length", max_length=self.max_length, return_tensors="pt")
        return padded["input_ids"].to(self.model.device)
