"""A small residual image encoder, shared by the scorer and the judge."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import ResNetConfig, ResNetModel


def image_encoder(widths: Sequence[int], depths: Sequence[int]) -> ResNetModel:
    """An untrained ResNet (He et al. 2015) of basic blocks for small images.

    Args:
        widths: channels of each stage.
        depths: blocks of each stage.
    """
    config = ResNetConfig(embedding_size=widths[0], hidden_sizes=list(widths), depths=list(depths), layer_type="basic")
    return ResNetModel(config)
