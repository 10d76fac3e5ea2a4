"""A preference encoder that reads pictures: visual tokens of a history's items follow its text.

Shapes: `B` users, `H` pictures of a user, `F` width of a picture's vector, `n` multimodal tokens and so
soft tokens, `D` their width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from pmg.configuration.ranges import Count, CountOrZero
from pmg.domain import PmgError
from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel
from pmg.models.preference.preference_encoder import PreferenceEncoder, model_sizes, start_encoder
from pmg.models.preference.prefix_placement import causal_layout

WIDTH = 64  # of queries and keys
NO_PICTURE = -4.0  # logit of the tokens for users without pictures, beside 0 for each picture at the start
Sees = Literal["text", "pictures", "both"]
CORRECTION = 0.05  # scale of what is added to copied tokens of unit variance: at 1, the first steps drown the copy


def weigh_pictures(scores: Tensor, counted: Tensor) -> Tensor:
    """Returns weights `(B, n, 1 + H)`, which sum to 1: first that of no picture, then those of pictures by `scores`.

    Scores are `(B, n, H)`; pictures that bool `counted` `(B, H)` leaves out have the weight 0.
    """
    scores = scores.masked_fill(~counted[:, None], float("-inf"))
    none = scores.new_full((*scores.shape[:2], 1), NO_PICTURE)
    return torch.cat([none, scores], dim=2).softmax(dim=2)


class PictureMean(nn.Module):
    """Attention whose values are the pictures' own tokens, e.g. those of the generator's style encoder.

    Each soft token weighs the pictures by its state and theirs, so that a picture outside of the user's taste can be
    left out. Before training all have the same weight.
    """

    def __init__(self, llm_width: int, tokens: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(llm_width, elementwise_affine=False)
        self.query, self.key = nn.Linear(llm_width, WIDTH), nn.Linear(llm_width, WIDTH)
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)
        self.base = nn.Parameter(torch.zeros(tokens, width))

    def forward(self, states: Tensor, pictures: Tensor, vectors: Tensor, counted: Tensor) -> Tensor:
        """Returns soft tokens of unit variance, `(B, n, D)`.

        States are those of the multimodal tokens, `(B, n, llm_width)`, and of the visual ones, `(B, H, llm_width)`;
        `vectors` `(B, H, n D)` are tokens of the pictures, side by side. The mean is of pictures that bool `counted`
        `(B, H)` marks; users without any get `base`.
        """
        queries, keys = self.query(self.norm(states)), self.key(self.norm(pictures))
        scores = queries @ keys.transpose(1, 2) * WIDTH**-0.5  # (B, n, H)
        weights = weigh_pictures(scores, counted)
        base = self.base.expand(len(states), 1, *self.base.shape)
        values = torch.cat([base, vectors.unflatten(2, tuple(self.base.shape))], dim=1)  # (B, 1 + H, n, D)
        return layer_norm(torch.einsum("bnh,bhnd->bnd", weights, values), self.base.shape[1:])

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """Sets `base` to the mean of pictures' vectors `(N, n D)`; without pictures it stays 0."""
        if len(vectors):
            self.base.copy_(vectors.mean(0).view_as(self.base))


@dataclass(frozen=True)
class SeenHistories:
    """Histories of B users as text, and the vectors of their pictures."""

    context: Context  # the prefilled texts
    vectors: Tensor  # `(B, H, F)`, oldest first
    present: Tensor  # bool `(B, H)`: false where a user has fewer pictures
    liked: Tensor  # bool `(B, H)`: false at pictures that the user disliked
    are_tokens: bool = False  # whether a vector holds tokens of the generator side by side


