"""The flow-matching transformer: against diffusers' own pipeline, and hidden and weighted tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import diffusers as df
import pytest
import torch

from checkpoints import write_sd3, write_sd15
from pmg.domain import PmgError
from pmg.families.stable_diffusion_3 import StableDiffusion3
from pmg.families.tiny_sd3 import tiny_sd3
from pmg.models.diffusion.conditioning import Block, join

TEXTS = ["red apple", "a dog, thick black outline"]
TIMES = torch.tensor([900.0, 250.5])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_sd3(tmp_path_factory.mktemp("sd3"))


@pytest.fixture(scope="module")
def tiny():
    """With weights so large that attention is far from uniform."""
    generator = tiny_sd3()
    torch.manual_seed(0)
    for weight in generator.denoiser.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return generator


def noise(generator, count=2):
    return torch.randn(count, *generator.latent_shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("t5", [True, False])
def test_images_are_those_of_the_librarys_pipeline(folder, t5):
    """Text encoders, zeros in place of T5, guidance, sampler, shift of times and latents are those of diffusers."""
    generator = StableDiffusion3.load(folder, t5=t5)
    start, encode = noise(generator), generator.text_encoder.encode
    branches = [join(encode([""]).expand(2)), join(encode(TEXTS))]
    got = generator.decode(generator.sample_from(start, branches, [-2.0, 3.0], [0, 1], 3))
    pipe = df.StableDiffusion3Pipeline.from_pretrained(folder, **({} if t5 else {"text_encoder_3": None}))
    pipe.set_progress_bar_config(disable=True)
    images = pipe(TEXTS, latents=start, guidance_scale=3.0, num_inference_steps=3, output_type="pt").images
    torch.testing.assert_close(got, images * 2 - 1, atol=2e-4, rtol=1e-3)
    assert got.std() > 0.01


def test_hidden_tokens_have_exactly_no_effect(tiny):
    target, words = (tiny.text_encoder.encode(texts) for texts in (TEXTS, ["flat", "soft gradients, no outline"]))
    hidden = words.masked(torch.tensor([True, False]))
    other = replace(hidden, tokens=torch.where(hidden.mask[..., None], hidden.tokens, torch.inf))
    outputs = [tiny.predict(noise(tiny), TIMES, join(target, block)) for block in (hidden, other)]
    assert torch.equal(*outputs)
    torch.testing.assert_close(outputs[0][1], tiny.predict(noise(tiny), TIMES, join(target))[1])
    assert not torch.allclose(outputs[0][0], tiny.predict(noise(tiny), TIMES, join(target))[0], atol=1e-3)


@pytest.mark.parametrize("weight", [0, 1, 2])
def test_weight_is_a_number_of_copies(tiny, weight):
    target, words = tiny.text_encoder.encode(TEXTS), tiny.text_encoder.encode(["flat", "no outline"])
    weighted = join(target, words.with_attention_bias(torch.full((2,), float(weight))))
    copies = join(target, *[Block(words.tokens, words.mask)] * weight)
    got, expected = (tiny.predict(noise(tiny), TIMES, condition) for condition in (weighted, copies))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_a_batch_equals_single_images_and_gradients_reach_the_condition(tiny):
    block = tiny.text_encoder.encode(["cat", *TEXTS])
    latents = tiny.sample([join(block)], [1.0], [4, 5, 6], 2)
    alone = tiny.sample([join(tiny.text_encoder.encode(["cat"]))], [1.0], [4], 2)
    torch.testing.assert_close(alone[0], latents[0], atol=1e-5, rtol=1e-4)
    tokens = block.tokens.clone().requires_grad_()
    inputs = tiny.sample_inputs(3, torch.Generator().manual_seed(0))
    assert ((inputs["times"] > 0) & (inputs["times"] < 1)).all()
    tiny.loss(latents, join(replace(block, tokens=tokens)), inputs).sum().backward()
    assert tokens.grad[block.mask].abs().sum(-1).min() > 0
    assert not tokens.grad[~block.mask].any()


def test_sizes_and_kinds_that_do_not_fit_are_refused(folder, tmp_path):
    assert StableDiffusion3.load(folder, size=80).latent_shape == (4, 10, 10)
    with pytest.raises(PmgError, match=r"latents of 9 a side can't be cut into patches of 2"):
        StableDiffusion3.load(folder, size=72)
    with pytest.raises(PmgError, match="holds a StableDiffusionPipeline"):
        StableDiffusion3.load(write_sd15(tmp_path / "sd15"))
    scheduler = df.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    moved = Path(write_sd3(tmp_path / "sd3"))
    scheduler.save_pretrained(moved / "scheduler")
    with pytest.raises(PmgError, match="use_dynamic_shifting"):
        StableDiffusion3.load(str(moved))
