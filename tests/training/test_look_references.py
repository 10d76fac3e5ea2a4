"""Reference attention: new layers change nothing, hidden tokens are not read; batches of many drawings."""

from __future__ import annotations

import random

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.nn.functional import avg_pool2d

from looks import SHARES
from pmg.data.emoji.drawings import LookData
from pmg.data.emoji.finish_space import FinishSpace
from pmg.data.emoji.finishes import AS_DRAWN
from pmg.installation import find_assets
from pmg.models.diffusion.conditioning import SoftBlock, TextBlock, join, stack
from pmg.models.diffusion.look_denoiser import LookDenoiser
from pmg.models.diffusion.noise_processes import FlowMatching
from pmg.models.diffusion.reference_attention import ReferenceReader
from pmg.models.diffusion.style_encoder import StyleEncoder
from pmg.models.diffusion.unet.denoiser import UNetDenoiser
from pmg.models.loading.tiny_models import tiny_text_encoder
from pmg.models.loading.weight_sources import load_frozen
from pmg.training.optim import adamw, constant
from pmg.training.pretraining.look_denoiser import Drop
from pmg.training.pretraining.look_pool import ITEMS, build_pool
from pmg.training.pretraining.look_pool_stage import KEEP_ALL
from pmg.training.pretraining.look_references import (
    LookReferencesTraining,
    ReferenceBatches,
    ReferenceLookDenoiser,
    other_places,
)

WIDTH, PATCHES, DRAWINGS = 32, 16, 6
SPACE = FinishSpace(**SHARES, unseen_hues=[[80, 120]], unseen_pairs=[["dark", "pixels"]])


def unet():
    torch.manual_seed(0)
    return UNetDenoiser(UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        attention_head_dim=(1, 2), cross_attention_dim=WIDTH, norm_num_groups=4, class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * WIDTH, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ))  # fmt: skip


def style_encoder():
    torch.manual_seed(1)
    return StyleEncoder(in_channels=4, channels=16, tokens=2, width=WIDTH, heads=2, stride=2)


@pytest.fixture
def model():
    return ReferenceLookDenoiser(unet(), style_encoder(), FlowMatching(), tokens=8, patches=PATCHES)


@pytest.fixture(scope="module")
def inputs():
    rng = torch.Generator().manual_seed(2)
    target = TextBlock(
        torch.randn(3, 5, WIDTH, generator=rng), torch.ones(3, 5) > 0, torch.randn(3, WIDTH, generator=rng)
    )
    return {
        "noisy": torch.randn(3, 4, 8, 8, generator=rng), "times": torch.rand(3, generator=rng), "target": target,
        "shown": torch.randn(3, 4, 4, 8, 8, generator=rng), "present": torch.ones(3, 4) > 0,
    }  # fmt: skip


def read(model, inputs, change=0.0):
    features = model.style_encoder.encode_pictures(inputs["shown"].flatten(0, 1)).unflatten(0, (3, 4))
    soft = model.read_style(features, inputs["present"])
    return SoftBlock(soft.tokens, soft.mask, references=soft.references + change)


def waken(model):
    for layer in model.references.layer_values:
        torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_new_reference_layers_change_nothing(model, inputs):
    plain = LookDenoiser(unet(), style_encoder(), FlowMatching())
    soft = read(model, inputs)
    wanted = plain(inputs["noisy"], inputs["times"], inputs["target"], SoftBlock(soft.tokens, soft.mask))
    assert torch.equal(model(inputs["noisy"], inputs["times"], inputs["target"], soft), wanted)


def test_the_first_step_trains_the_values(model, inputs):
    model(inputs["noisy"], inputs["times"], inputs["target"], read(model, inputs)).square().mean().backward()
    assert all(layer.weight.grad.abs().max() > 0 for layer in model.references.layer_values)


@torch.no_grad()
def test_trained_layers_read_the_tokens_unless_they_are_hidden(model, inputs):
    waken(model)
    blank = torch.randn(inputs["noisy"].shape[0], 8, 192, generator=torch.Generator().manual_seed(4))

    def draw(change, keep):
        soft = read(model, inputs, change).masked(torch.tensor([keep] * 3))
        return model(inputs["noisy"], inputs["times"], inputs["target"], soft)

    assert not torch.allclose(draw(0.0, True), draw(blank, True), atol=1e-3)
    assert torch.equal(draw(0.0, False), draw(blank, False))


@torch.no_grad()
def test_stacked_conditions_keep_their_tokens(model, inputs):
    waken(model)
    soft = read(model, inputs)
    conditions = [join(inputs["target"]), join(inputs["target"], soft)]
    adapter = model.denoiser.adapter
    apart = [model.denoiser(inputs["noisy"], inputs["times"], adapter.prepare(one)) for one in conditions]
    both = adapter.prepare(stack(conditions), reused=True)
    together = model.denoiser(inputs["noisy"].repeat(2, 1, 1, 1), inputs["times"].repeat(2), both)
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)