class VisualPreferenceEncoder(PreferenceEncoder):
    """A `PreferenceEncoder` whose multimodal tokens also attend to visual tokens, one for each picture.

    A picture's vector is projected to the language model's width, as in LLaVA (Liu et al. 2023), and a learned vector
    is added that differs between liked and disliked pictures. The cached text comes first, then the visual tokens,
    then the end of a chat template's turn.

    Further arguments are those of `PreferenceEncoder`; the prefix is a late one, since the text is cached. Pictures'
    vectors have the width F; `sees` ``text`` leaves the pictures out, ``pictures`` the text, ``both`` nothing.
    `copies`: soft tokens are added to a `PictureMean` of the vectors of liked pictures.
    """

    @register_to_config
    def __init__(
        self, *, feature_width: int, sees: Sees, copies: bool = False, llm_width: int, llm_layers: int,
        kv_heads: int, head_dim: int, text_width: int, soft_tokens: int = 4, prefix_length: int = 4,
    ) -> None:  # fmt: skip
        super().__init__(
            llm_width=llm_width, llm_layers=llm_layers, kv_heads=kv_heads, head_dim=head_dim, text_width=text_width,
            soft_tokens=soft_tokens, prefix_length=prefix_length,
        )  # fmt: skip
        self.projector = nn.Sequential(
            nn.Linear(feature_width, llm_width), nn.GELU(), nn.Linear(llm_width, llm_width),
            nn.LayerNorm(llm_width, elementwise_affine=False),
        )  # fmt: skip
        self.roles = nn.Embedding(2, llm_width)  # disliked, liked
        for part in (self.projector, self.roles):
            part.requires_grad_(sees != "text")  # several processes need a gradient of all that is trained
        self.picture_mean = PictureMean(llm_width, soft_tokens, text_width) if copies else None
        self.register_buffer("feature_mean", torch.zeros(feature_width))
        self.register_buffer("feature_std", torch.ones(feature_width))
        self.register_buffer("embedding_std", torch.ones(()))

    @classmethod
    def sized(
        cls, language_model: LanguageModel, text_width: int, inputs: SeenHistories, *, copies: bool | None = None,
        soft_tokens: int = 4, **options: Any,
    ) -> Self:  # fmt: skip
        """Returns an untrained encoder, see `TokenEncoder`; PmgError if vectors to be copied are no soft tokens."""
        width, needed = inputs.vectors.shape[-1], soft_tokens * text_width
        copies = inputs.are_tokens if copies is None else copies
        if copies and width != needed:
            raise PmgError(
                f"preference_encoder.copies needs an image encoder whose vectors are {soft_tokens} soft tokens, "
                f"{needed} numbers; inputs.image_encoder gives {width}. With another number of soft tokens, set "
                "preference_encoder.copies=false; with another generator, add image_encoder=scorer."
            )
        sizes = model_sizes(language_model, text_width)
        return cls(feature_width=width, copies=copies, soft_tokens=soft_tokens, **sizes, **options)

    def visual_tokens(self, histories: SeenHistories) -> Tensor:
        """Returns the embeddings of the pictures, `(B, H, llm_width)`, on the scale of the model's own embeddings."""
        vectors = (histories.vectors.to(self.feature_mean.device) - self.feature_mean) / self.feature_std
        roles = self.roles(histories.liked.long().to(self.feature_mean.device))
        return (self.projector(vectors) + roles) * self.embedding_std

    def states(self, language_model: LanguageModel, inputs: SeenHistories) -> Tensor:
        """Returns the last hidden states of the multimodal tokens, float32 `(B, n, llm_width)`."""
        return self._read(language_model, inputs)[:, -len(self.multimodal_tokens) :]

    def forward(self, language_model: LanguageModel, inputs: SeenHistories) -> Tensor:
        """Returns the soft preference tokens of B histories (in train mode at least 2), `(B, n, text_width)`."""
        states = self._read(language_model, inputs)
        count = len(self.multimodal_tokens)
        pictures, multimodal = states[:, :-count], states[:, -count:]
        soft = self.to_tokens(multimodal)
        if self.picture_mean is None:
            return soft
        seen = pictures.shape[1]  # none where it reads text alone
        counted = (inputs.present & inputs.liked)[:, :seen].to(soft.device)
        return soft + self.picture_mean(multimodal, pictures, inputs.vectors[:, :seen].to(soft.device), counted)

    def _read(self, language_model: LanguageModel, inputs: SeenHistories) -> Tensor:
        """Returns the last hidden states of visual and multimodal tokens, float32 `(B, H + n, llm_width)`."""
        count = len(self.multimodal_tokens)
        tokens = self.multimodal_tokens.expand(len(inputs.present), -1, -1)
        context = inputs.context.without_tokens() if self.config.sees == "pictures" else inputs.context
        if self.config.sees != "pictures":  # whose texts begin a turn
            tokens = language_model.end_turn(tokens)
        present, pictures = inputs.present.new_ones(tokens.shape[:2]), 0
        if self.config.sees != "text":
            pictures = inputs.present.shape[1]
            tokens = torch.cat([self.visual_tokens(inputs), tokens], 1)
            present = torch.cat([inputs.present, present], 1)
        steps, visible = causal_layout(present)  # missing pictures are not counted
        prefix = None if self.prefix is None else self.prefix()
        states = language_model.extend(context, tokens, steps, visible, prefix).float().to(self.map.weight.device)
        return torch.cat([states[:, :pictures], states[:, -count:]], 1)

    @torch.no_grad()
    def fit_features(self, histories: SeenHistories, embedding_std: float) -> None:
        """Sets the mean and deviation of the pictures' vectors, and the scale of the visual tokens.

        With fewer than two pictures, e.g. where all histories are conversations, vectors are left as they are.
        """
        vectors = histories.vectors[histories.present]
        if len(vectors) > 1:
            self.feature_mean.copy_(vectors.mean(0))
            self.feature_std.copy_(vectors.std(0).clamp(min=1e-4))
        self.embedding_std.fill_(embedding_std)

    @torch.no_grad()
    def start_copying(self, histories: SeenHistories) -> None:
        """Lets the soft tokens begin as the plain mean of the vectors of a user's liked pictures."""
        if self.picture_mean is not None:
            self.picture_mean.start(histories.vectors[histories.present])
            nn.init.zeros_(self.map.weight)
            scale = torch.full_like(self.output_std, CORRECTION)
            self.set_output_statistics(torch.zeros_like(scale), scale)


def build_visual_encoder(
    language_model: LanguageModel, text_embeddings: Tensor, sample: SeenHistories, words: str, *, sees: Sees = "both",
    copies: bool | None = None, soft_tokens: Count = 4, prefix_length: CountOrZero = 4,
) -> VisualPreferenceEncoder:  # fmt: skip
    """Returns an untrained encoder, see `build_preference_encoder`, `VisualPreferenceEncoder`; errors as `sized`."""
    encoder = VisualPreferenceEncoder.sized(
        language_model, text_embeddings.shape[-1], sample, sees=sees, copies=copies, soft_tokens=soft_tokens,
        prefix_length=prefix_length,
    )  # fmt: skip
    encoder.fit_features(sample, float(language_model.embeddings.float().std()))
    start_encoder(encoder, language_model, text_embeddings, sample, words)
    encoder.start_copying(sample)
    return encoder.eval()
