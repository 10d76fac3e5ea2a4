"""Guidance with a scale for each block: which conditions are denoised, and how their predictions are mixed.

Only linear mixtures of predictions; another formula replaces `combine` in ``models/diffusion/sampling.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from pmg.configuration.ranges import NotNegative
from pmg.domain import PmgError

SMALLEST_COEFFICIENT = 1e-9  # what rounding leaves of coefficients that cancel


@dataclass(frozen=True)
class Scales:
    """Guidance scales of the blocks, nested as in InstructPix2Pix (Brooks et al. 2023, equation 3).

    The guided prediction, with ∅ the empty text, is::

        e(∅) + target   (e(target) - e(∅))
             + keywords (e(target, keywords) - e(target))
             + soft     (e(target, keywords, soft) - e(target, keywords))
             - negative (e(negative words) - e(∅))

    Equal scales telescope to plain classifier-free guidance by the joint condition. `negative` = `target` - 1 is the
    negative prompt of Stable Diffusion, in which the negative words replace ∅.

    Attributes:
        target: of the target block.
        keywords: of the keyword block.
        soft: of the soft block.
        negative: of the negative words; 0 leaves them out.

    Raises:
        PmgError: a scale is negative or not finite.
    """

    target: NotNegative
    keywords: NotNegative
    soft: NotNegative
    negative: NotNegative = 0.0

    def __post_init__(self) -> None:
        for name, scale in asdict(self).items():
            if not 0 <= scale < math.inf:
                raise PmgError(f"sampling.scales.{name} needs a number of at least 0, got {scale}")

    def single(self) -> float:
        """The one scale of all blocks, for generators that take it as an input (LCM).

        Raises:
            PmgError: the blocks' scales differ, or there is a scale for negative words.
        """
        if len({self.target, self.keywords, self.soft}) > 1 or self.negative:
            raise PmgError(
                "this generator takes one guidance scale as an input: set sampling.guidance alone, and leave "
                "sampling.scales.negative at 0"
            )
        return self.target

    def coefficients(self, blocks: Sequence[str], negative: bool) -> dict[str, float]:
        """Weight of each branch in the guided prediction; a branch is named by the last block that it sees.

        Args:
            blocks: preference blocks in use, in their order: ``keywords``, ``soft``, both or neither.
            negative: whether there are negative words.

        Returns:
            Coefficients of ``empty``, ``target``, the blocks and ``negative``, without those of 0; they sum to 1.
        """
        scales = [1.0, *(getattr(self, name) for name in ("target", *blocks)), 0.0]
        steps = (scale - following for scale, following in pairwise(scales))
        mix = dict(zip(("empty", "target", *blocks), steps, strict=True))
        if negative:
            mix["empty"] += self.negative
            mix["negative"] = -self.negative
        return {name: share for name, share in mix.items() if abs(share) > SMALLEST_COEFFICIENT}
