"""The preference encoder: multimodal tokens behind a user's history become soft preference tokens."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from pmg.configuration.ranges import Count, CountOrZero
from pmg.domain import PmgError
from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel
from pmg.models.preference.batch_norm import SharedBatchNorm1d
from pmg.models.preference.prefix_placement import PLACEMENTS, Prefix
from pmg.models.preference.token_encoder import TokenEncoder


class PreferenceEncoder(TokenEncoder):
    """Multimodal tokens, a prefix and one linear map; all that PMG trains.

    The hidden states of a language model at one position are nearly the same for every user: a large common part, and
    a small one that differs (20 times smaller in SmolLM2). So each position and feature is standardised over users
    before the map. Training takes the batch's own mean and deviation, since every step of the multimodal tokens moves
    the common part by many deviations at once (of the batch of all processes, where several train together); eval mode
    takes running ones, so that a user's soft tokens don't depend on who else is in the batch. The map's output is
    given the mean and deviation of the text encoder's own token embeddings (`set_output_statistics`), so that the
    denoiser gets soft tokens on the scale that it was trained with. PmgError if there is no such placement.

    Sizes are those of the language model and of the generator's text encoder, see `model_sizes`. There are n
    `soft_tokens`, as many as multimodal ones, and m pairs of the prefix a layer, `prefix_length`; 0 leaves it out.
    `prefix_hidden` is the width of the prefix's network; None learns the pairs themselves. Its `placement` is ``late``
    or ``front``, see `pmg.models.preference.prefix_placement`. `map_start`: ``scaled``: as above, from a random map;
    ``identity``: states are not standardised, and the map starts as the identity, where the language model is the text
    encoder, too, and its states as wide.
    """

    @register_to_config
    def __init__(
        self, *, llm_width: int, llm_layers: int, kv_heads: int, head_dim: int, text_width: int, soft_tokens: int = 4,
        prefix_length: int = 4, prefix_hidden: int | None = None, placement: str = "late", map_start: str = "scaled",
    ) -> None:  # fmt: skip
        super().__init__()
        if placement not in PLACEMENTS:
            raise PmgError(
                f"preference_encoder.placement: no placement '{placement}'. Use one of {', '.join(PLACEMENTS)}"
            )
        self.multimodal_tokens = nn.Parameter(torch.randn(soft_tokens, llm_width) * llm_width**-0.5)
        self.prefix = Prefix(llm_layers, kv_heads, head_dim, prefix_length, prefix_hidden) if prefix_length else None
        # one linear layer, also for `VisualPreferenceEncoder`, which begins with a zero weight
        self.map = nn.Linear(state_width(llm_width, text_width, map_start), text_width)
        nn.init.zeros_(self.map.bias)
        self.standardize: SharedBatchNorm1d | nn.Identity
        if map_start == "identity":
            nn.init.eye_(self.map.weight)
            self.standardize = nn.Identity()
        else:
            nn.init.normal_(self.map.weight, std=llm_width**-0.5)
            self.standardize = SharedBatchNorm1d(soft_tokens * llm_width, affine=False)
        self.register_buffer("output_mean", torch.zeros(text_width))
        self.register_buffer("output_std", torch.ones(text_width))

    @classmethod
    def sized(cls, language_model: LanguageModel, text_width: int, inputs: Any, **options: Any) -> Self:
        """Returns an untrained encoder that fits two models, see `TokenEncoder`."""
        return cls(**model_sizes(language_model, text_width), **options)

    def states(self, language_model: LanguageModel, inputs: Any) -> Tensor:
        """Returns the hidden states of the multimodal tokens behind each history: float32 `(B, n, state_width)`."""
        prefix = None if self.prefix is None else self.prefix()
        compute = PLACEMENTS[self.config.placement]
        return compute(language_model, inputs, self.multimodal_tokens, prefix).float().to(self.map.weight.device)

    def forward(self, language_model: LanguageModel, inputs: Any) -> Tensor:
        """Returns the soft preference tokens of B histories (in train mode at least 2), `(B, n, text_width)`."""
        return self.to_tokens(self.states(language_model, inputs))

    def to_tokens(self, states: Tensor) -> Tensor:
        """Returns the soft tokens `(B, n, text_width)` that states `(B, n, state_width)` are mapped to."""
        standardized = self.standardize(states.flatten(1)).view_as(states)
        return self.map(standardized) * self.output_std + self.output_mean

    @torch.no_grad()
    def fit_statistics(self, states: Tensor) -> None:
        """Sets the running statistics to those of `states` `(B, n, state_width)`, of at least two users.

        Called before and after training; exact, where a running mean lags behind.
        """
        if isinstance(self.standardize, nn.Identity):
            return
        self.standardize.running_mean.copy_(states.flatten(1).mean(0))
        self.standardize.running_var.copy_(states.flatten(1).var(0))

    @torch.no_grad()
    def set_output_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Sets the scale of the soft tokens: mean and deviation `(text_width,)` of real token embeddings."""
        self.output_mean.copy_(mean)
        self.output_std.copy_(std)


