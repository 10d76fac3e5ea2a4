"""Accuracy of style and concept by a classifier of images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor

from pmg.domain import PmgError
from pmg.evaluation.metric_interface import Input, MetricInfo, References


class Classifier(Protocol):
    """Classifies the style and the concept of images.

    Attributes:
        styles: names of the S styles.
        concepts: names of the K concepts.
    """

    styles: Sequence[str]
    concepts: Sequence[str]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns style logits `(B, S)` and concept logits `(B, K)` of images `(B, 3, H, W)` in [-1, 1]."""
        ...


class ClassifierAccuracy:
    """Whether a classifier finds a style that fits the user, and the target's concept: 1 or 0 an image.

    Args:
        classifier: of style and concept, never the model that selects.
    """

    outputs = (
        MetricInfo("style_accuracy", "style accuracy", range=(0.0, 1.0), aspect="preference"),
        MetricInfo("concept_accuracy", "concept accuracy", range=(0.0, 1.0), aspect="accuracy"),
    )
    inputs = (Input.STYLES,)

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    @torch.no_grad()
    def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
        """See `ImageMetric`.

        Raises:
            PmgError: the classifier has no class of a style or concept.
        """
        style_logits, concept_logits = self.classifier(images)
        concepts = [example.target.concept for example in references.examples]
        return {
            "style_accuracy": style_accuracy(style_logits, self.classifier.styles, references.styles),
            "concept_accuracy": concept_accuracy(concept_logits, self.classifier.concepts, concepts),
        }


def style_accuracy(logits: Tensor, styles: Sequence[str], fitting: Sequence[Collection[str]]) -> Tensor:
    """Returns 1 where the style with the largest logit fits the user, else 0.

    Args:
        logits: of the classifier, `(B, S)`.
        styles: names of the S classes.
        fitting: names of the styles that fit, for each image.

    Returns:
        float32 `(B,)`.

    Raises:
        PmgError: a style is none of the classes.
    """
    rows = [[_class(styles, name, "style") for name in names] for names in fitting]
    predicted = logits.argmax(dim=1).tolist()
    return torch.tensor([float(style in row) for style, row in zip(predicted, rows, strict=True)])


def concept_accuracy(logits: Tensor, concepts: Sequence[str], expected: Sequence[str]) -> Tensor:
    """Returns 1 where the concept with the largest logit, of `(B, K)`, is the expected one, else 0; float32 `(B,)`.

    Raises:
        PmgError: a concept is none of the classes.
    """
    wanted = torch.tensor([_class(concepts, name, "concept") for name in expected])
    return (logits.argmax(dim=1).cpu() == wanted).float()


def _class(names: Sequence[str], name: str, what: str) -> int:
    try:
        return list(names).index(name)
    except ValueError:
        raise PmgError(
            f"the classifier has no {what} '{name}'; use the one that was trained on this catalogue"
        ) from None
