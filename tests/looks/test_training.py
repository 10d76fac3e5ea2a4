"""Training on looks at toy size: pools, blocks that are dropped, references, and the judge's batches."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn.functional import avg_pool2d

from looks import SPACE, deep_codec
from pmg.domain import PmgError
from pmg.installation import find_assets
from pmg.looks.catalogue import TargetCaptions
from pmg.looks.drawings import LookData
from pmg.looks.measured_captions import MeasuringCaptioner
from pmg.looks.models.pooled_denoiser import PooledTransformer2DModel, PooledTransformerDenoiser
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.looks.stages.autoencoder import LookAutoencoderTraining
from pmg.looks.stages.denoiser import (
    REFERENCES,
    Drop,
    LookBatches,
    LookDenoiser,
    LookDenoiserTraining,
    some_references,
)
from pmg.looks.stages.judge import contrast
from pmg.looks.stages.pool import ITEMS, LookPool, Pool, build_pool, say
from pmg.looks.stages.scorer import ScorerBatches
from pmg.looks.stages.training import contrastive_loss, reference_rows
from pmg.models.diffusion.conditioning import Block, SoftBlock, join, stack
from pmg.models.diffusion.noise_processes import FlowMatching
from pmg.models.diffusion.unet.denoiser import UNetDenoiser
from pmg.models.tiny_models import tiny_text_encoder
from pmg.training.optim import adamw, constant

WIDTH = 32


@pytest.fixture(scope="module")
def data():
    return LookData(f"{find_assets()}/drawings", ["food-fruit", "animal-mammal", "tool"], SPACE, ["twemoji"], 0)


def describe(pictures):
    return [{"ground": "white ground", "outline": "no outline"} for _ in pictures]


def encode(pictures):
    return torch.cat([avg_pool2d(pictures, 8), pictures[:, :1, ::8, ::8]], 1)


@pytest.fixture(scope="module")
def pool(data):
    return build_pool(data, "train", range(6), seed=0, describe=describe, encode=encode, at_once=4)


def unet():
    return UNetDenoiser(UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        attention_head_dim=(1, 2), cross_attention_dim=WIDTH, norm_num_groups=4, class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * WIDTH, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ))  # fmt: skip


def pooled_transformer():
    return PooledTransformerDenoiser(PooledTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=8,
        caption_channels=WIDTH, pooled_projection_dim=2 * WIDTH,
    ))  # fmt: skip


@pytest.fixture(params=[unet, pooled_transformer])
def training(request):
    torch.manual_seed(0)
    style = StyleEncoder(in_channels=4, channels=16, tokens=2, width=WIDTH, heads=2)
    return LookDenoiserTraining(LookDenoiser(request.param(), style, FlowMatching()), adamw(1e-3), constant, 0.9)


def batches(pool, data, drop):
    return LookBatches(pool, data, tiny_text_encoder(width=WIDTH), FlowMatching(), drop, TargetCaptions("sticker"))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_pool_is_made_of_looks(pool, data):
    assert pool.latents.shape == (6, ITEMS, 4, 8, 8)
    for look in pool.rows.tolist():
        assert len({data.drawings.artists[row] for row in look}) == 1
        assert len({data.drawings.items[row].concept for row in look}) == ITEMS
        assert all(row in set(data.rows("train").tolist()) for row in look)


def test_a_held_out_pool_begins_with_held_out_drawings(data):
    held_out = build_pool(data, "validation", range(3), seed=0, describe=describe, encode=encode)
    train, validation = (set(data.rows(split).tolist()) for split in ("train", "validation"))
    for first, *others in held_out.rows.tolist():
        assert first in validation
        assert set(others) <= train


def test_a_pool_is_read_as_it_was_written(pool, tmp_path):
    pool.save(tmp_path)
    again = LookPool.load(tmp_path)
    assert torch.equal(again.latents, pool.latents)
    assert (again.words, again.remarks) == (pool.words, pool.remarks)


def test_a_pool_that_was_changed_is_refused(pool, tmp_path):
    pool.save(tmp_path)
    said = json.loads((tmp_path / "words.json").read_text())
    (tmp_path / "words.json").write_text(json.dumps(said | {"remarks": [*said["remarks"][::-1], "other"]}))
    with pytest.raises(PmgError, match="was changed after it was written"):
        LookPool.load(tmp_path)
    replace(pool, latents=pool.latents + 1).save(tmp_path / "other")
    pool.save(tmp_path)
    shutil.copy(tmp_path / "other" / "pool.safetensors", tmp_path)
    with pytest.raises(PmgError, match="was changed after it was written"):
        LookPool.load(tmp_path)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"captioner": SimpleNamespace(describe=lambda images: [{}] * len(images))}]
)
def test_a_pool_of_other_looks_is_refused(data, tmp_path, monkeypatch, change):
    codec = SimpleNamespace(encode=encode, autoencoder=torch.nn.Identity())
    monkeypatch.setattr("pmg.looks.stages.pool.AutoencoderDCCodec.from_folder", lambda folder: codec)
    given = {"seed": 0, "captioner": SimpleNamespace(describe=describe), "generator_folder": tmp_path}
    made, again = (Pool(str(tmp_path / "pool"), 3, 2).get(data, "train", **given) for _ in range(2))
    assert torch.equal(made.latents, again.latents)
    with pytest.raises(PmgError, match="holds other looks"):
        Pool(str(tmp_path / "pool"), 3, 2).get(data, "train", **(given | change))
    for other in ((4, 2), (3, 2, 0.9)):
        with pytest.raises(PmgError, match="another number, or mirrored"):
            Pool(str(tmp_path / "pool"), *other).get(data, "train", **given)


def test_an_interrupted_pool_keeps_its_parts(data, tmp_path, monkeypatch):
    codec = SimpleNamespace(encode=encode, autoencoder=torch.nn.Identity())
    monkeypatch.setattr("pmg.looks.stages.pool.AutoencoderDCCodec.from_folder", lambda folder: codec)
    monkeypatch.setattr("pmg.looks.stages.pool.PART", 2)
    seen = []

    def stop(images):
        seen.append(len(images))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return describe(images)

    given = {"seed": 0, "generator_folder": tmp_path}
    whole = Pool(str(tmp_path / "whole"), 7, 2).get(
        data, "train", captioner=SimpleNamespace(describe=describe), **given
    )
    pool = Pool(str(tmp_path / "pool"), 7, 2)
    with pytest.raises(KeyboardInterrupt):
        pool.get(data, "train", captioner=SimpleNamespace(describe=stop), **given)
    resumed = pool.get(data, "train", captioner=SimpleNamespace(describe=stop), **given)
    assert seen == [8, 8, 8, ITEMS, ITEMS, 8, ITEMS, ITEMS]  # two parts, compared by a look each; the rest; the whole
    assert torch.equal(resumed.rows, whole.rows)
    assert torch.equal(resumed.latents, whole.latents)
    assert (resumed.words, resumed.remarks) == (whole.words, whole.remarks)
    assert {path.name for path in (tmp_path / "pool" / "train").iterdir()} == {"pool.safetensors", "words.json"}


def test_mirrored_looks_are_the_same_looks_mirrored_and_captions_say_so(pool, data):
    mirrored = build_pool(data, "train", range(6), seed=0, describe=describe, encode=encode, mirrored=1.0)
    assert torch.equal(mirrored.rows, pool.rows)
    torch.testing.assert_close(mirrored.latents[:, :, :3], pool.latents[:, :, :3].flip(-1), atol=1e-3, rtol=0.0)
    assert (mirrored.remarks, pool.remarks) == (["mirrored"] * 6, [""] * 6)
    target = [
        batches(some, data, Drop(0.0, 0.0, 0.0, 0.0))(torch.arange(6), rng())["target"] for some in (pool, mirrored)
    ]
    assert target[0].shape[1] < target[1].shape[1]


def test_some_words_are_said_in_any_order():
    words = {"a": "one", "b": "two", "c": "three"}
    assert say(words, random.Random(0), keep=0.0) == ""
    said = {say(words, random.Random(seed), keep=1.0) for seed in range(40)}
    assert len(said) == 6
    assert {frozenset(text.split(", ")) for text in said} == {frozenset(words.values())}


def test_references_are_the_other_drawings_of_the_look():
    for row, references in enumerate(reference_rows(3 * ITEMS).tolist()):
        look = set(range(row - row % ITEMS, row - row % ITEMS + ITEMS))
        assert set(references) == look - {row}
    present = some_references(600, rng())
    counts = present.sum(1)
    assert counts.min() == 1
    assert counts.max() == REFERENCES
    assert 150 < int((counts == 2).sum()) < 250


def test_dropped_blocks_are_hidden(pool, data):
    nothing = batches(pool, data, Drop(1.0, 1.0, 1.0, 0.0))(torch.arange(2), rng())
    assert not nothing["words_mask"].any()
    assert not nothing["keep_style"].any()
    assert all(torch.equal(row, nothing["target"][0]) for row in nothing["target"])
    everything = batches(pool, data, Drop(0.0, 0.0, 0.0, 0.0))(torch.arange(2), rng())
    assert everything["words_mask"].any(1).all()
    assert everything["keep_style"].all()


def test_a_batch_depends_on_its_seed_alone(pool, data):
    collate = batches(pool, data, Drop())
    first, again, other = (collate(torch.arange(3), rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["noise"], other["noise"])


def test_a_hidden_style_leaves_no_trace():
    target = Block(torch.randn(2, 5, WIDTH), torch.ones(2, 5, dtype=torch.bool), torch.randn(2, WIDTH))
    style = SoftBlock.of(torch.randn(2, 3, WIDTH)).masked(torch.tensor([True, False]))
    pooled = join(target, style).pooled_with_soft_mean()
    assert torch.allclose(pooled[0, WIDTH:], style.tokens[0].mean(0), atol=1e-6)
    without = torch.cat([target.pooled, torch.zeros(2, WIDTH)], 1)
    assert torch.equal(pooled[1], without[1])
    assert torch.equal(join(target).pooled_with_soft_mean(), without)
    both = stack([join(target), join(target, style)])
    assert torch.equal(both.pooled_with_soft_mean(), torch.cat([without, pooled]))


def test_the_loss_trains_denoiser_and_style_encoder(training, pool, data):
    batch = batches(pool, data, Drop(0.0, 0.0, 0.0, 0.0))(torch.arange(2), rng())
    losses = training.losses(batch)
    assert losses.shape == (2 * ITEMS,)
    losses.mean().backward()
    assert all(
        part.grad.abs().sum() > 0
        for part in (next(training.model.denoiser.parameters()), training.model.style_encoder.queries)
    )
    changed = {**batch, "latents": batch["latents"].clone()}
    changed["latents"][0] += 1
    assert not torch.equal(training.losses(changed)[1:ITEMS], losses[1:ITEMS])  # it is their reference
    assert torch.allclose(training.losses(changed)[ITEMS:], losses[ITEMS:], atol=1e-5)


def test_the_contrast_prefers_looks_that_keep_together():
    look = torch.tensor([0, 0, 1, 1])
    together = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert contrast(together, look, 0.1) < 0.01
    assert contrast(together[[0, 2, 1, 3]], look, 0.1) > 5


def test_random_numbers_and_masks_of_a_step_are_made_on_its_device():
    """On torch's device without content, which refuses others as a GPU does."""
    style, look = torch.zeros(4, 8, device="meta"), torch.zeros(4, dtype=torch.long, device="meta")
    assert contrast(style, look, 0.1).device.type == "meta"
    training = LookAutoencoderTraining(nn.Identity(), nn.Identity(), adamw(1e-3), constant)
    assert training._disturb(torch.zeros(2, 3, 4, 4, device="meta")).device.type == "meta"


