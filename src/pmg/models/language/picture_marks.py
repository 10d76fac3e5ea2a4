"""Marks of pictures in a text: where a language model that sees reads a picture.

A mark holds the digest of the pixels, so that equal texts have equal pictures, and each is encoded once.
"""

from __future__ import annotations

import re

from torch import Tensor

from pmg.cache import hash_tensor

SIGN = "\ufffc"  # Unicode's object replacement character
MARK = re.compile(f"{SIGN}([0-9a-f]{{64}}){SIGN}")


def mark_picture(pixels: Tensor) -> str:
    """Returns the mark of a picture, uint8 `(3, H, W)`."""
    return f"{SIGN}{hash_tensor(pixels)}{SIGN}"


def find_pictures(text: str) -> list[str]:
    """Returns the digests of the pictures in a text, in their order."""
    return MARK.findall(text)


def name_pictures(text: str) -> str:
    """Returns a text for people: ``[picture]`` for each mark."""
    return MARK.sub("[picture]", text)


def split_at_pictures(text: str) -> list[str]:
    """Returns what precedes the first picture, what is between them, and what follows the last."""
    return MARK.split(text)[::2]
