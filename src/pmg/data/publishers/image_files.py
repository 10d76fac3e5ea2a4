"""Picture files as published: found in a folder by name, read as upright RGB, or refused with the reason."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pmg.domain import PmgError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
MISSING, EMPTY = "picture file is missing", "picture file has 0 bytes"
NO_IMAGE, DAMAGED = "picture file is no image", "picture file is truncated or damaged"
TOO_LARGE = "picture has too many pixels to be decoded safely"
CMYK, DEEP = "CMYK, converted", "16 bits, reduced to 8"
TURNED = "taken with a turned camera, set upright"
ANIMATED, CLEAR = "animated, first frame taken", "transparent, laid on white"


class UnusableError(Exception):
    """A picture that can't be used; its text is the reason."""


def picture_folder(folder: str, where: str) -> Path:
    """A folder of pictures.

    Raises:
        PmgError: there is none; says where to get it.
    """
    if not Path(folder).is_dir():
        raise PmgError(f"{folder} is no folder of pictures; {where}")
    return Path(folder)


def find_pictures(folder: str, where: str) -> dict[str, Path]:
    """The pictures of a folder, by file name without its ending.

    Raises:
        PmgError: there is no such folder, or two pictures differ in their endings alone.
    """
    found: dict[str, Path] = {}
    for path in sorted(picture_folder(folder, where).iterdir()):
        if path.suffix.lower() in ENDINGS and found.setdefault(path.stem, path) != path:
            raise PmgError(
                f"{folder} has two pictures of one name, {found[path.stem].name} and {path.name}: remove one"
            )
    return found


def is_file(path: Path | None) -> bool:
    """Returns whether there is such a file; a name that no file can have, e.g. of 300 letters, names none."""
    try:
        return path is not None and path.is_file()
    except (OSError, ValueError):
        return False


def read_picture(path: Path | None) -> tuple[Image.Image, list[str]]:
    """A published picture as RGB, upright, and what that took.

    Raises:
        UnusableError: it is missing, empty, no image, damaged or too large.
    """
    if path is None or not is_file(path):
        raise UnusableError(MISSING)
    if not path.stat().st_size:
        raise UnusableError(EMPTY)
    try:
        with Image.open(path) as image:
            return _as_rgb(image)
    except UnidentifiedImageError:
        raise UnusableError(NO_IMAGE) from None
    except Image.DecompressionBombError:
        raise UnusableError(TOO_LARGE) from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):
        raise UnusableError(DAMAGED) from None


def _as_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    changes = [ANIMATED] if getattr(image, "is_animated", False) else []
    changes += [CMYK] if image.mode == "CMYK" else []
    changes += [TURNED] if image.getexif().get(ExifTags.Base.Orientation, 1) != 1 else []
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow would cut these numbers off at 255
        changes.append(DEEP)
        image = Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            changes.append(CLEAR)
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB"), changes
