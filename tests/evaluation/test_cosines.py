"""Cosines of DINO and CLIP, MS-SSIM and LPIPS with VGG, image by image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from checkpoints import write_clip, write_dinov2
from pmg.domain import Example, Item, PmgError
from pmg.evaluation.metric_interface import References
from pmg.evaluation.metrics.clip import ClipSimilarity
from pmg.evaluation.metrics.cosines import group_cosines, group_vectors, mean
from pmg.evaluation.metrics.dino import DinoSimilarity
from pmg.evaluation.metrics.lpips import LpipsVggToTruth
from pmg.evaluation.metrics.ssim import BETAS, count_scales, ms_ssim, ssim
from pmg.models.vision.features import ClipFeatures, VisionFeatures
from pmg.models.vision.perceptual import PerceptualDistance


def pictures(count, seed=0, size=32):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return VisionFeatures.from_source(write_dinov2(tmp_path_factory.mktemp("dino")))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return ClipFeatures.from_source(write_clip(tmp_path_factory.mktemp("clip")))


def build(truths, histories, targets, preferences):
    item = Item("i", "i", "i")
    examples = [Example(str(n), str(n), (), item, (item,)) for n in range(len(truths))]
    return References(examples, truths, histories, targets, preferences)


@pytest.fixture
def scene():
    targets, preferences = [("red apple",), ("dog", "cat"), ("sun",)], [("blue",), (), ("thick", "outline")]
    return build([pictures(n, n) for n in (1, 3, 2)], [pictures(n, 9 + n) for n in (4, 1, 2)], targets, preferences)


def test_weights_alone_take_another_folders_tokenizer(tmp_path, clip, scene):
    whole, bare = write_clip(tmp_path / "whole"), tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (Path(whole) / name).rename(bare / name)
    with pytest.raises(PmgError, match="bare"):
        ClipFeatures.from_source(str(bare))
    named = ClipSimilarity(ClipFeatures.from_source(str(bare), processors=str(whole)), name="hpsv2")
    assert [info.name for info in named.outputs] == ["hpsv2_i_truth", "hpsv2_t_target", "hpsv2_t_preference"]
    found, known = named(pictures(3, 77), scene), ClipSimilarity(clip)(pictures(3, 77), scene)
    torch.testing.assert_close(found["hpsv2_t_target"], known["clip_t_target"])
    assert set(found) == {info.name for info in named.outputs}


def test_cosine_of_the_truth_is_one(dino, clip, scene):
    images = torch.stack([truth[-1] for truth in scene.truths])
    found = DinoSimilarity(dino)(images, scene) | ClipSimilarity(clip)(images, scene)
    for name in ("dino_truth", "clip_i_truth"):
        torch.testing.assert_close(found[name], torch.ones(3), atol=1e-5, rtol=0)
    assert (found["dino_history"] < 0.999).all()


def test_ragged_groups_are_those_of_a_loop(dino, clip, scene):
    images = pictures(3, 77)
    found = DinoSimilarity(dino)(images, scene) | ClipSimilarity(clip)(images, scene)
    for i in range(3):
        for name, features, group, reduce in (
            ("dino_truth", dino, scene.truths[i], torch.max),
            ("dino_history", dino, scene.histories[i], torch.mean),
            ("clip_i_truth", clip, scene.truths[i], torch.max),
        ):
            expected = reduce(cosine_similarity(features(images[i : i + 1]), features(group)))
            torch.testing.assert_close(found[name][i], expected, atol=1e-5, rtol=1e-4)
        text = clip.encode_texts([", ".join(scene.target_words[i])])
        torch.testing.assert_close(found["clip_t_target"][i], (clip(images[i : i + 1]) @ text.T)[0, 0])


def test_a_preference_that_nobody_read_is_not_measured(clip, scene):
    images = pictures(3, 77)
    found = ClipSimilarity(clip)(images, scene)["clip_t_preference"]
    assert found.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(found[2], (clip(images[2:]) @ clip.encode_texts(["thick, outline"]).T)[0, 0])
    silent = build(scene.truths, scene.histories, scene.target_words, [()] * 3)
    assert ClipSimilarity(clip)(images, silent)["clip_t_preference"].isnan().all()


def test_words_beyond_clips_length_are_left_out(clip, scene):
    long = ("apple", *(f"{'x' * 20}{n}" for n in range(9)))
    assert clip.count_tokens(", ".join(long)) > 77
    fitted = ClipSimilarity(clip)._fit(long)
    assert fitted.startswith("apple, ")
    assert clip.count_tokens(fitted) <= 77
    assert clip.count_tokens(ClipSimilarity(clip)._fit(("x" * 90, "sticker"))) == 77  # a title is cut


def test_vgg_distance_is_to_the_nearest_truth(root, scene):
    perceptual = PerceptualDistance.from_folder(root / "assets" / "lpips")  # any backbone: VGG takes seconds to build
    bigger = build(
        [pictures(n, n, 64) for n in (1, 3)], scene.histories[:2], scene.target_words[:2], scene.preference_words[:2]
    )
    images = torch.stack([bigger.truths[0][0], pictures(1, 5, 64)[0]])
    found = LpipsVggToTruth(perceptual)(images, bigger)["lpips_vgg_truth"]
    expected = perceptual(images[1:].expand(3, -1, -1, -1), bigger.truths[1]).min()
    torch.testing.assert_close(found, torch.stack([torch.zeros(()), expected]))


@pytest.mark.parametrize(("side", "count"), [(11, 1), (32, 2), (64, 3), (128, 4), (176, 5), (512, 5)])
def test_ms_ssim_of_equal_images_is_one_at_any_size(side, count):
    assert count_scales(side) == count
    images = (pictures(2, size=side) + 1) / 2
    torch.testing.assert_close(ms_ssim(images, images), torch.ones(2))


def test_ms_ssim_is_the_weighted_product_over_scales():
    a, b = torch.full((1, 3, 64, 64), 0.3), torch.full((1, 3, 64, 64), 0.6)
    # constant images differ in luminance alone, which counts at the coarsest scale
    expected = ssim(a, b) ** (BETAS[2] / sum(BETAS[:3]))
    torch.testing.assert_close(ms_ssim(a, b), expected, atol=1e-3, rtol=0)
    images, others = ((pictures(3, seed, 64) + 1) / 2 for seed in (0, 1))
    loop = torch.cat([ms_ssim(images[i : i + 1], others[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(ms_ssim(images, others), loop)


def test_images_too_small_for_a_window_are_refused():
    with pytest.raises(PmgError, match=r"needs images of 11 pixels, these have 8; metrics\.ms_ssim_truth=null"):
        ms_ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


def test_empty_groups_have_no_mean():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    means = mean(group_cosines(vectors, [torch.tensor([[0.6, 0.8]]), torch.zeros(0, 2)]))
    assert means[0] == pytest.approx(0.6)
    assert means[1].isnan()
    assert [len(group) for group in group_vectors(None, [torch.zeros(0, 3, 8, 8)] * 2)] == [0, 0]