def test_a_block_keeps_its_references_when_rows_are_taken():
    block = SoftBlock(torch.zeros(2, 1, 3), torch.ones(2, 1) > 0, references=torch.arange(2.0).view(2, 1, 1))
    assert block[1:].references.tolist() == [[[1.0]]]
    assert len(block.repeat(2).references) == 4


@torch.no_grad()
def test_absent_pictures_are_not_read(model, inputs):
    some = {**inputs, "present": torch.tensor([[True, True, False, False]] * 3)}
    changed = {**some, "shown": inputs["shown"].index_fill(1, torch.tensor([2, 3]), 5.0)}
    assert torch.allclose(read(model, some).references, read(model, changed).references, atol=1e-5)


def test_a_reader_is_saved_and_loaded_without_loss(model, tmp_path):
    waken(model)
    model.references.save_pretrained(tmp_path)
    found = load_frozen(ReferenceReader, tmp_path)
    for name, value in model.references.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


@pytest.fixture(scope="module")
def data():
    return LookData(f"{find_assets()}/drawings", ["food-fruit", "animal-mammal"], SPACE, ["twemoji"], 0, as_drawn=1.0)


@pytest.fixture(scope="module")
def pool(data):
    def encode(pictures):
        return torch.cat([avg_pool2d(pictures, 8), pictures[:, :1, ::8, ::8]], 1)

    def describe(pictures):
        return [{"ground": "white ground"} for _ in pictures]

    return build_pool(data, "train", 5, seed=0, describe=describe, encode=encode, items=DRAWINGS)


def batches(pool, data, shown=DRAWINGS, drop=KEEP_ALL):
    made = ReferenceBatches(pool, data, tiny_text_encoder(width=WIDTH), FlowMatching(), drop, "sticker")
    made.shown = shown
    return made


def test_groups_as_drawn_are_on_white(data):
    _, pictures = data.draw_group("train", 3, random.Random(0))
    assert torch.allclose(pictures[:, :, 0, 0], torch.ones(3, 3), atol=1e-3)
    assert AS_DRAWN.outline == 0


def test_a_batch_draws_some_of_what_it_shows(pool, data):
    batch = batches(pool, data)(torch.tensor([0, 3]), torch.Generator().manual_seed(0))
    assert batch["shown"].shape == (2, DRAWINGS, 4, 8, 8)
    assert torch.equal(batch["latents"], batch["shown"][:, :ITEMS].flatten(0, 1))
    assert batch["present"].shape == (2 * ITEMS, DRAWINGS - 1)
    assert batch["present"].any(1).all()
    assert {len(look) for look in batch["shown"].flatten(2).round(decimals=4).tolist()} == {DRAWINGS}


def test_a_picture_is_never_its_own_reference():
    looks, places = other_places(2 * ITEMS, DRAWINGS)
    assert looks.flatten().tolist() == [0] * ITEMS + [1] * ITEMS
    for row, shown in enumerate(places.tolist()):
        assert sorted([row % ITEMS, *shown]) == list(range(DRAWINGS))


@pytest.mark.parametrize("tokens", [0, 8])
def test_a_step_trains_all_parts(pool, data, tokens):
    model = ReferenceLookDenoiser(unet(), style_encoder(), FlowMatching(), tokens=tokens, patches=PATCHES)
    training = LookReferencesTraining(model, adamw(1e-3), constant, 0.9)
    loss = training.losses(
        batches(pool, data, drop=Drop(0.1, 0.4, 0.3, 0.3))(torch.arange(4), torch.Generator().manual_seed(0))
    )
    loss.mean().backward()
    assert loss.shape == (4 * ITEMS,)
    assert model.style_encoder.queries.grad.abs().max() > 0


def test_the_artist_head_trains_the_style_encoder_and_nothing_of_the_denoiser(pool, data):
    names = sorted(set(data.drawings.artists))
    model = ReferenceLookDenoiser(
        unet(), style_encoder(), FlowMatching(), tokens=8, patches=PATCHES, artists=len(names)
    )
    training = LookReferencesTraining(model, adamw(1e-3), constant, 0.9, artist_weight=0.5)
    training.log = lambda *_, **__: None
    made = batches(pool, data)
    made.artists = torch.tensor([names.index(artist) for artist in data.drawings.artists])
    batch = made(torch.arange(4), torch.Generator().manual_seed(0))
    plain = training.losses(batch).mean()
    extra = training.training_step(batch, 0) - plain
    extra.backward()
    assert torch.equal(batch["artist"].view(4, ITEMS)[:, 0], batch["artist"].view(4, ITEMS)[:, -1])
    assert model.style_encoder.queries.grad.abs().max() > 0
    assert all(p.grad is None or p.grad.abs().max() < 1e-6 for p in model.denoiser.parameters())
