"""Cosines of image vectors with the vectors of reference images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pmg.evaluation.metric_interface import Input, References
from pmg.models.vision.features import ImageFeatures, encode_images


def reference_vectors(features: ImageFeatures, references: References, of: Input) -> list[Tensor]:
    """Returns unit vectors `(N_i, D)` of each example's true images or history, computed once."""
    return references.once((of, features), lambda: group_vectors(features, getattr(references, of)))


def group_vectors(features: ImageFeatures, groups: Sequence[Tensor]) -> list[Tensor]:
    """Returns unit vectors `(N_i, D)` of groups of images `(N_i, 3, H, W)`."""
    if not sum(map(len, groups)):
        return [torch.zeros(0, 0)] * len(groups)
    vectors = normalize(encode_images(features, torch.cat(list(groups))), dim=-1)
    return list(vectors.split([len(group) for group in groups]))


def group_cosines(vectors: Tensor, groups: Sequence[Tensor]) -> list[Tensor]:
    """Returns the cosines `(N_i,)` of each vector of `(B, D)` with the unit vectors `(N_i, D)` of its group."""
    pairs = zip(normalize(vectors, dim=-1), groups, strict=True)
    return [group @ vector if len(group) else vector[:0] for vector, group in pairs]


def largest(cosines: Sequence[Tensor]) -> Tensor:
    """Returns the largest cosine of each group, `(B,)`."""
    return torch.stack([each.max() for each in cosines])


def mean(cosines: Sequence[Tensor]) -> Tensor:
    """Returns the mean cosine of each group, `(B,)`; NaN for an empty one."""
    return torch.stack([each.mean() for each in cosines])
