"""EfficientNet-Lite0: sizes, padding, order of the published weights, and features that differ between concepts."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d, normalize

from looks import ALL_SEEN
from pmg.installation import find_assets
from pmg.looks.drawings import LookData
from pmg.looks.models.efficientnet_lite import CHANNELS, FEATURES, EfficientNetLite, SamePadding
from pmg.looks.models.trunk import statistics


@pytest.fixture(scope="module")
def trunk(root):
    return EfficientNetLite.from_folder(str(root / "assets" / "efficientnet_lite0"))


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 2, 8), (3, 2, 7), (5, 2, 14), (5, 2, 9), (3, 1, 6)])
def test_same_padding_gives_an_output_of_the_size_over_the_stride(kernel, stride, size):
    padded = SamePadding(kernel, stride)(torch.ones(1, 1, size, size + 1))
    shape = avg_pool2d(padded, kernel, stride).shape
    assert shape[2:] == (-(-size // stride), -(-(size + 1) // stride))
    first, last = padded[0, 0].sum(1).nonzero()[[0, -1]].flatten().tolist()
    assert 0 <= (padded.shape[2] - 1 - last) - first <= 1  # the odd row is at the bottom


def test_it_has_the_published_size_and_a_shape_for_each_stage(trunk):
    assert sum(one.numel() for one in trunk.parameters()) == 3_371_008
    stages, features = trunk(torch.zeros(2, 3, 64, 64))
    assert [tuple(one.shape[1:]) for one in stages] == list(zip(CHANNELS, *2 * [(32, 16, 8, 4, 4, 2, 2)], strict=True))
    assert features.shape == (2, FEATURES, 2, 2)
    assert torch.cat([statistics(one) for one in stages], 1).shape == (2, 2 * sum(CHANNELS))


def test_drawings_of_one_concept_are_nearer_than_others(trunk):
    drawings = LookData(f"{find_assets()}/drawings", ["tool"], ALL_SEEN, [], 0).drawings
    concepts = drawings.concepts[:8]
    rows = [row for row, item in enumerate(drawings.items) if item.concept in concepts]
    pixels = drawings.pixels[rows].float() / 127.5 - 1
    ground = pixels[:, 3:] / 2 + 0.5
    vectors = normalize(trunk(pixels[:, :3] * ground + 1 - ground)[1].mean((2, 3)), dim=1)
    names = [drawings.items[row].concept for row in rows]
    same = torch.tensor([[one == other for other in names] for one in names])
    alike = vectors @ vectors.T
    others = ~torch.eye(len(rows), dtype=torch.bool)
    assert alike[same & others].mean() > alike[~same].mean() + 0.1
