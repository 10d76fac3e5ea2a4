"""Protocols of published systems against their formulas, pair by pair, on tiny pictures."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import conv2d, cosine_similarity, interpolate, pad

from pmg.domain import PmgError
from pmg.evaluation.metric_interface import References
from pmg.methods.pair_protocols import PairProtocol
from pmg.models.vision.perceptual import PerceptualDistance

SIDE = 176  # five scales of MS-SSIM


class Means:
    """Features of a picture: the mean and the deviation of each colour."""

    def __call__(self, images):
        return torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)

    encode = __call__


def by_hand(one, other, largest, border=0):
    """SSIM by its formula: Gaussian windows of 11 pixels and deviation 1.5, `border` reflected pixels around."""
    offsets = torch.arange(11) - 5.0
    row = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = (row / row.sum()).outer(row / row.sum()).expand(3, 1, 11, 11)

    def smooth(values):
        return conv2d(values[None], window, groups=3)

    one, other = (pad(values[None], (border,) * 4, "reflect")[0] for values in (one, other))
    a, b = smooth(one), smooth(other)
    variances, both = (smooth(one**2) - a**2, smooth(other**2) - b**2), smooth(one * other) - a * b
    c1, c2 = (0.01 * largest) ** 2, (0.03 * largest) ** 2
    return float(((2 * a * b + c1) * (2 * both + c2) / ((a**2 + b**2 + c1) * (sum(variances) + c2))).mean())


@pytest.fixture(scope="module")
def pictures():
    rng = torch.Generator().manual_seed(0)
    smooth = torch.rand(9, 3, 6, 6, generator=rng)
    return interpolate(smooth, SIDE, mode="bilinear") * 2 - 1


@pytest.fixture(scope="module")
def perceptual(root):
    return PerceptualDistance.from_folder(root / "assets" / "lpips")


def test_ssim_is_that_of_each_systems_scripts(pictures):
    one, other = (pictures[:2] + 1) / 2
    pair = (one[None], other[None])
    strict = PairProtocol("pigeon", None, {})._structure(*pair)
    assert float(strict["ssim"]) == pytest.approx(by_hand(one * 255, other * 255, 255), abs=1e-3)
    loose = PairProtocol("pmg_bench", None, {}, data_range=2.0, inside=False)._structure(*pair)
    assert float(loose["ssim"]) == pytest.approx(by_hand(one, other, 2.0, border=5), abs=1e-4)
    assert loose["ssim"] > strict["ssim"]


def test_means_over_the_pairs_of_the_target_and_of_five_of_the_history(pictures, perceptual):
    protocol = PairProtocol("mine", perceptual, {"means": Means()}, size=SIDE, history=5)
    image, truths, history = pictures[:1], pictures[1:3], pictures[3:9]
    found = protocol(image, References([None], truths=[truths], histories=[history]))
    assert set(found) == {info.name for info in protocol.outputs}
    latest = history[-5:]
    assert float(found["mine_lpips_target"]) == pytest.approx(float(perceptual(image, truths[:1])), abs=1e-5)
    pairs = [float(perceptual(image, one[None])) for one in latest]
    assert float(found["mine_lpips_history"]) == pytest.approx(sum(pairs) / 5, abs=1e-5)
    hand = [by_hand((image[0] + 1) / 2, (one + 1) / 2, 1.0) for one in latest]
    assert float(found["mine_ssim_history"]) == pytest.approx(sum(hand) / 5, abs=1e-4)
    cosines = cosine_similarity(Means()(image), Means()(latest))
    assert float(found["mine_means_history"]) == pytest.approx(float(cosines.mean()), abs=1e-5)
    assert float(found["mine_ms_ssim_target"]) <= 1


def test_without_history_there_is_no_value_to_it(pictures, perceptual):
    protocol = PairProtocol("mine", perceptual, {}, size=SIDE, inside=False)
    found = protocol(pictures[:1], References([None], truths=[pictures[:1]], histories=[pictures[:0]]))
    assert math.isnan(found["mine_lpips_history"])
    assert float(found["mine_lpips_target"]) == pytest.approx(0, abs=1e-6)
    assert float(found["mine_ssim_target"]) == pytest.approx(1, abs=1e-5)
    assert set(found) == {"mine_lpips_target", "mine_lpips_history", "mine_ssim_target", "mine_ssim_history"}


@pytest.mark.parametrize(
    ("preset", "settings"), [("pigeon", (512, 5, 1.0, True)), ("pmg_bench", (512, 5, 2.0, False))]
)
def test_presets_have_the_published_settings(compose, preset, settings):
    node = compose("evaluate", f"metrics={preset}", "generate_run=x").metrics[preset]
    known = PairProtocol(
        **{name: node[name] for name in ("name", "size", "history", "data_range", "inside")},
        perceptual=None, similarities={},
    )  # fmt: skip
    assert (known.size, known.history, known.data_range, known.inside) == settings


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("pmg.methods.pair_protocols.find_spec", lambda name: None)
    with pytest.raises(PmgError, match=r"metrics\.pigeon needs pytorch-msssim: pip install '.*\[protocols\]'"):
        PairProtocol("pigeon", None, {})
