"""The language model of image tokens on looks at toy size: its tokens, its blocks, and its stage."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pmg_janus.embedded import LookJanus, build_janus, load_look_janus
from pmg_janus.token_generator import ImageTokenizer
from pmg_janus.tokenizer import build_tokenizer
from pmg_janus.train_generator import LookJanusStage, LookJanusTraining, read_tokens, tokenize_pool
from safetensors.torch import load_file
from transformers import JanusForConditionalGeneration

from looks import ALL_SEEN, deep_codec, fit_stage
from pmg.configuration.instantiate import allow_plugins, check_targets
from pmg.domain import PmgError
from pmg.installation import find_assets
from pmg.looks.catalogue import TargetCaptions
from pmg.looks.drawings import LookData
from pmg.looks.measured_captions import MeasuringCaptioner
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.looks.stages.denoiser import Drop, LookBatches
from pmg.looks.stages.pool import ITEMS, Pool, build_pool
from pmg.looks.stages.pretraining import save_half
from pmg.models.diffusion.conditioning import SoftBlock, join
from pmg.models.diffusion.diffusers_denoiser import NAMES, read_names
from pmg.models.tiny_models import tiny_text_encoder
from pmg.training.optim import adamw, constant

WIDTH, CODES, TOKENS = 32, 32, 64
ALL, NONE = Drop(0.0, 0.0, 0.0, 0.0), Drop(1.0, 1.0, 1.0, 0.0)


@pytest.fixture(scope="module")
def data():
    return LookData(f"{find_assets()}/drawings", ["food-fruit", "animal-mammal", "tool"], ALL_SEEN, ["twemoji"], 0)


@pytest.fixture(scope="module")
def codec(data):
    return deep_codec(data.picture_source("train").draw(torch.arange(4), rng()))


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = str(tmp_path_factory.mktemp("tokenizer"))
    build_tokenizer(CODES, 8, 8, 32, (1, 1, 1, 1), 1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pool(data, codec):
    def describe(pictures):
        return [{"ground": "white ground", "outline": "no outline"} for _ in pictures]

    return build_pool(data, "train", range(4), seed=0, describe=describe, encode=codec.encode, at_once=4)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make_training(tokenizer_folder):
    torch.manual_seed(0)
    model = build_janus(tokenizer_folder, WIDTH, 2, 2, 64)
    style = StyleEncoder(in_channels=4, channels=16, tokens=2, width=WIDTH, heads=2, stride=8)
    return LookJanusTraining(LookJanus(model, style), tiny_text_encoder(width=WIDTH), adamw(1e-3), constant, 0.9)


@pytest.fixture
def training(tokenizer_folder):
    return make_training(tokenizer_folder)


def batches(pool, data, codec, training, drop):
    codes = tokenize_pool(pool, codec, ImageTokenizer(training.model.janus.model.vqmodel))
    return LookBatches(pool, data, tiny_text_encoder(width=WIDTH), None, drop, TargetCaptions("sticker"), codes=codes)


def test_a_pool_has_the_tokens_of_its_pictures(pool, data, codec, training):
    made = batches(pool, data, codec, training, ALL)
    assert made.codes.shape == (4, ITEMS, TOKENS)
    tokenizer = ImageTokenizer(training.model.janus.model.vqmodel)
    with torch.no_grad():
        expected = tokenizer.encode(codec.decode(pool.latents[1].float()))
    assert (made.codes[1] == expected).float().mean() > 0.95  # the pool is tokenised in bfloat16
    batch = made(torch.tensor([2, 0]), rng())
    assert torch.equal(batch["codes"], made.codes[[2, 0]].flatten(0, 1).long())
    assert "noise" not in batch
    assert batch["latents"].shape == (2 * ITEMS, 4, 32, 32)


def test_the_tokens_of_a_pool_are_computed_once_for_each_tokenizer(tokenizer_folder, tmp_path):
    model = build_janus(tokenizer_folder, WIDTH, 1, 2, 64).model.vqmodel
    made = []

    def make():
        made.append(len(made))
        return torch.full((2, ITEMS, TOKENS), len(made), dtype=torch.int16)

    for expected in (1, 1):
        assert read_tokens(tmp_path, ImageTokenizer(model), make).unique().tolist() == [expected]
    with torch.no_grad():
        model.quantize.embedding.weight += 1
    assert read_tokens(tmp_path, ImageTokenizer(model), make).unique().tolist() == [2]


def test_the_loss_trains_language_model_and_style_encoder(pool, data, codec, training):
    batch = batches(pool, data, codec, training, ALL)(torch.arange(2), rng())
    losses = training.losses(batch)
    assert losses.shape == (2 * ITEMS,)
    losses.mean().backward()
    model = training.model
    trained = (model.transformer.head.vision_head.weight, model.transformer.embeddings.weight)
    for weight in (*trained, model.style_encoder.queries):
        assert weight.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in model.janus.model.vqmodel.parameters())
    assert len(training.held_out_losses(batch)) == 2


def test_each_block_matters_unless_it_is_dropped(pool, data, codec, training):
    changed = {"latents": lambda x: x + 1, "words": lambda x: x + 1, "target": lambda x: x.roll(1, 1) + 1}
    for drop, matters in ((ALL, True), (NONE, False)):
        batch = batches(pool, data, codec, training, drop)(torch.arange(2), rng())
        for name in ("latents", "words"):
            other = {**batch, name: changed[name](batch[name])}
            assert torch.equal(training.losses(other), training.losses(batch)) != matters
    other = {**batch, "target": changed["target"](batch["target"])}
    assert not torch.equal(training.losses(other), training.losses(batch))  # the empty text takes its place


def test_an_untrained_model_is_undecided(pool, data, codec, training):
    batch = batches(pool, data, codec, training, ALL)(torch.arange(2), rng())
    assert float(training.losses(batch).mean().detach()) == pytest.approx(math.log(CODES), abs=0.2)


def test_embeddings_of_image_tokens_start_as_the_codebook(tokenizer_folder):
    model = build_janus(tokenizer_folder, WIDTH, 1, 2, 64).model
    assert torch.equal(model.generation_embeddings.weight, model.vqmodel.quantize.embedding.weight)


def make_stage(folder, training, generator_folder, start=None):
    return LookJanusStage(
        str(folder / "model"), str(generator_folder), training, tiny_text_encoder(width=WIDTH),
        MeasuringCaptioner("{ground}, {outline}"), captions=TargetCaptions("sticker"), drop=Drop(), batch_size=ITEMS,
        pool=Pool(str(folder / "pool"), 3, 2), start=start,
    )  # fmt: skip


@pytest.fixture(scope="module")
def generator_folder(codec, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    save_half(codec.autoencoder, str(folder / "vae"))
    codec.save_statistics(folder / "vae")
    return folder


@pytest.mark.ci
@pytest.mark.slow
def test_the_stage_saves_what_the_generator_loads(data, training, generator_folder, tmp_path):
    stage = make_stage(tmp_path, training, generator_folder)
    module = fit_stage(stage, data, tmp_path / "checkpoints", 2)
    batches = stage.build(data, 0)[1]
    assert stage.save_and_evaluate((module, batches), data).keys() == {"nats"}
    folder = tmp_path / "model"
    (weights,) = (folder / "janus").glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}
    assert isinstance(JanusForConditionalGeneration.from_pretrained(folder / "janus"), JanusForConditionalGeneration)
    assert {path.name for path in folder.iterdir()} == {"janus", "style_encoder", "vae"}
    assert read_names(folder / "janus" / NAMES).keys() == {item.title for item in data.picture_items}
    assert not (folder / "style_encoder" / NAMES).exists()
    generator = load_look_janus(folder / "janus", tiny_text_encoder(width=WIDTH))
    batch = batches.validation[0]
    condition = join(generator.text_encoder.encode(["apple"] * len(batch["codes"])))
    with torch.no_grad():
        same = training.model.generator(tiny_text_encoder(width=WIDTH)).loss(batch["codes"], condition, {})
    torch.testing.assert_close(generator.loss(batch["codes"], condition, {}), same)


@pytest.mark.ci
@pytest.mark.slow
def test_a_resumed_training_equals_an_uninterrupted_one(data, tokenizer_folder, generator_folder, tmp_path, stop_at):
    def run(folder, *limits):
        for limit in limits:
            stage = make_stage(tmp_path, make_training(tokenizer_folder), generator_folder)
            module = fit_stage(stage, data, folder, 4, stop_at(limit))
        return module.state_dict()

    whole, parts = run(tmp_path / "whole", 4), run(tmp_path / "parts", 2, 4)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not any("vqmodel" in name for name in whole)


def test_a_model_of_other_sizes_is_not_trained_further(tokenizer_folder, generator_folder, training, tmp_path):
    save_half(build_janus(tokenizer_folder, WIDTH, 1, 2, 64), str(tmp_path / "earlier" / "janus"))
    with pytest.raises(PmgError, match=r"can't be trained further: .*stage.start=null, or its sizes"):
        make_stage(tmp_path, training, generator_folder, start=str(tmp_path / "earlier"))


@pytest.fixture(scope="module")
def generator(tokenizer_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("janus")
    torch.manual_seed(0)
    build_janus(tokenizer_folder, WIDTH, 2, 2, 64).save_pretrained(folder)
    return load_look_janus(folder, tiny_text_encoder(width=WIDTH))


def blocks(generator):
    encode = generator.text_encoder.encode
    soft = SoftBlock.of(torch.randn(2, 3, WIDTH, generator=rng()))
    return encode(["red apple", "a dog"]), encode(["flat", "no outline"], padded=False), soft


def test_a_sequence_is_the_blocks_and_the_token_that_begins_a_picture(generator):
    condition = join(*blocks(generator))
    sequence = generator.sequence(condition)
    assert torch.equal(sequence.lengths, condition.mask.sum(1) + 1)
    assert torch.equal(sequence.lengths, generator.lengths(condition))
    empty = join(generator.text_encoder.encode([""]))
    assert torch.equal(generator.sequence(empty, torch.tensor([50])).lengths, generator.lengths(empty))  # unpadded


def test_tokens_are_predicted_as_they_are_drawn(generator):
    greedy = type(generator)(
        generator.tokenizer, generator.transformer, generator.text_encoder, generator.frame, temperature=0.0
    )
    target, words, soft = blocks(generator)
    hidden = words.masked(torch.tensor([True, False]))
    condition = join(target, hidden, soft)
    tokens = greedy.sample([condition], [1.0], [0, 1], TOKENS)
    assert torch.equal(generator.predict(tokens, condition).argmax(-1), tokens)
    other = replace(hidden, tokens=torch.where(hidden.mask[..., None], hidden.tokens, torch.inf))
    assert torch.equal(generator.predict(tokens, join(target, other, soft)), generator.predict(tokens, condition))


def test_pictures_are_those_of_its_tokens(generator):
    tokens = generator.sample([join(*blocks(generator))], [1.0], [0, 1], TOKENS)
    assert generator.decode(tokens).shape == (2, 3, 64, 64)
    assert (generator.size, generator.supports.fixed_steps) == (64, TOKENS)


def test_a_text_encoder_of_another_width_is_refused(tokenizer_folder, tmp_path):
    build_janus(tokenizer_folder, WIDTH, 1, 2, 64).save_pretrained(tmp_path)
    with pytest.raises(PmgError, match=r"tokens are 16 wide, and the language model's 32\. Use the text encoder"):
        load_look_janus(tmp_path, tiny_text_encoder(width=16))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(PmgError, match="can't be loaded"):
        load_look_janus(tmp_path / "none", tiny_text_encoder(width=WIDTH))


@pytest.mark.parametrize("stage", ["look_janus", "look_transformer"])
def test_the_stages_of_the_families_compose(compose, stage):
    allow_plugins(cfg := compose("pretrain", "data=looks", f"stage={stage}"))
    check_targets(cfg)
    assert cfg.stage.training.optimizer.matrices
    assert cfg.card.folder.startswith(cfg.stage.folder)
