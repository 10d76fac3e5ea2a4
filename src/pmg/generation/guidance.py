"""Guidance with a scale for each block: which conditions are denoised, and how their predictions are mixed.

Only linear mixtures of predictions: another one is a class with the method `coefficients`, named by
``sampling.scales._target_``. Other mixtures are a generator's `mix`; what depends on the step is in its `sample_from`
(``models/diffusion/generator.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from pmg.configuration.ranges import LARGEST_SCALE, Scale
from pmg.domain import PmgError

SMALLEST_COEFFICIENT = 1e-9  # what rounding leaves of coefficients that cancel

Branch = tuple[str, ...]  # the blocks that a prediction sees; none of them: the empty text
EMPTY: Branch = ()
NEGATIVE: Branch = ("negative",)  # the negative words in place of the target


@dataclass(frozen=True)
class Scales:
    """Guidance scales of the blocks, nested as in InstructPix2Pix (Brooks et al. 2023, equation 3).

    The guided prediction, with ∅ the empty text, is::

        e(∅) + target   (e(target) - e(∅))
             + keywords (e(target, keywords) - e(target))
             + soft     (e(target, keywords, soft) - e(target, keywords))
             - negative (e(negative words) - e(∅))

    Equal scales telescope to plain classifier-free guidance by the joint condition. `negative` = `target` - 1 is
    the negative prompt of Stable Diffusion, in which the negative words replace ∅. PmgError if a scale is out of
    its range.
    """

    target: Scale
    keywords: Scale
    soft: Scale
    negative: Scale = 0.0

    def __post_init__(self) -> None:
        for name, scale in asdict(self).items():
            if not 0 <= scale <= LARGEST_SCALE:
                raise PmgError(f"sampling.scales.{name} needs a number from 0 to {LARGEST_SCALE}, got {scale}")

    def single(self) -> float:
        """The one scale of all blocks, an input of LCM; PmgError if they differ, or one is of negative words."""
        if len({self.target, self.keywords, self.soft}) > 1 or self.negative:
            raise PmgError(
                "this generator takes one guidance scale as an input: set sampling.guidance alone, and leave "
                "sampling.scales.negative at 0"
            )
        return self.target

    def coefficients(self, blocks: Sequence[str], negative: bool) -> dict[Branch, float]:
        """Weight of each branch in the guided prediction.

        `blocks` are the preference blocks in use, in their order: ``keywords``, ``soft``, both or neither. The
        coefficients, without those of 0, sum to 1; the branch that sees all blocks is the last positive one.
        """
        seen = ("target", *blocks)
        scales = [1.0, *(getattr(self, name) for name in seen), 0.0]
        steps = [scale - following for scale, following in pairwise(scales)]
        mix = {seen[:count]: step for count, step in enumerate(steps)}
        return self._with_negative(mix, negative)

    def _with_negative(self, mix: dict[Branch, float], negative: bool) -> dict[Branch, float]:
        """Adds the step away from negative words, where there are some, and leaves out coefficients of 0."""
        if negative:
            mix = {EMPTY: 0.0, **mix, NEGATIVE: -self.negative}
            mix[EMPTY] += self.negative
        return {branch: share for branch, share in mix.items() if abs(share) > SMALLEST_COEFFICIENT}


class LeaveOneOutScales(Scales):
    """Guidance scales of the blocks, each against the prediction without that block.

    The guided prediction is, with `all` the condition of all blocks::

        e(all) + sum over blocks of (scale - 1) (e(all) - e(all but the block))
               - negative (e(negative words) - e(∅))

    In the nested formula the target's scale multiplies e(target) - e(∅), the same whatever the preference is. Here it
    multiplies the difference that the target makes beside the preference, so that a strong preference lowers the
    accuracy less. One block alone is plain classifier-free guidance in both. A step takes a prediction for each block
    whose scale isn't 1, and one with all blocks.
    """

    def coefficients(self, blocks: Sequence[str], negative: bool) -> dict[Branch, float]:
        """Weight of each branch in the guided prediction; see `Scales.coefficients`."""
        seen = ("target", *blocks)
        steps = {name: getattr(self, name) - 1.0 for name in seen}
        without = {tuple(other for other in seen if other != name): -step for name, step in steps.items()}
        return self._with_negative({**without, seen: 1.0 + sum(steps.values())}, negative)
