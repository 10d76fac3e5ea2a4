"""Families of diffusion transformers: against diffusers' own pipelines, hidden and weighted tokens, refusals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import diffusers as df
import pytest
import torch

from checkpoints import write_flux1
from pmg.models.diffusion.conditioning import Block, join
from pmg.models.diffusion.transformer.flux1 import Flux1
from pmg.models.diffusion.transformer.sequences import pack

TEXTS = ["red apple", "a dog, thick black outline"]
TIMES = torch.tensor([900.0, 250.5])
SIZE = 64


@dataclass(frozen=True)
class Case:
    """How a family is compared with its pipeline."""

    family: Any
    write: Any
    pipeline: Any
    length: int = 48
    arguments: Any = None


CASES = {
    "flux1": Case(Flux1, write_flux1, df.FluxPipeline),
}


@pytest.fixture(scope="module", params=CASES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, name):
    return CASES[name].write(tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def generator(folder, name):
    return CASES[name].family.load(folder, size=SIZE, max_length=CASES[name].length)


def noise(generator, count=2):
    return torch.randn(count, *generator.latent_shape, generator=torch.Generator().manual_seed(3))


def test_images_are_those_of_the_librarys_pipeline(generator, folder, name):
    start, encode = noise(generator), generator.text_encoder.encode
    branches, coefficients, guidance = [join(encode([""]).expand(2)), join(encode(TEXTS))], [-2.0, 3.0], None
    if generator.supports.guidance_input:
        branches, coefficients, guidance = branches[1:], [1.0], 3.0
    got = generator.decode(generator.sample_from(start, branches, coefficients, [0, 1], 3, guidance))
    pipe = df.FluxPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        TEXTS, latents=pack(start), guidance_scale=3.0, num_inference_steps=3, output_type="pt", height=SIZE, width=SIZE,
        max_sequence_length=CASES[name].length,
    ).images  # fmt: skip
    torch.testing.assert_close(got, images * 2 - 1, atol=2e-4, rtol=1e-3)
    assert got.std() > 0.01


def test_hidden_tokens_have_exactly_no_effect(generator):
    target = generator.text_encoder.encode(TEXTS)
    words = generator.text_encoder.encode(["flat", "soft gradients, no outline"], padded=False)
    hidden = words.masked(torch.tensor([True, False]))
    other = replace(hidden, tokens=torch.where(hidden.mask[..., None], hidden.tokens, torch.inf))
    outputs = [generator.predict(noise(generator), TIMES, join(target, block)) for block in (hidden, other)]
    assert torch.equal(*outputs)
    alone = generator.predict(noise(generator), TIMES, join(target))
    torch.testing.assert_close(outputs[0][1], alone[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(outputs[0][0], alone[0], atol=1e-3)


def test_a_block_of_weight_zero_is_absent(generator):
    target = generator.text_encoder.encode(TEXTS)
    words = generator.text_encoder.encode(["flat", "no outline"], padded=False)
    weighted = join(target, words.with_attention_bias(torch.zeros(2)))
    got, expected = (generator.predict(noise(generator), TIMES, each) for each in (weighted, join(target)))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_a_batch_equals_single_images_and_gradients_reach_the_condition(generator):
    block = generator.text_encoder.encode(["cat", *TEXTS])
    soft = torch.randn(3, 2, generator.text_encoder.width, generator=torch.Generator().manual_seed(1))
    words = generator.text_encoder.encode(["flat", "a dog, thick black outline", "cat"], padded=False)
    visible = torch.ones(3, 2, dtype=torch.bool)
    whole = [block, words, Block(soft, visible)]
    latents = generator.sample([join(*whole)], [1.0], [4, 5, 6], 2)
    first = torch.tensor([0])
    single = generator.text_encoder.encode(["cat"]), generator.text_encoder.encode(["flat"], padded=False)
    alone = generator.sample([join(*single, whole[2][first])], [1.0], [4], 2)
    torch.testing.assert_close(alone[0], latents[0], atol=1e-5, rtol=1e-4)
    tokens = soft.clone().requires_grad_()
    inputs = generator.sample_inputs(3, torch.Generator().manual_seed(0))
    assert ((inputs["times"] > 0) & (inputs["times"] < 1)).all()
    generator.loss(latents, join(block, words, Block(tokens, visible)), inputs).sum().backward()
    assert tokens.grad.abs().sum(-1).min() > 0