class OneConceptEach:
    """Pictures whose items have a concept each, as those of one's own files have."""

    def __init__(self, data):
        self.data = data
        self.picture_items = [replace(item, concept=item.id) for item in data.picture_items]

    def draw_pictures(self, rows, rng):
        """Returns the pictures of rows."""
        return self.data.draw_pictures(rows, rng)


def test_pictures_of_one_title_have_one_target_for_the_scorer(data):
    captioner, codec = MeasuringCaptioner("{ground}"), deep_codec(torch.zeros(1, 3, 64, 64))
    rows = [row for row, item in enumerate(data.picture_items) if item.title == data.picture_items[0].title][:3]
    collate = ScorerBatches(
        OneConceptEach(data), torch.tensor(rows), captioner, tiny_text_encoder(width=WIDTH), codec,
        restored=0.0, captions=TargetCaptions("product"),
    )  # fmt: skip
    batch = collate(torch.arange(len(rows)), rng())
    assert len(rows) == 3
    assert len(set(batch["concept"].tolist())) == 1
    assert len(batch["titles"]) == len({item.title for item in data.picture_items})


def test_contrast_of_uniform_logits_is_the_log_of_their_number():
    positive = torch.tensor([[True, False, False, True]])
    assert torch.allclose(contrastive_loss(torch.zeros(1, 4), positive), torch.tensor([4.0]).log())


def test_contrast_falls_as_a_right_answer_rises():
    positive = torch.tensor([[True, False]])
    low, high = (contrastive_loss(torch.tensor([[value, 0.0]]), positive) for value in (0.0, 3.0))
    assert high < low
