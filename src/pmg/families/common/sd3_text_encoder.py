"""The text encoders of Stable Diffusion 3: two CLIP models, and T5."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pmg.models.diffusion.conditioning import Block, TextBlock
from pmg.models.diffusion.text_encoder import FrozenTextEncoder
from pmg.models.diffusion.text_tower import TextTower


class SD3TextEncoder(FrozenTextEncoder):
    """Tokens of the CLIP models, concatenated along their width and padded with zeros, followed by those of T5.

    The pooled vectors of the CLIP models are concatenated (Esser et al. 2024, section 4).

    Args:
        clips: CLIP models with projections, of one token length.
        t5: of the transformer's width; None: `t5_length` visible tokens of zeros, with which the transformer was
            trained, too.
        width: width `D` of the transformer's text tokens.
        t5_length: tokens in place of T5's.
    """

    t5: TextTower | None

    def __init__(self, clips: Sequence[TextTower], t5: TextTower | None, width: int, t5_length: int = 256) -> None:
        super().__init__(clips[0].max_length)
        self.clips, self.tokenizer = nn.ModuleList(clips), clips[0].tokenizer
        self.t5 = t5
        self._width, self.t5_length = width, t5_length

    @property
    def width(self) -> int:
        """Width `D` of the tokens."""
        return self._width

    def token_ids(self, text: str) -> list[int]:
        """Returns the tokens of a text by CLIP, special tokens included; T5 takes longer texts."""
        return list(self.tokenizer(text)["input_ids"])

    def _encode(self, texts: list[str]) -> TextBlock:
        self.check_lengths(texts)
        blocks = [clip(texts) for clip in self.clips]
        clip_tokens = torch.cat([block.tokens for block in blocks], dim=-1)
        long = self._encode_long(texts, clip_tokens)
        tokens = torch.cat([pad(clip_tokens, (0, self.width - clip_tokens.shape[-1])), long.tokens], dim=1)
        mask = torch.cat([blocks[0].mask, long.mask], dim=1)
        return TextBlock(tokens, mask, torch.cat([block.pooled for block in blocks], dim=-1))

    def _encode_long(self, texts: list[str], like: Tensor) -> Block:
        """Returns T5's tokens `(B, L, D)`, or zeros in their place."""
        if self.t5 is not None:
            return self.t5(texts)
        zeros = like.new_zeros(len(texts), self.t5_length, self.width)
        return Block(zeros, torch.ones(zeros.shape[:2], dtype=torch.bool, device=like.device))
