"""LPIPS and SSIM of single images, and what every metric has to give."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from pmg.domain import Example, Item, PmgError
from pmg.evaluation.image_evaluation import compute
from pmg.evaluation.metric_interface import MetricInfo, Metrics, References, describe, read_infos
from pmg.evaluation.metrics.lpips import LpipsToHistory, LpipsToTruth, PerceptualReferences
from pmg.evaluation.metrics.ssim import MsSsimToTruth, SsimToTruth, ssim
from pmg.evaluation.references import checked
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.models.vision.pixels import to_unit

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "lpips"


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
    references = PerceptualReferences(perceptual, ragged)
    nearest, chosen = references.nearest(images)
    mean = references.mean(images)
    for i, group in enumerate(ragged):
        single = perceptual(images[i].expand_as(group), group)
        torch.testing.assert_close(nearest[i], single.min(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mean[i], single.mean(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(chosen[i], group[single.argmin()])


def test_distance_to_itself_is_zero(perceptual, ragged):
    own = torch.stack([group[-1] for group in ragged])
    distance, chosen = PerceptualReferences(perceptual, ragged).nearest(own)
    torch.testing.assert_close(distance, torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(chosen, own)


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
        (torch.full((2, 3, 8, 8), 255.0), r"images must be in \[-1, 1\], got \[255, 255\]"),
    ],
)
def test_images_are_checked(images, message):
    with pytest.raises(ValueError, match=message):
        checked("images", images)


def example(concept):
    item = Item(concept, concept, concept)
    return Example(concept, concept, (), item, (item,))


def test_metrics_give_a_column_for_each_output(perceptual):
    red = torch.full((1, 3, 64, 64), -1.0)
    red[:, 0] = 1.0
    images = torch.cat([red, red.flip(1)])
    references = References(
        [example("red"), example("green")],
        truths=[red, torch.cat([red, red.flip(1)])],
        histories=[red.flip(1), torch.cat([red, red])],
    )
    metrics = [each(perceptual) for each in (LpipsToTruth, LpipsToHistory)]
    found = compute([*metrics, SsimToTruth(perceptual), MsSsimToTruth(perceptual)], images, references)
    assert found["lpips_truth"] == pytest.approx([0, 0], abs=1e-6)
    assert found["ssim_truth"] == pytest.approx([1, 1])
    assert found["ms_ssim_truth"] == pytest.approx([1, 1])
    assert found["lpips_history"] == pytest.approx(perceptual(images, images.flip(1)).tolist(), abs=1e-5)
    assert list(found) == [info.name for info in Metrics(metrics).outputs] + ["ssim_truth", "ms_ssim_truth"]


def test_truths_and_images_are_encoded_once_for_all_metrics(perceptual, ragged, monkeypatch):
    seen, features = [], perceptual.features
    monkeypatch.setattr(perceptual, "features", lambda images: seen.append(len(images)) or features(images))
    references = References([example("a")] * 3, truths=ragged)
    metrics = [each(perceptual) for each in (LpipsToTruth, SsimToTruth, MsSsimToTruth)]
    compute(metrics, pictures(3), references)
    assert seen == [6, 3]
    compute(metrics, pictures(3, 9), references)
    assert seen == [6, 3, 3]


class Partial:
    outputs = (MetricInfo("one", "one"), MetricInfo("two", "two"))
    inputs = ()

    def __call__(self, images, references):
        return {"one": images.mean((1, 2, 3))}


def test_a_metric_that_lacks_an_output_is_refused():
    with pytest.raises(
        ValueError, match=r"Partial declares \['one', 'two'\] for 2 images, and gave \{'one': \(2,\)\}"
    ):
        compute([Partial()], pictures(2), References([example("a")] * 2))


def test_two_outputs_of_one_name_are_refused():
    with pytest.raises(PmgError, match="two of them are called 'one'"):
        Metrics([Partial(), Partial()])


def test_descriptions_round_trip_and_keys_of_later_versions_are_left_out():
    infos = [MetricInfo("a", "A", False, (0.0, None), "accuracy"), MetricInfo("b", "B", digits=5, per_set=True)]
    section = describe(infos)
    assert read_infos({name: {**values, "unit": "px"} for name, values in section.items()}) == infos
