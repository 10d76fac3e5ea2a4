"""The token editor: style tokens of a look in which some attributes are as somebody asked for.

Shapes: `B` batch, `n` tokens, `D` their width, `A` attributes, `W` width of an option's text vector.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from pmg.configuration.ranges import Count, Fraction


class TokenEditor(ModelMixin, ConfigMixin):
    """Changes style tokens by options of attributes, given as the text encoder's pooled vectors.

    A residual network of `layers` layers, `hidden` wide, over the tokens and the sum of what is read of each option.
    """

    @register_to_config
    def __init__(
        self, tokens: Count = 4, width: Count = 384, words: Count = 384, hidden: Count = 768, layers: Count = 3,
        dropout: Fraction = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.register_buffer("mean", torch.zeros(tokens, width))  # tokens of somebody who liked no picture
        self.read_option = nn.Sequential(nn.Linear(words, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.read_tokens = nn.Linear(tokens * width, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Dropout(dropout),
                nn.Linear(hidden, hidden),
            )
            for _ in range(layers)
        )  # fmt: skip
        last = nn.Linear(hidden, tokens * width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.out = nn.Sequential(nn.LayerNorm(hidden), nn.SiLU(), last)

    def forward(self, tokens: Tensor, options: Tensor, spoken: Tensor) -> Tensor:
        """Returns the edited tokens `(B, n, D)`, of options `(B, A, W)` where bool `spoken` `(B, A)` is true."""
        edit = (self.read_option(options) * spoken[..., None]).sum(1)
        hidden = self.read_tokens(tokens.flatten(1)) + edit
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return tokens + self.out(hidden).view_as(tokens)
