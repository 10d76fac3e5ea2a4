"""Pictures with large soft patches, as photos have."""

from __future__ import annotations

import numpy as np
from PIL import Image


def noise(seed, size=(48, 64)):
    """A picture of a size, height first; another one for each seed."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)
