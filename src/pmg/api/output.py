"""Output of the inference pipeline: images with their records, displayed as a table by notebooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from pmg.domain import PmgError
from pmg.generation.guidance import Scales
from pmg.generation.requests import Request, record_image
from pmg.models.vision.pictures import data_uri, to_file, to_picture
from pmg.models.vision.pixels import to_unit
from pmg.records.storage import Candidate

COLUMNS = 4  # images a row, in notebooks
Images = list[Image.Image] | Tensor | np.ndarray
"""See `PersonalizedPipelineOutput`."""


@dataclass
class PersonalizedPipelineOutput(BaseOutput):
    """Images and their records; `output[0]` and `output["images"]` are the images, as in diffusers.

    The N images, those of a target together, are pictures of 8 bits a channel, a tensor `(N, 3, H, W)` in [0, 1], or
    an array `(N, H, W, 3)` in [0, 1]. A record has keywords, candidates with weights and scores, the selected one,
    seed and alpha.
    """

    images: Images
    records: list[dict[str, Any]]

    def _repr_html_(self) -> str | None:
        """Returns pictures with their keywords as HTML, all texts escaped; None without pictures."""
        if not isinstance(self.images, list):
            return None
        figures = [_figure(image, record) for image, record in zip(self.images, self.records, strict=True)]
        return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(figures)}</div>'

    def _repr_png_(self) -> bytes | None:
        """Returns all pictures as one PNG, `COLUMNS` a row; None without pictures."""
        if not isinstance(self.images, list):
            return None
        return to_file(draw_grid(self.images, max(1, min(COLUMNS, len(self.images)))))


def find_converter(output_type: str) -> Callable[[Tensor], Images]:
    """Returns the function from a generator's images `(N, 3, H, W)` in [-1, 1] to those of an output.

    Types are diffusers': ``pil`` (pictures), ``pt`` (a tensor) and ``np`` (an array). PmgError if there is no such.
    """
    if output_type not in CONVERTERS:
        raise PmgError(f"output_type is {output_type!r:.80}. Use one of {', '.join(CONVERTERS)}.")
    return CONVERTERS[output_type]


CONVERTERS: dict[str, Callable[[Tensor], Images]] = {
    "pil": lambda images: [to_picture(image) for image in images],
    "pt": to_unit,
    "np": lambda images: to_unit(images).permute(0, 2, 3, 1).cpu().numpy(),
}


def describe_image(request: Request, picked: int, candidates: Sequence[Candidate], scales: Scales) -> dict[str, Any]:
    """Returns what `record_image` does, with the noise's seed and how much of a start was drawn anew, JSON-able."""
    fields = record_image(request, picked, candidates, scales).items()
    return {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in fields},
        "seed": request.seed,
        "candidates": [asdict(candidate) for candidate in candidates],
        "strength": None if request.start is None else float(request.strength),
    }


def _figure(image: Image.Image, record: Mapping[str, Any]) -> str:
    picked = record["candidates"][record["picked"]]
    lines = {
        "target": ", ".join(record["target_keywords"]),
        "preference": ", ".join(record["preference_keywords"]) or "no keywords",
        "weights": f"w_p {picked['w_p']:g}, w_t {picked['w_t']:g}, alpha {record['alpha']:g}",
        "seed": str(record["seed"]),
        **({"note": record["note"]} if record["note"] else {}),
    }
    texts = "".join(f"<div><b>{name}</b> {escape(text)}</div>" for name, text in lines.items())
    source = data_uri(to_file(image), "image/png")
    alt = escape(f"{lines['target']}: {lines['preference']}", quote=True)
    caption = f'<figcaption style="font-size:small">{texts}</figcaption>'
    return f'<figure style="margin:0;max-width:240px"><img alt="{alt}" src="{source}">{caption}</figure>'


def draw_grid(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Returns images in so many columns, on white; white pixels without images."""
    width, height = (max((image.size[side] for image in images), default=1) for side in (0, 1))
    rows = max(1, math.ceil(len(images) / columns))
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * width, number // columns * height))
    return sheet
