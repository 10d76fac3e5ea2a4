"""Checks that a generator supports how it is used; messages name the key of the config, or the argument."""

from __future__ import annotations

from collections.abc import Sequence

from pmg.domain import PmgError, require_positive
from pmg.generation.condition_weighting import Weighting
from pmg.generation.guidance import Scales
from pmg.models.diffusion.interfaces import Capabilities, Generator


def check_weighting(weighting: Weighting, pairs: Sequence[tuple[float, float]], generator: Generator) -> None:
    """Raises a `PmgError` where weights would have no effect on a generator."""
    supports, name = generator.supports, type(weighting).__name__
    if weighting.attention_bias and not supports.attention_bias:
        raise PmgError(
            f"balance.weighting is {name}, and a {type(generator).__name__} has no attention bias. Use "
            "pmg.generation.condition_weighting.ScaleWeighting."
        )
    equal = all(weight == 1 for pair in pairs for weight in pair)
    if not (weighting.attention_bias or supports.embedding_scale or equal):
        raise PmgError(
            f"balance.weighting is {name}, and this generator normalises its text tokens, so that their scale has no "
            "effect. Set balance/weighting=attention."
        )


def check_steps(key: str, steps: int | None, supports: Capabilities) -> int:
    """Returns the evaluations of a sampling: solver steps, or the generator's own number; PmgError names the key."""
    if supports.fixed_steps is not None:
        if steps is not None:
            raise PmgError(
                f"{key} is {steps}, and this generator has no solver steps: it predicts the {supports.fixed_steps} "
                f"tokens of an image. Set {key}=null."
            )
        return supports.fixed_steps
    if steps is None:
        raise PmgError(f"{key} is null, and this generator has a solver. Set a number of steps, e.g. {key}=25.")
    require_positive(**{key: steps})
    return steps


def check_start(key: str, supports: Capabilities) -> None:
    """Raises a `PmgError` that names the key if a generator's sampling can't start from an image."""
    if supports.fixed_steps is not None:
        raise PmgError(
            f"{key}: this generator predicts tokens one after another and starts from no image. Leave it out."
        )


def check_scales(scales: Scales, supports: Capabilities) -> None:
    """Raises a `PmgError` where a generator can't be guided by scales."""
    if supports.guidance_input:
        scales.single()
    elif supports.distilled_from and ({scales.target, scales.keywords, scales.soft} != {1.0} or scales.negative):
        raise PmgError(
            f"this generator is distilled from {supports.distilled_from} into few steps and takes no guidance. Set "
            "sampling.guidance=1 and sampling.scales.negative=0."
        )
