"""Pictures for model cards: what a trained part does, to be judged by eye."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from pmg.data.emoji import EmojiData
from pmg.evaluation.contact_sheet import image_grid
from pmg.generation.grid import concept_style_grid
from pmg.models.generator import Generator


def concept_style_picture(data: EmojiData, generator: Generator, titles: Sequence[str], scene: str) -> Image.Image:
    """Concepts asked for by words in every style asked for by words."""
    images = concept_style_grid(generator, titles, data.styles, scene)
    return image_grid(images, list(data.styles), list(titles))
