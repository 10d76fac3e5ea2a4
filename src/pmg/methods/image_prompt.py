"""Image prompts, a baseline: preference tokens from a user's history images, without a language model."""

from __future__ import annotations

from typing import Any, Self

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from pmg.configuration.ranges import Count
from pmg.models.preference.batch_norm import SharedBatchNorm1d
from pmg.models.preference.token_encoder import TokenEncoder, UserFeatures


class ImagePromptEncoder(TokenEncoder):
    """One trained map from image features to tokens beside the text, as IP-Adapter's projection (Ye et al. 2023).

    It is trained by the same objective as `PreferenceEncoder`, so that the two differ in their inputs alone. Features
    have the width F, tokens of the text encoder D.
    """

    @register_to_config
    def __init__(self, feature_width: int, text_width: int, soft_tokens: int = 4) -> None:
        super().__init__()
        self.standardize = SharedBatchNorm1d(feature_width, affine=False)
        self.map = nn.Linear(feature_width, soft_tokens * text_width)
        nn.init.normal_(self.map.weight, std=feature_width**-0.5)
        nn.init.zeros_(self.map.bias)
        self.register_buffer("output_mean", torch.zeros(text_width))
        self.register_buffer("output_std", torch.ones(text_width))

    @classmethod
    def sized(cls, language_model: nn.Module, text_width: int, inputs: UserFeatures, **options: Any) -> Self:
        """Returns an untrained encoder that fits a text encoder and features, see `TokenEncoder`."""
        return cls(inputs.vectors.shape[1], text_width, **options)

    def states(self, _: nn.Module, features: UserFeatures) -> Tensor:
        """Returns the features, `(B, 1, F)`, to which the statistics are fitted."""
        return features.vectors.to(self.map.weight.device)[:, None]

    def forward(self, _: nn.Module, features: UserFeatures) -> Tensor:
        """Returns tokens `(B, n, D)` of B users (in train mode at least 2); the language model is not used."""
        mapped = self.map(self.standardize(features.vectors.to(self.map.weight.device)))
        return mapped.unflatten(1, (self.config.soft_tokens, -1)) * self.output_std + self.output_mean

    @torch.no_grad()
    def encode(self, _: nn.Module, features: UserFeatures, batch_size: int = 50) -> Tensor:
        """Returns the tokens of any number of users, `(U, n, D)`, without gradients, in one batch, on the CPU."""
        return self(_, features).cpu()

    @torch.no_grad()
    def fit_statistics(self, states: Tensor) -> None:
        """Sets the running statistics to those of `states` `(B, 1, F)`, of at least two users."""
        self.standardize.running_mean.copy_(states.flatten(1).mean(0))
        self.standardize.running_var.copy_(states.flatten(1).var(0))


def build_image_prompt(
    language_model: nn.Module, text_embeddings: Tensor, sample: UserFeatures, soft_tokens: Count = 4
) -> ImagePromptEncoder:
    """Returns an untrained encoder; has the arguments of `build_preference_encoder`, with features as the sample."""
    encoder = ImagePromptEncoder.sized(language_model, text_embeddings.shape[-1], sample, soft_tokens=soft_tokens)
    encoder.fit_statistics(encoder.states(language_model, sample))
    encoder.output_mean.copy_(text_embeddings.mean(0))
    encoder.output_std.copy_(text_embeddings.std(0))
    return encoder.eval()
