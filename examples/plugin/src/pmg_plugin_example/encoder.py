"""An encoder of soft tokens: a small network on image features of the liked items."""

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from pmg.configuration.ranges import Count
from pmg.models.preference.token_encoder import TokenEncoder, UserFeatures


class FeatureNetwork(TokenEncoder):
    """Two layers from features `(B, F)` to soft tokens `(B, n, D)`, on the scale of the text encoder's embeddings."""

    @register_to_config
    def __init__(self, features: int, text_width: int, soft_tokens: int, hidden: int, scale: float) -> None:
        super().__init__()
        last = nn.Linear(hidden, soft_tokens * text_width)
        self.network = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, hidden), nn.GELU(), last)

    @classmethod
    def build(
        cls, language_model: nn.Module, text_embeddings: Tensor, sample: UserFeatures, soft_tokens: Count = 4,
        hidden: Count = 128,
    ) -> "FeatureNetwork":  # fmt: skip
        """Returns an untrained encoder; pmg-train gives the first three arguments."""
        scale = text_embeddings.std().item()
        return cls(sample.vectors.shape[1], text_embeddings.shape[1], soft_tokens, hidden, scale)

    def forward(self, language_model: nn.Module, inputs: UserFeatures) -> Tensor:
        """Returns the soft tokens of B users."""
        tokens = self.network(inputs.vectors.to(next(self.parameters()).device))
        return torch.tanh(tokens).unflatten(1, (self.config.soft_tokens, -1)) * self.config.scale
