"""Output of the inference pipeline: images with their records, displayed as a table by notebooks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any

from diffusers.utils import BaseOutput
from PIL import Image

from pmg.data_uri import data_uri

COLUMNS = 4  # images a row, in notebooks


@dataclass
class PersonalizedPipelineOutput(BaseOutput):
    """Images and their records; `output[0]` and `output["images"]` are the images, as in diffusers.

    Attributes:
        images: N pictures of 8 bits a channel, those of a target together.
        records: a mapping for each image: keywords, candidates with weights and scores, the selected one, seed, alpha.
    """

    images: list[Image.Image]
    records: list[dict[str, Any]]

    def _repr_html_(self) -> str:
        """Returns the images with their keywords as HTML, all texts escaped."""
        figures = [_figure(image, record) for image, record in zip(self.images, self.records, strict=True)]
        style = "display:flex;flex-wrap:wrap;gap:12px"
        return f'<div style="{style}">{"".join(figures)}</div>'

    def _repr_png_(self) -> bytes:
        """Returns all images as one PNG, `COLUMNS` a row."""
        return _png(_grid(self.images))


def _figure(image: Image.Image, record: Mapping[str, Any]) -> str:
    """Returns an image with its record as an HTML figure."""
    picked = record["candidates"][record["picked"]]
    lines = {
        "target": ", ".join(record["target_keywords"]),
        "preference": ", ".join(record["preference_keywords"]) or "no keywords",
        "weights": f"w_p {picked['w_p']:g}, w_t {picked['w_t']:g}, alpha {record['alpha']:g}",
        "seed": str(record["seed"]),
    }
    texts = "".join(f"<div><b>{name}</b> {escape(text)}</div>" for name, text in lines.items())
    source = data_uri(_png(image), "image/png")
    alt = escape(f"{lines['target']}: {lines['preference']}", quote=True)
    caption = f'<figcaption style="font-size:small">{texts}</figcaption>'
    return f'<figure style="margin:0;max-width:240px"><img alt="{alt}" src="{source}">{caption}</figure>'


def _grid(images: list[Image.Image]) -> Image.Image:
    """Returns images in rows of `COLUMNS`, on white; a white pixel without images."""
    columns = min(COLUMNS, len(images))
    width, height = (max((image.size[side] for image in images), default=1) for side in (0, 1))
    rows = math.ceil(len(images) / COLUMNS)
    sheet = Image.new("RGB", (max(columns, 1) * width, max(rows, 1) * height), "white")
    for number, image in enumerate(images):
        sheet.paste(image, (number % COLUMNS * width, number // COLUMNS * height))
    return sheet


def _png(image: Image.Image) -> bytes:
    """Returns a picture as the bytes of a PNG file."""
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
