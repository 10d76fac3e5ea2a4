"""Pictures of Pillow: as tensors' counterparts, and in one form whatever a file holds."""

from __future__ import annotations

import base64
import struct
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from pmg.models.vision.pixels import to_uint8

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats that are read, by their names in Pillow; decoders of others start programs, as that of EPS does."""
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, AssertionError)
"""What Pillow raises of damaged files; ValueError and AssertionError of closed ones, too."""


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Returns images `(B, 3, H, W)` in [-1, 1] as 8-bit RGB pictures."""
    return [Image.fromarray(levels.permute(1, 2, 0).cpu().numpy()) for levels in to_uint8(images)]


def to_picture(image: Tensor) -> Image.Image:
    """Returns an image `(3, H, W)` in [-1, 1] as an 8-bit RGB picture."""
    (picture,) = to_pictures(image[None])
    return picture


def to_file(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Returns a picture as the bytes of a file, with options of Pillow's encoder of this kind."""
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Returns a file of a media type, e.g. ``image/png``, as an address that contains it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def to_rgb(picture: Image.Image) -> Image.Image:
    """Returns a picture as 8-bit RGB, rotated according to its EXIF orientation, on white where it is transparent."""
    return on_white(upright(picture))


def upright(picture: Image.Image) -> Image.Image:
    """Returns a picture rotated according to its EXIF orientation, with 8 bits a channel."""
    picture = ImageOps.exif_transpose(picture)
    if is_deep(picture):  # Pillow would clip the values at 255
        picture = Image.fromarray((np.asarray(picture) // 257).clip(0, 255).astype(np.uint8))
    return picture


def on_white(picture: Image.Image) -> Image.Image:
    """Returns a picture of 8 bits a channel as RGB, on white where it is transparent."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def is_deep(picture: Image.Image) -> bool:
    """Returns whether a picture has 16 or more bits a pixel."""
    return picture.mode.startswith("I")
