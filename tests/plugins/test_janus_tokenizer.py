"""The image tokenizer of looks: quantisation, replaced codes, and its stage at toy size."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from pmg_janus.token_generator import ImageTokenizer
from pmg_janus.tokenizer import CodeUse, build_tokenizer, quantize
from pmg_janus.train_tokenizer import LookTokenizerStage, LookTokenizerTraining
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity, normalize
from transformers import JanusVQVAE

from looks import ALL_SEEN, fit_stage
from pmg.configuration.instantiate import allow_plugins, check_targets, instantiate
from pmg.domain import PmgError
from pmg.installation import find_assets
from pmg.looks.drawings import LookData
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.training.optim import adamw, constant

CODES = 32


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def latents(count=2):
    return normalize(torch.randn(count, 4, 3, 3, generator=rng()), dim=1).requires_grad_(True)


def codebook():
    return torch.randn(CODES, 4, generator=rng(1)).requires_grad_(True)


def test_a_latent_becomes_the_entry_of_the_smallest_angle():
    given, entries = latents(), codebook()
    quantized = quantize(given, entries)
    places = given.permute(0, 2, 3, 1).flatten(0, 2)
    cosines = cosine_similarity(places[:, None], entries[None], dim=-1)
    assert torch.equal(quantized.codes, cosines.argmax(1))
    chosen = normalize(entries[quantized.codes], dim=-1).view(2, 3, 3, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(quantized.latents, chosen)
    torch.testing.assert_close(quantized.codebook, 2 - 2 * cosines.amax(1).mean())  # of vectors of length 1
    torch.testing.assert_close(quantized.codebook, quantized.commitment)


def test_gradients_go_straight_through_to_the_latents():
    given, entries = latents(), codebook()
    quantize(given, entries).latents.sum().backward()
    assert torch.equal(given.grad, torch.ones_like(given))
    assert entries.grad is None or not entries.grad.any()


def test_each_distance_moves_its_own_side():
    for name, moved, still in (("codebook", 1, 0), ("commitment", 0, 1)):
        parts = latents(), codebook()
        getattr(quantize(*parts), name).backward()
        assert parts[moved].grad.any()
        assert parts[still].grad is None or not parts[still].grad.any()


def test_unused_codes_become_latents_and_used_ones_stay():
    given, entries = latents().detach(), codebook().detach()
    before, use = entries.clone(), CodeUse(CODES)
    use.count(torch.arange(10).repeat(5))
    assert float(use.used) == pytest.approx(10 / CODES)
    assert use.replace(entries, given, rng()) == CODES - 10
    assert torch.equal(entries[:10], before[:10])
    places = given.permute(0, 2, 3, 1).flatten(0, 2)
    assert all((places == entry).all(1).any() for entry in entries[10:])
    assert use.replace(entries, given, rng(2)) == 0  # the new ones get their time
    for _ in range(400):
        use.count(torch.arange(10))
    assert use.replace(entries, given, rng(2)) == CODES - 10


def test_before_the_first_step_no_code_is_used():
    use, entries = CodeUse(CODES), codebook().detach()
    assert float(use.used) == 0
    assert use.replace(entries, latents().detach(), rng()) == CODES


@pytest.fixture(scope="module")
def data():
    return LookData(f"{find_assets()}/drawings", ["tool"], ALL_SEEN, ["twemoji"], 0)


@pytest.fixture(scope="module")
def perceptual(root):
    return PerceptualDistance.from_folder(root / "assets" / "lpips")


def make_stage(folder, perceptual, start=None, width=8, continuous_steps=1):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(CODES, width, 8, 32, (1, 1, 1, 1), 1)
    training = partial(
        LookTokenizerTraining, optimizer=adamw(1e-3), lr_scheduler=constant, use=CodeUse(CODES, every=2),
        continuous_steps=continuous_steps,
    )  # fmt: skip
    return LookTokenizerStage(str(folder), tokenizer, perceptual, training, 2, start)


def first_steps(stage, data, steps=1):
    """Returns the losses of the first steps, without an optimizer."""
    module, batches = stage.build(data, 0)
    module.log_dict = lambda *values, **options: None  # there is no trainer
    return [module.training_step(batches.train.batch(step), step) for step in range(steps)]


def test_nothing_is_quantised_at_first(data, perceptual, tmp_path):
    stage = make_stage(tmp_path, perceptual)
    first_steps(stage, data)[0].backward()
    tokenizer = stage.module.tokenizer
    assert tokenizer.quantize.embedding.weight.grad is None
    assert tokenizer.encoder.conv_in.weight.grad.any()
    later = make_stage(tmp_path, perceptual, continuous_steps=0)
    first_steps(later, data)[0].backward()
    assert later.module.tokenizer.quantize.embedding.weight.grad.any()
    assert later.module.tokenizer.encoder.conv_in.weight.grad.any()


@pytest.mark.ci
@pytest.mark.slow
def test_the_stage_trains_saves_and_measures(data, perceptual, tmp_path):
    stage = make_stage(tmp_path / "model", perceptual)
    module = fit_stage(stage, data, tmp_path / "checkpoints", 4)
    quality = stage.save_and_evaluate((module, stage.build(data, 0)[1]), data)
    assert quality.keys() == {"l1", "lpips", "used_codes"}
    assert 0 < quality["used_codes"] <= 1
    (weights,) = (tmp_path / "model").glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}
    assert ImageTokenizer(JanusVQVAE.from_pretrained(tmp_path / "model")).tokens == 64


def test_the_library_finds_the_same_codes(perceptual, tmp_path):
    stage = make_stage(tmp_path, perceptual)
    with torch.no_grad():
        stage.module.tokenizer.quantize.embedding.weight.normal_(std=3.0)
    tokenizer = stage.module.finish()
    pictures = torch.rand(2, 3, 64, 64, generator=rng()) * 2 - 1
    with torch.no_grad():
        found = tokenizer.encode(pictures).image_tokens.view(2, -1)
        assert torch.equal(ImageTokenizer(tokenizer).encode(pictures), found)


@pytest.mark.ci
@pytest.mark.slow
def test_a_resumed_training_equals_an_uninterrupted_one(data, perceptual, tmp_path, stop_at):
    def run(folder, *limits):
        for limit in limits:
            module = fit_stage(make_stage(tmp_path / "model", perceptual), data, folder, 4, stop_at(limit))
        return module.state_dict()

    whole, parts = run(tmp_path / "whole", 4), run(tmp_path / "parts", 2, 4)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert whole["use.uses"].any()


def test_a_tokenizer_is_trained_further(data, perceptual, tmp_path):
    earlier = build_tokenizer(CODES, 8, 8, 32, (1, 1, 1, 1), 1)
    with torch.no_grad():
        earlier.decoder.conv_out.bias += 1.0
    earlier.save_pretrained(tmp_path / "earlier")
    (fresh,), (further,) = (
        first_steps(make_stage(tmp_path, perceptual, start), data) for start in (None, str(tmp_path / "earlier"))
    )
    assert float(further.detach()) != pytest.approx(float(fresh.detach()), abs=0.01)
    with pytest.raises(PmgError, match=r"can't be trained further: .*stage.start=null, or its sizes") as error:
        make_stage(tmp_path, perceptual, str(tmp_path / "earlier"), width=4)
    assert "\n" not in str(error.value)


def test_the_stage_as_configured_makes_64_tokens(compose):
    cfg = compose("pretrain", "data=looks", "stage=look_tokenizer")
    allow_plugins(cfg)
    check_targets(cfg)
    tokenizer = ImageTokenizer(instantiate(cfg.stage.tokenizer))
    assert (tokenizer.size, tokenizer.tokens, tokenizer.codes) == (64, 64, cfg.stage.training.use.codes)


def test_an_untrained_tokenizer_averages_and_repeats_pixels():
    """Residual branches add nothing yet, downsampling is a mean, and upsampling repeats."""
    torch.manual_seed(0)
    model = build_tokenizer(CODES, 8, 8, 32, (2, 2, 4, 4), 1).eval()
    states = torch.randn(1, 64, 8, 8, generator=rng())
    level = model.encoder.down[0]
    with torch.no_grad():
        assert torch.equal(model.decoder.up[-1].block[0](states), states)
        small = level.downsample(states)
        torch.testing.assert_close(small[0, :, 0, 0], states[0, :, :3, :3].mean((1, 2)))
        large = model.decoder.up[-2].upsample(states)
    torch.testing.assert_close(large, states.repeat_interleave(2, 2).repeat_interleave(2, 3))
