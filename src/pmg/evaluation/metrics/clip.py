"""Similarity of images and words in the space of CLIP (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pmg.domain import Keywords, PmgError
from pmg.evaluation.metric_interface import Input, MetricInfo, References
from pmg.evaluation.metrics.cosines import group_cosines, largest, reference_vectors
from pmg.models.vision.features import TextFeatures, encode_images
from pmg.preferences.keywords import Budget


class ClipSimilarity:
    """Cosines with the nearest true image, with the target's words and with the user's keywords.

    The cosines with words are those of CLIPScore (Hessel et al. 2021), without its factor of 2.5, its cut at 0 and its
    prompt; those of a CLIP trained on human choices, with the target's words, are HPS (Wu et al. 2023). `name`
    begins the outputs. `features` are those of CLIP or SigLIP, never of the model that selects. PmgError if the
    features encode no texts.
    """

    inputs = (Input.TRUTHS, Input.TARGET_WORDS, Input.PREFERENCE_WORDS)

    def __init__(self, features: TextFeatures, name: str = "clip") -> None:
        if not hasattr(features, "encode_texts"):
            raise PmgError(
                f"features: {type(features).__name__} encodes no texts. Use pmg.models.vision.features.ClipFeatures"
            )
        self.features, title, cosine = features, name.upper(), (-1.0, 1.0)
        self.outputs = (
            MetricInfo(f"{name}_i_truth", f"{title} to truth", range=cosine),
            MetricInfo(f"{name}_t_target", f"{title} to target's words", range=cosine, aspect="accuracy"),
            MetricInfo(f"{name}_t_preference", f"{title} to preference's words", range=cosine, aspect="preference"),
        )

    def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
        """See `ImageMetric`; PmgError if a word alone is too long for CLIP."""
        encoder = self.features
        targets = references.once(("target words", encoder), lambda: self._encode(references.target_words))
        preferences = references.once(("preference words", encoder), lambda: self._encode(references.preference_words))
        vectors = encode_images(encoder, images)
        nearest = largest(group_cosines(vectors, reference_vectors(encoder, references, Input.TRUTHS)))
        found = nearest, *(cosine_similarity(vectors, words) for words in (targets, preferences))
        return {info.name: values for info, values in zip(self.outputs, found, strict=True)}

    def _encode(self, texts: Sequence[tuple[str, ...]]) -> Tensor:
        """Returns unit vectors `(B, D)` of words, superfluous ones left out from the end; NaN where there are none."""
        if not (rows := [row for row, words in enumerate(texts) if words]):
            return torch.full((len(texts), 1), torch.nan)
        vectors = self.features.encode_texts([self._fit(texts[row]) for row in rows])
        encoded = vectors.new_full((len(texts), vectors.shape[1]), torch.nan)
        encoded[rows] = vectors
        return encoded

    def _fit(self, words: tuple[str, ...]) -> str:
        return str(Budget(self.features.count_tokens, self.features.max_length).fit_target(Keywords(words)))
