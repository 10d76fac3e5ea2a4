"""Guidance scales: the coefficients of each prediction, in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from pmg.domain import PmgError
from pmg.generation.guidance import EMPTY, NEGATIVE, LeaveOneOutScales, Scales
from pmg.models.diffusion.sampling import combine

BLOCKS = ("keywords", "soft")
TARGET, KEYWORDS, SOFT = ("target",), ("target", "keywords"), ("target", "keywords", "soft")
NESTED = (EMPTY, TARGET, KEYWORDS, SOFT, NEGATIVE)
NO_TARGET, NO_KEYWORDS = ("keywords", "soft"), ("target", "soft")
BRANCHES = (*NESTED, NO_TARGET, NO_KEYWORDS)
PREDICTIONS = dict(zip(BRANCHES, torch.randn(7, 6, generator=torch.Generator().manual_seed(0)), strict=True))


def guided(scales, blocks=BLOCKS, negative=True):
    """The mix as the sampler makes it."""
    coefficients = scales.coefficients(blocks, negative)
    return combine([PREDICTIONS[name] for name in coefficients], list(coefficients.values()))


@pytest.mark.parametrize(
    "scales",
    [Scales(3.0, 2.0, 5.0, 1.5), Scales(1.0, 3.0, 2.0, 0.5), Scales(0.0, 1.0, 0.0, 2.0), Scales(1.1, 1, 1, 0.1)],
)
def test_mix_is_the_nested_formula(scales):
    empty, target, keywords, soft, negative = (PREDICTIONS[name] for name in NESTED)
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
    empty, joint = PREDICTIONS[EMPTY], PREDICTIONS[SOFT]
    assert torch.equal(guided(Scales(3.0, 3.0, 3.0)), empty + 3.0 * (joint - empty))


@pytest.mark.parametrize(
    ("scales", "blocks", "negative", "needed"),
    [
        (Scales(3, 3, 3), BLOCKS, True, {EMPTY, SOFT}),  # today's default
        (Scales(3, 3, 3), (), True, {EMPTY, TARGET}),
        (Scales(3, 3, 3, 1), BLOCKS, False, {EMPTY, SOFT}),  # nobody dislikes anything
        (Scales(1, 1, 1), BLOCKS, True, {SOFT}),
        (Scales(1, 1, 1), ("keywords",), True, {KEYWORDS}),
        (Scales(3, 3, 5), BLOCKS, True, {EMPTY, KEYWORDS, SOFT}),
        (Scales(3, 5, 5), BLOCKS, True, {EMPTY, TARGET, SOFT}),
        (Scales(1, 5, 5), BLOCKS, True, {TARGET, SOFT}),
        (Scales(3, 3, 0), BLOCKS, True, {EMPTY, KEYWORDS}),
        (Scales(3, 4, 5, 1), BLOCKS, True, {EMPTY, TARGET, KEYWORDS, SOFT, NEGATIVE}),
        (Scales(3, 3, 3, 2), BLOCKS, True, {SOFT, NEGATIVE}),  # Stable Diffusion's negative prompt
        (Scales(1.1, 1.1, 1.1, 0.1), BLOCKS, True, {SOFT, NEGATIVE}),  # whatever rounding leaves
    ],
)
def test_only_branches_that_count_are_made(scales, blocks, negative, needed):
    assert set(scales.coefficients(blocks, negative)) == needed


def test_leave_one_out_steps_away_from_the_prediction_without_each_block():
    empty, soft, negative = (PREDICTIONS[name] for name in (EMPTY, SOFT, NEGATIVE))
    expected = soft + 2.0 * (soft - PREDICTIONS[NO_TARGET]) + 0.5 * (soft - PREDICTIONS[NO_KEYWORDS])
    expected = expected + 3.0 * (soft - PREDICTIONS[KEYWORDS]) - 1.5 * (negative - empty)
    torch.testing.assert_close(guided(LeaveOneOutScales(3.0, 1.5, 4.0, 1.5)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("negative", [True, False])
def test_leave_one_out_of_one_block_is_plain_guidance(negative):
    scales = (3.0, 5.0, 7.0, 1.0)
    assert LeaveOneOutScales(*scales).coefficients((), negative) == Scales(*scales).coefficients((), negative)


def test_leave_one_out_needs_no_branch_for_a_block_at_scale_one():
    assert set(LeaveOneOutScales(1.0, 1.0, 1.0).coefficients(BLOCKS, False)) == {SOFT}
    assert set(LeaveOneOutScales(3.0, 1.0, 2.0).coefficients(BLOCKS, False)) == {NO_TARGET, KEYWORDS, SOFT}


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bad_scale_is_named(bad):
    with pytest.raises(PmgError, match=r"sampling\.scales\.soft"):
        Scales(3, 3, bad)
