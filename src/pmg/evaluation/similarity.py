"""Further measures of single images, each with a frozen model of its own: DINO, CLIP, LPIPS with VGG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from pmg.domain import Keywords, PmgError
from pmg.models.vision.features import ImageFeatures, TextFeatures, encode_images
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.preferences.keyword_budget import Budget

Compare = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Scene:
    """What is known of B examples, and their images are compared with.

    Attributes:
        truths: for each its drawings of the target that fit, `(T_i, 3, H, W)` in [-1, 1].
        histories: for each what its user used, `(N_i, 3, H, W)`.
        targets: for each the words of what an image should show.
        preferences: for each the keywords of its own user, whoever's the image was made by; empty: nobody read them.
    """

    truths: Sequence[Tensor]
    histories: Sequence[Tensor]
    targets: Sequence[tuple[str, ...]]
    preferences: Sequence[tuple[str, ...]]


class Measure(Protocol):
    """Measures images against a scene."""

    def against(self, scene: Scene) -> Compare:
        """Looks at a scene once. What it returns gives, for every arm's images `(B, 3, H, W)`, columns `(B,)`."""


def group_vectors(features: ImageFeatures, groups: Sequence[Tensor]) -> list[Tensor]:
    """Unit vectors `(N_i, D)` of groups of images `(N_i, 3, H, W)`."""
    vectors = normalize(encode_images(features, torch.cat(list(groups))), dim=-1)
    return list(vectors.split([len(group) for group in groups]))


def group_cosines(vectors: Tensor, groups: Sequence[Tensor]) -> list[Tensor]:
    """Cosines `(N_i,)` of each vector of `(B, D)` with the unit vectors `(N_i, D)` of its group."""
    return [group @ vector for vector, group in zip(normalize(vectors, dim=-1), groups, strict=True)]


class DinoSimilarity:
    """Cosines of class tokens: ``dino_truth`` to the nearest truth, ``dino_history`` the mean over the history.

    DINO tells apart things of one kind, which CLIP takes for the same (DINO score: Ruiz et al. 2023, DreamBooth).

    Args:
        features: DINOv2 or another encoder of images.
    """

    def __init__(self, features: ImageFeatures) -> None:
        self.features = features

    def against(self, scene: Scene) -> Compare:
        """See `Measure`."""
        truths, histories = (group_vectors(self.features, groups) for groups in (scene.truths, scene.histories))

        def compare(images: Tensor) -> dict[str, Tensor]:
            vectors = encode_images(self.features, images)
            return {
                "dino_truth": torch.stack([each.max() for each in group_cosines(vectors, truths)]),
                "dino_history": torch.stack([each.mean() for each in group_cosines(vectors, histories)]),
            }

        return compare


class ClipSimilarity:
    """Cosines in CLIP's space (Radford et al. 2021).

    ``clip_i_truth`` compares with the nearest truth. ``clip_t_target`` and ``clip_t_preference`` compare with texts:
    the cosine of CLIPScore (Hessel et al. 2021), without its factor of 2.5, its cut at 0 and its prompt.

    Args:
        features: CLIP or SigLIP, never the model that selects.
    """

    def __init__(self, features: TextFeatures) -> None:
        self.features = features

    def against(self, scene: Scene) -> Compare:
        """See `Measure`.

        Raises:
            PmgError: words can't be read.
        """
        truths = group_vectors(self.features, scene.truths)
        targets, preferences = self._read(scene.targets), self._read(scene.preferences)

        def compare(images: Tensor) -> dict[str, Tensor]:
            vectors = encode_images(self.features, images)
            return {
                "clip_i_truth": torch.stack([each.max() for each in group_cosines(vectors, truths)]),
                "clip_t_target": cosine_similarity(vectors, targets),
                "clip_t_preference": cosine_similarity(vectors, preferences),
            }

        return compare

    def _read(self, texts: Sequence[tuple[str, ...]]) -> Tensor:
        """Unit vectors `(B, D)` of words, those that are too many left out from the end; NaN where there are none."""
        known = [place for place, words in enumerate(texts) if words]
        if not known:
            return torch.full((len(texts), 1), torch.nan)
        vectors = self.features.encode_texts([self._fit(texts[place]) for place in known])
        read = vectors.new_full((len(texts), vectors.shape[1]), torch.nan)
        read[known] = vectors
        return read

    def _fit(self, words: tuple[str, ...]) -> str:
        try:
            return str(Budget(self.features.count_tokens, self.features.max_length).fit(Keywords(words)))
        except PmgError as error:
            raise PmgError(
                f"CLIP reads {self.features.max_length} tokens, and '{', '.join(words)}' is longer; "
                "judge.features.clip=null leaves CLIP out"
            ) from error


class VggDistance:
    """LPIPS with VGG instead of AlexNet: ``lpips_vgg_truth``, to the nearest truth. Papers report either.

    Args:
        perceptual: LPIPS with VGG.
    """

    def __init__(self, perceptual: PerceptualDistance) -> None:
        self.perceptual = perceptual

    def against(self, scene: Scene) -> Compare:
        """See `Measure`. Features of truths are not kept: VGG's take 32 MiB an image of 256 pixels."""

        @torch.no_grad()
        def compare(images: Tensor) -> dict[str, Tensor]:
            pairs = zip(images, scene.truths, strict=True)
            nearest = [self.perceptual(image.expand_as(truth), truth).min() for image, truth in pairs]
            return {"lpips_vgg_truth": torch.stack(nearest)}

        return compare
