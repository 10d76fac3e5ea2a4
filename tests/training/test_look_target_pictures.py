"""A picture of the target: a widened UNet draws what it drew, then sees the picture; other families draw it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel

from looks import SHARES
from pmg.data.emoji.drawings import LookData
from pmg.data.emoji.finish_space import FinishSpace
from pmg.installation import find_assets
from pmg.models.diffusion.conditioning import References, TextBlock, join
from pmg.models.diffusion.noise_processes import FlowMatching
from pmg.models.diffusion.style_encoder import StyleEncoder
from pmg.models.diffusion.target_picture import TargetPictureDenoiser, widen
from pmg.models.diffusion.unet.denoiser import UNetDenoiser
from pmg.models.loading.tiny_models import tiny_text_encoder
from pmg.training.optim import adamw, constant
from pmg.training.pretraining.look_pool import ITEMS, build_pool
from pmg.training.pretraining.look_pool_stage import KEEP_ALL
from pmg.training.pretraining.look_target_pictures import (
    LookTargetPicturesTraining,
    TargetPictureBatches,
    TargetPictureLookDenoiser,
    drawings_elsewhere,
    family,
)

WIDTH = 32
SPACE = FinishSpace(**SHARES, unseen_hues=[[80, 120]], unseen_pairs=[["dark", "pixels"]])


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        attention_head_dim=(1, 2), cross_attention_dim=WIDTH, norm_num_groups=4, class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * WIDTH, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


@pytest.fixture
def condition():
    rng = torch.Generator().manual_seed(1)
    target = TextBlock(
        torch.randn(3, 5, WIDTH, generator=rng), torch.ones(3, 5) > 0, torch.randn(3, WIDTH, generator=rng)
    )
    pictures = torch.randn(3, 1, 4, 8, 8, generator=rng)
    return replace(join(target), references=References(pictures, torch.tensor([[True], [True], [False]])))


def predict(denoiser, condition):
    rng = torch.Generator().manual_seed(2)
    noisy, times = torch.randn(3, 4, 8, 8, generator=rng), torch.rand(3, generator=rng)
    return denoiser(noisy, times, denoiser.adapter.prepare(condition))


@torch.no_grad()
def test_a_widened_unet_draws_what_it_drew(unet, condition):
    wide = TargetPictureDenoiser(widen(unet))
    assert wide.latent_shape == (4, 8, 8)
    wanted = predict(UNetDenoiser(unet), replace(condition, references=None))
    assert torch.allclose(predict(wide, condition), wanted, atol=1e-6)
    assert torch.allclose(predict(wide, replace(condition, references=None)), wanted, atol=1e-6)


@torch.no_grad()
def test_trained_weights_see_the_picture_where_there_is_one(unet, condition):
    model = widen(unet)
    torch.nn.init.normal_(model.conv_in.weight, std=0.1)
    wide = TargetPictureDenoiser(model)
    shown, blank = predict(wide, condition), predict(wide, replace(condition, references=None))
    assert (shown[:2] - blank[:2]).abs().max() > 1e-3
    assert torch.allclose(shown[2], blank[2], atol=1e-6)


def test_a_plain_folder_is_widened_once(unet, tmp_path):
    unet.save_pretrained(tmp_path / "plain")
    first = TargetPictureDenoiser.from_folder(tmp_path / "plain")
    first.model.save_pretrained(tmp_path / "wide")
    assert TargetPictureDenoiser.from_folder(tmp_path / "wide").model.config.in_channels == 9


@pytest.fixture(scope="module")
def data():
    return LookData(f"{find_assets()}/drawings", ["food-fruit", "animal-mammal"], SPACE, ["twemoji"], 0)


def test_other_families_draw_the_same_concept_in_training(data):
    assert family("noto-line") != family("noto-v1") == family("noto")
    train, artists = set(data.rows("train").tolist()), data.drawings.artists
    for row, some in enumerate(drawings_elsewhere(data)):
        assert set(some) <= train
        assert all(data.drawings.items[one].concept == data.drawings.items[row].concept for one in some)
        assert all(family(artists[one]) != family(artists[row]) for one in some)


def test_a_step_trains_the_new_weights_and_mirrored_looks_have_no_picture(unet, data):
    encode = lambda pictures: torch.nn.functional.avg_pool2d(pictures, 8)[:, [0, 1, 2, 0]]  # noqa: E731
    pool = build_pool(
        data, "train", 4, seed=0, describe=lambda some: [{"ground": "white ground"} for _ in some], encode=encode,
        mirrored=0.5, items=5,
    )  # fmt: skip
    batches = TargetPictureBatches(pool, data, tiny_text_encoder(width=WIDTH), FlowMatching(), KEEP_ALL, "sticker")
    batches.elsewhere, batches.without = drawings_elsewhere(data), 0.0
    batches.drawn = torch.randn(len(data.drawings), 4, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = batches(torch.arange(4), torch.Generator().manual_seed(0))
    mirrored = torch.tensor([bool(remark) for remark in pool.remarks]).repeat_interleave(ITEMS)
    assert not batch["keep_picture"][mirrored].any()
    style = StyleEncoder(in_channels=4, channels=16, tokens=2, width=WIDTH, heads=2, stride=2)
    model = TargetPictureLookDenoiser(TargetPictureDenoiser(widen(unet)), style, FlowMatching(), tokens=0)
    training = LookTargetPicturesTraining(model, adamw(1e-3), constant, 0.9)
    training.losses(batch).mean().backward()
    assert model.denoiser.model.conv_in.weight.grad[:, 4:].abs().max() > 0
