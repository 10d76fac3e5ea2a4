from __future__ import annotations

import math

import pytest
import torch

from pmg.domain import PmgError
from pmg.generation.guidance import Scales
from pmg.models.diffusion.sampling import combine

BLOCKS = ("keywords", "soft")
NAMES = ("empty", "target", *BLOCKS, "negative")
PREDICTIONS = dict(zip(NAMES, torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), strict=True))


def guided(scales, blocks=BLOCKS, negative=True):
    """The mix as the sampler makes it."""
    coefficients = scales.coefficients(blocks, negative)
    return combine([PREDICTIONS[name] for name in coefficients], list(coefficients.values()))


@pytest.mark.parametrize(
    "scales",
    [Scales(3.0, 2.0, 5.0, 1.5), Scales(1.0, 3.0, 2.0, 0.5), Scales(0.0, 1.0, 0.0, 2.0), Scales(1.1, 1, 1, 0.1)],
)
def test_mix_is_the_nested_formula(scales):
    empty, target, keywords, soft, negative = PREDICTIONS.values()
    expected = (
        empty
        + scales.target * (target - empty)
        + scales.keywords * (keywords - target)
        + scales.soft * (soft - keywords)
        - scales.negative * (negative - empty)
    )
    torch.testing.assert_close(guided(scales), expected, atol=1e-5, rtol=1e-5)
    assert sum(scales.coefficients(BLOCKS, True).values()) == pytest.approx(1)


def test_equal_scales_are_plain_guidance_by_the_joint_condition():
    empty, joint = PREDICTIONS["empty"], PREDICTIONS["soft"]
    assert torch.equal(guided(Scales(3.0, 3.0, 3.0)), empty + 3.0 * (joint - empty))


@pytest.mark.parametrize(
    ("scales", "blocks", "negative", "needed"),
    [
        (Scales(3, 3, 3), BLOCKS, True, {"empty", "soft"}),  # today's default
        (Scales(3, 3, 3), (), True, {"empty", "target"}),
        (Scales(3, 3, 3, 1), BLOCKS, False, {"empty", "soft"}),  # nobody dislikes anything
        (Scales(1, 1, 1), BLOCKS, True, {"soft"}),
        (Scales(1, 1, 1), ("keywords",), True, {"keywords"}),
        (Scales(3, 3, 5), BLOCKS, True, {"empty", "keywords", "soft"}),
        (Scales(3, 5, 5), BLOCKS, True, {"empty", "target", "soft"}),
        (Scales(1, 5, 5), BLOCKS, True, {"target", "soft"}),
        (Scales(3, 3, 0), BLOCKS, True, {"empty", "keywords"}),
        (Scales(3, 4, 5, 1), BLOCKS, True, {"empty", "target", "keywords", "soft", "negative"}),
        (Scales(3, 3, 3, 2), BLOCKS, True, {"soft", "negative"}),  # Stable Diffusion's negative prompt
        (Scales(1.1, 1.1, 1.1, 0.1), BLOCKS, True, {"soft", "negative"}),  # whatever rounding leaves
    ],
)
def test_only_branches_that_count_are_made(scales, blocks, negative, needed):
    assert set(scales.coefficients(blocks, negative)) == needed


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bad_scale_is_named(bad):
    with pytest.raises(PmgError, match=r"sampling\.scales\.soft"):
        Scales(3, 3, bad)
