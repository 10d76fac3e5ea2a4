"""The text encoders of Stable Diffusion 1, 2 and XL: one or two CLIP models that pad every text to one length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from pmg.models.diffusion.conditioning import TextBlock
from pmg.models.diffusion.text_encoder import FrozenTextEncoder, TextSizes
from pmg.models.diffusion.text_tower import TextTower


class ClipTextEncoder(FrozenTextEncoder):
    """Tokens of one or several text models, concatenated along their width; the last model pools.

    Args:
        towers: text models, padded to the same length (Podell et al. 2023, section 2.1).
        zero_empty: whether the empty text is zeros (SDXL base) instead of the models' states.
    """

    def __init__(self, towers: Sequence[TextTower], zero_empty: bool = False) -> None:
        super().__init__(towers[0].max_length)
        self.towers, self.tokenizer = nn.ModuleList(towers), towers[0].tokenizer
        self._pooled_width = towers[-1].pooled_width
        self.zero_empty = zero_empty
        self._width = sum(tower.width for tower in towers)

    @property
    def width(self) -> int:
        """Width `D` of the tokens, over all models."""
        return self._width

    def token_ids(self, text: str) -> list[int]:
        """Returns the tokens of a text, special tokens included."""
        return list(self.tokenizer(text)["input_ids"])

    def longest(self) -> TextSizes:
        """Returns the sizes of all texts, which are padded, see `FrozenTextEncoder.longest`."""
        return super().longest()._replace(pooled=self._pooled_width)

    def _encode(self, texts: list[str]) -> TextBlock:
        self.check_lengths(texts)
        blocks = [tower(texts) for tower in self.towers]
        tokens, pooled = torch.cat([block.tokens for block in blocks], dim=-1), blocks[-1].pooled
        shown = torch.tensor([bool(text) or not self.zero_empty for text in texts], device=tokens.device)
        return TextBlock(tokens * shown[:, None, None], blocks[0].mask, pooled * shown[:, None])
