from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from pmg.domain import PmgError
from pmg.evaluation.metrics import (
    References,
    check_images,
    classify,
    concept_accuracy,
    measure,
    ssim,
    style_accuracy,
    to_unit,
)
from pmg.models.vision.perceptual import PerceptualDistance

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "lpips"


class ColourJudge(torch.nn.Module):
    """A real, tiny judge: the brightest channel is the style, the darkest the concept."""

    styles = ("red", "green", "blue")
    concepts = ("no-red", "no-green", "no-blue")

    def forward(self, images):
        means = images.mean((2, 3))
        return means, -means


@pytest.fixture(scope="module")
def perceptual():
    return PerceptualDistance.from_folder(ASSETS)


def pictures(count, seed=0):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def ragged():
    return [pictures(1, 1), pictures(3, 2), pictures(2, 3)]


def test_distances_of_ragged_references_are_those_of_a_loop(perceptual, ragged):
    images = pictures(3)
    references = References(perceptual, ragged)
    nearest, chosen = references.nearest(images)
    mean = references.mean(images)
    for i, group in enumerate(ragged):
        single = perceptual(images[i].expand_as(group), group)
        torch.testing.assert_close(nearest[i], single.min(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mean[i], single.mean(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(chosen[i], group[single.argmin()])


def test_distance_to_itself_is_zero(perceptual, ragged):
    own = torch.stack([group[-1] for group in ragged])
    distance, chosen = References(perceptual, ragged).nearest(own)
    torch.testing.assert_close(distance, torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(chosen, own)


def test_references_refuse_bad_input(perceptual, ragged):
    with pytest.raises(ValueError, match=r"2 images came for the references of 3"):
        References(perceptual, ragged).nearest(pictures(2))
    with pytest.raises(ValueError, match=r"references of example 1 holds no image"):
        References(perceptual, [ragged[0], pictures(0)])
    with pytest.raises(ValueError, match=r"images must lie in \[-1, 1\], got \[0, 255\]"):
        References(perceptual, ragged).mean(torch.tensor([0.0, 255.0]).repeat(3, 3, 64, 32))


def test_ssim_of_constant_images_is_the_closed_form():
    a, b = torch.full((1, 3, 32, 32), 0.3), torch.full((1, 3, 32, 32), 0.6)
    expected = (2 * 0.3 * 0.6 + 0.01**2) / (0.3**2 + 0.6**2 + 0.01**2)
    torch.testing.assert_close(ssim(a, b), torch.tensor([expected]), atol=1e-3, rtol=0)


def test_ssim_is_taken_pair_by_pair():
    images, others = to_unit(pictures(3)), to_unit(pictures(3, 1))
    values = ssim(torch.cat([images, images]), torch.cat([images, others]))
    torch.testing.assert_close(values[:3], torch.ones(3))
    for i in range(3):
        torch.testing.assert_close(values[3 + i : 4 + i], ssim(images[i : i + 1], others[i : i + 1]))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8), "got torch.float32"),
        (torch.zeros(2, 1, 8, 8), "must be float"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "got torch.uint8"),
        (torch.full((2, 3, 8, 8), math.nan), "got .nan, nan"),
        (torch.full((2, 3, 8, 8), -1.0), r"must lie in \[0, 1\], got \[-1, -1\]"),
    ],
)
def test_images_are_checked(images, message):
    with pytest.raises(ValueError, match=message):
        check_images("images", images, 0.0, 1.0)


def test_accuracies():
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    assert style_accuracy(logits, ("a", "b", "c"), [{"a", "b"}, {"a", "b"}]).tolist() == [1.0, 0.0]
    assert concept_accuracy(logits, ("a", "b", "c"), ["b", "c"]).tolist() == [0.0, 1.0]


def test_a_judge_of_another_catalogue_is_refused():
    with pytest.raises(PmgError, match="no style 'z'"):
        style_accuracy(torch.zeros(1, 1), ("a",), [{"z"}])
    with pytest.raises(PmgError, match="no concept 'z'"):
        concept_accuracy(torch.zeros(1, 1), ("a",), ["z"])


def test_measure_gives_every_reported_metric(perceptual):
    red = torch.full((1, 3, 64, 64), -1.0)
    red[:, 0] = 1.0
    images = torch.cat([red, red.flip(1)])
    truth = References(perceptual, [red, torch.cat([red, red.flip(1)])])
    history = References(perceptual, [red.flip(1), torch.cat([red, red])])
    found = measure(images, truth, history)
    found |= classify(images, ColourJudge(), [{"red"}, {"red", "green"}], ["no-green", "no-blue"])
    assert found["style_accuracy"].tolist() == [1.0, 0.0]
    assert found["concept_accuracy"].tolist() == [1.0, 0.0]
    torch.testing.assert_close(found["lpips_truth"], torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(found["ssim_truth"], torch.ones(2))
    torch.testing.assert_close(found["lpips_history"], perceptual(images, images.flip(1)), atol=1e-5, rtol=1e-4)
