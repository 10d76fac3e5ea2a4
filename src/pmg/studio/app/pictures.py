"""Uploaded pictures: checked, decoded and encoded anew."""

from __future__ import annotations

import base64
import binascii
import io
import warnings

from PIL import Image

from pmg.domain import PmgError
from pmg.models.vision.pictures import FORMATS, data_uri, to_file, to_rgb

LARGEST = 10 * 2**20  # bytes
PIXELS = 40_000_000
SIDE = 256
PREFIX = "data:image/png;base64,"


def read_picture(content: bytes) -> Image.Image:
    """Returns an uploaded picture as RGB of at most `SIDE` pixels a side, transparent parts white.

    PmgError if the file is too large, no picture of `FORMATS`, damaged, or animated.
    """
    if len(content) > LARGEST:
        raise PmgError(f"the picture is larger than {LARGEST // 2**20} MiB. Make it smaller.")
    try:
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(content), formats=FORMATS) as picture,
        ):
            width, height = picture.size
            if width * height > PIXELS:
                raise PmgError(f"the picture has {width} x {height} pixels. At most 40 million are allowed.")
            if getattr(picture, "n_frames", 1) > 1:
                raise PmgError("the picture is animated. Upload a still one.")
            picture.draft("RGB", (SIDE, SIDE))
            rgb = to_rgb(picture)
    except PmgError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PmgError("the picture has too many pixels. At most 40 million are allowed.") from None
    except Exception:  # decoders of Pillow raise errors of many types
        raise PmgError(f"the file is no picture that can be read. Use {', '.join(FORMATS)}.") from None
    rgb.thumbnail((SIDE, SIDE))
    return rgb


def to_data_uri(picture: Image.Image) -> str:
    """Returns a picture as an address that contains it, without metadata."""
    return data_uri(to_file(picture), "image/png")


def from_data_uri(text: str) -> Image.Image:
    """Returns the picture that `to_data_uri` encoded, checked again; PmgError if it isn't one."""
    if not text.startswith(PREFIX):
        raise PmgError("an uploaded picture must be PNG in a data URI. Upload it again.")
    try:
        return read_picture(base64.b64decode(text[len(PREFIX) :], validate=True))
    except binascii.Error:
        raise PmgError("an uploaded picture is damaged. Upload it again.") from None
