"""Published image files: finds them by name and reads them as upright RGB."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from pmg.domain import PmgError
from pmg.models.vision.pictures import FORMATS, UNREADABLE, is_deep, on_white, upright

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
MISSING, EMPTY = "picture file is missing", "picture file has 0 bytes"
NO_IMAGE, DAMAGED = "picture file is no image", "picture file is truncated or damaged"
TOO_LARGE = "picture has too many pixels to be decoded safely"
MOST_PIXELS, LARGE = 64_000_000, 10_000_000
LARGE_ONES = threading.Lock()  # one large picture is decoded at a time: each takes up to a gigabyte
CMYK, DEEP = "CMYK, converted", "16 bits, reduced to 8"
TURNED = "taken with a turned camera, set upright"
ANIMATED, CLEAR = "animated, first frame taken", "transparent, laid on white"


class UnusableError(Exception):
    """An image can't be used; the message is the reason."""


def picture_folder(folder: str, where: str) -> Path:
    """Returns `folder` as a path; PmgError with `where` to get it if it doesn't exist."""
    if not Path(folder).is_dir():
        raise PmgError(f"{folder} is no folder of pictures; {where}")
    return Path(folder)


def find_pictures(folder: str, where: str) -> dict[str, Path]:
    """Returns the image files of a folder by file name without extension.

    PmgError if the folder doesn't exist, or two images differ in their extension only.
    """
    found: dict[str, Path] = {}
    for path in sorted(picture_folder(folder, where).iterdir()):
        if path.suffix.lower() in ENDINGS and found.setdefault(path.stem, path) != path:
            raise PmgError(
                f"{folder} has two pictures of one name, {found[path.stem].name} and {path.name}: remove one"
            )
    return found


def is_file(path: Path | None) -> bool:
    """Returns whether the file exists; False for names that the system doesn't allow, e.g. of 300 letters."""
    return path is not None and os.path.isfile(path)  # `Path.is_file` raises OSError for them


def read_picture(path: Path | None) -> tuple[Image.Image, list[str]]:
    """Returns a published image as upright RGB, and the list of conversions.

    UnusableError if the file is missing, empty, no image, damaged or too large.
    """
    if path is None or not is_file(path):
        raise UnusableError(MISSING)
    if not path.stat().st_size:
        raise UnusableError(EMPTY)
    try:
        with Image.open(path, formats=FORMATS) as image:
            pixels = image.width * image.height
            if pixels > MOST_PIXELS:
                raise UnusableError(TOO_LARGE)
            with LARGE_ONES if pixels > LARGE else contextlib.nullcontext():
                return _as_rgb(image)
    except UnidentifiedImageError:
        raise UnusableError(NO_IMAGE) from None
    except Image.DecompressionBombError:
        raise UnusableError(TOO_LARGE) from None
    except UNREADABLE:
        raise UnusableError(DAMAGED) from None


def _as_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    changes = [ANIMATED] if getattr(image, "is_animated", False) else []
    changes += [CMYK] if image.mode == "CMYK" else []
    changes += [TURNED] if image.getexif().get(ExifTags.Base.Orientation, 1) != 1 else []
    changes += [DEEP] if is_deep(image) else []
    image = upright(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        changes += [CLEAR] if np.asarray(image.getchannel("A")).min() < 255 else []
    return on_white(image), changes
