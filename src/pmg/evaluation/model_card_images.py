"""Pictures for model cards: what a trained part does, to be judged by eye."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL
from PIL import Image

from pmg.data.dataset import StyledDataset
from pmg.evaluation.contact_sheet import image_grid
from pmg.generation.concept_style_grid import concept_style_grid
from pmg.models.diffusion.interfaces import Generator
from pmg.models.diffusion.latent_codec import reconstruct
from pmg.models.vision.judge import Judge


def concept_style_picture(data: StyledDataset, generator: Generator, titles: Sequence[str], scene: str) -> Image.Image:
    """Generates concepts in every style, both prompted by words."""
    images = concept_style_grid(generator, titles, data.styles, scene)
    return image_grid(images, list(data.styles), list(titles))


def restored_picture(data: StyledDataset, autoencoder: AutoencoderKL) -> Image.Image:
    """A held-out drawing of every style, above what the autoencoder makes of it."""
    catalogue = data.images
    first = {catalogue.style[item.id]: item for item in reversed(data.held_out_items)}
    drawings = catalogue.pixels(catalogue.rows([first[style] for style in data.styles]))
    pairs = torch.cat([drawings, reconstruct(autoencoder, drawings)])
    return image_grid(pairs, ["drawing", "restored"], list(data.styles))


@torch.no_grad()
def mistakes_picture(data: StyledDataset, judge: Judge, count: int = 16) -> Image.Image | None:
    """Returns held-out images whose style the judge got wrong, above the same concept in the style that it named.

    Returns:
        `count` mistakes spread over the catalogue, or fewer; None where there is none.
    """
    catalogue, styles = data.images, judge.config.styles
    by_cell = {(item.concept, catalogue.style[item.id]): item for item in catalogue.items}
    said = [styles[index] for index in judge(catalogue.pixels(catalogue.rows(data.held_out_items)))[0].argmax(1)]
    mistakes = [
        (item, by_cell[item.concept, name], f"{item.facts['pack']} as {data.styles[name]['pack']}")
        for item, name in zip(data.held_out_items, said, strict=True)
        if catalogue.style[item.id] != name and (item.concept, name) in by_cell
    ]
    shown = mistakes[:: max(1, len(mistakes) // count)][:count]
    if not shown:
        return None
    drawings, twins, labels = zip(*shown, strict=True)
    return image_grid(catalogue.pixels(catalogue.rows([*drawings, *twins])), ["drawing", "who was named"], labels)