def build_preference_encoder(
    language_model: LanguageModel, text_embeddings: Tensor, sample: Context, words: str, *, soft_tokens: Count = 4,
    prefix_length: CountOrZero = 4, prefix_hidden: Count | None = None, placement: Literal["late", "front"] = "late",
    map_start: Literal["scaled", "identity"] = "scaled",
) -> PreferenceEncoder:  # fmt: skip
    """Returns an untrained `PreferenceEncoder`, with its options, that fits a language model and a text encoder.

    `text_embeddings` `(N, text_width)` of real tokens set the scale of soft tokens, the histories `sample` of at least
    two users the initial statistics, and `words` what the multimodal tokens start from. PmgError if there is no such
    placement, or the map doesn't fit the states' width.
    """
    if language_model.state_width != state_width(language_model.width, text_embeddings.shape[-1], map_start):
        other = "scaled" if map_start == "identity" else "identity"
        raise PmgError(
            f"preference_encoder.map_start is {map_start}, and the language model's states are "
            f"{language_model.state_width} wide, the text tokens {text_embeddings.shape[-1]}. Use map_start={other}"
        )
    encoder = PreferenceEncoder.sized(
        language_model, text_embeddings.shape[-1], sample, soft_tokens=soft_tokens, prefix_length=prefix_length,
        prefix_hidden=prefix_hidden, placement=placement, map_start=map_start,
    )  # fmt: skip
    start_encoder(encoder, language_model, text_embeddings, sample, words)
    return encoder.eval()


def model_sizes(language_model: LanguageModel, text_width: int) -> dict[str, int]:
    """Returns the sizes of an encoder that the two frozen models give, by the names of its arguments."""
    return {
        "llm_width": language_model.width,
        "llm_layers": language_model.layers,
        "kv_heads": language_model.kv_heads,
        "head_dim": language_model.head_dim,
        "text_width": text_width,
    }


@torch.no_grad()
def start_encoder(
    encoder: PreferenceEncoder, language_model: LanguageModel, text_embeddings: Tensor, sample: Any, words: str
) -> None:
    """Sets the multimodal tokens and the statistics of an untrained encoder, see `build_preference_encoder`."""
    ids = language_model.token_ids(words)
    rows = [ids[i % len(ids)] for i in range(len(encoder.multimodal_tokens))]  # repeated or cut
    encoder.multimodal_tokens.copy_(language_model.embeddings[torch.tensor(rows)])
    encoder.fit_statistics(encoder.states(language_model, sample))
    if not isinstance(encoder.standardize, nn.Identity):
        encoder.set_output_statistics(text_embeddings.mean(0), text_embeddings.std(0))


def state_width(llm_width: int, text_width: int, map_start: str) -> int:
    """Returns the width of the states that an encoder maps: with the identity that of the text tokens."""
    return text_width if map_start == "identity" else llm_width
