"""Families of diffusion transformers: against diffusers' own pipelines, hidden and weighted tokens, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import Any

import diffusers as df
import pytest
import torch

from checkpoints import write_flux1, write_flux2_klein, write_qwen_image, write_qwen_image_edit, write_z_image
from pmg.domain import PmgError
from pmg.families import flux1, flux2_klein
from pmg.families.flux1 import Flux1
from pmg.families.flux2_klein import Flux2Klein
from pmg.families.qwen_image import QwenImage
from pmg.families.qwen_image_edit import QwenImageEdit
from pmg.families.z_image import Z_IMAGE, ZImage
from pmg.generation.condition_weighting import AttentionWeighting, ScaleWeighting
from pmg.generation.guidance import Scales
from pmg.generation.pipeline import Pipeline
from pmg.generation.selection import WeightGrid
from pmg.models.diffusion.conditioning import Block, join
from pmg.models.diffusion.sequences import pack
from pmg.models.loading.checkpoints import without_weights
from pmg.models.loading.memory_tracker import weight_bytes
from pmg.models.tiny_models import tiny_scorer
from pmg.training.preference import FrozenModels
from pmg.training.preference_setup import build_module
from published import write_configs

pytestmark = [pytest.mark.slow, pytest.mark.ci]

TEXTS = ["red apple", "a dog with a thick black outline and no shading, 12 of them"]
TIMES = torch.tensor([900.0, 250.5])
SIZE = 64


@dataclass(frozen=True)
class Case:
    """How a family is compared with its pipeline.

    Attributes:
        family: loads a checkpoint.
        write: writes one.
        pipeline: of diffusers; None: it needs pictures.
        published: hub id of a checkpoint.
        length: longest text.
        guidance: the pipeline's argument for a guidance scale of 3.
        arguments: further ones.
        latents: the pipeline's form of latents.
    """

    family: Any
    write: Any
    pipeline: Any
    published: str
    length: int
    guidance: Any
    arguments: Any
    latents: Any = pack


NEGATIVE = {"negative_prompt": ["", ""]}
CASES = {
    "flux1": Case(Flux1, write_flux1, df.FluxPipeline, flux1.BASE, 72, {"guidance_scale": 3.0}, {}),
    "qwen_image": Case(
        QwenImage, write_qwen_image, df.QwenImagePipeline, "Qwen/Qwen-Image", 200, {"true_cfg_scale": 3.0}, NEGATIVE
    ),
    "qwen_image_edit": Case(  # see test_reference_images.py
        QwenImageEdit, write_qwen_image_edit, None, "Qwen/Qwen-Image-Edit-2511", 300, {}, {}
    ),
    "z_image": Case(
        ZImage, write_z_image, df.ZImagePipeline, Z_IMAGE, 96, {"guidance_scale": 2.0}, NEGATIVE, lambda x: x
    ),
    "flux2_klein": Case(
        Flux2Klein,
        write_flux2_klein,
        df.Flux2KleinPipeline,
        flux2_klein.BASE,
        80,
        {"guidance_scale": 3.0},
        {},
        lambda x: x,
    ),
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


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.pipeline], indirect=True)
def test_images_are_those_of_the_librarys_pipeline(generator, folder, name):
    case, start, encode = CASES[name], noise(generator), generator.text_encoder.encode
    branches, coefficients, guidance = [join(encode([""]).expand(2)), join(encode(TEXTS))], [-2.0, 3.0], None
    if generator.supports.guidance_input:
        branches, coefficients, guidance = branches[1:], [1.0], 3.0
    got = generator.decode(generator.sample_from(start, branches, coefficients, [0, 1], 3, guidance))
    pipe = case.pipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        prompt=list(TEXTS), latents=case.latents(start), num_inference_steps=3, output_type="pt",
        height=SIZE, width=SIZE, max_sequence_length=case.length, **case.guidance, **case.arguments,
    ).images  # fmt: skip
    torch.testing.assert_close(got, images * 2 - 1, atol=2e-4, rtol=1e-3)
    assert got.std() > 0.01


def test_blocks_behind_the_target_are_unpadded(generator, name):
    """And targets are padded: FLUX to the longest text, Z-Image to a multiple of 32, Qwen-Image not at all."""
    padded, plain = (
        generator.text_encoder.encode(TEXTS, padded=padded).mask.sum(1).tolist() for padded in (True, False)
    )
    if name.startswith("flux"):
        assert padded == [CASES[name].length] * 2
    else:
        assert padded == ([32, 64] if name == "z_image" else plain)
    assert plain[0] < plain[1] < CASES[name].length


def test_a_single_step_begins_and_ends_with_noise_alone(generator):
    """Qwen-Image stretches its times to a last one, which a single one can't be."""
    condition = join(generator.text_encoder.encode(TEXTS))
    assert generator.sample([condition], [1.0], [0, 1], 1).isfinite().all()


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
    words = generator.text_encoder.encode(["flat", "no outline", "cat"], padded=False)
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


def test_gradient_checkpointing_gives_the_same_gradient(generator):
    block = generator.text_encoder.encode(TEXTS)
    inputs = generator.sample_inputs(2, torch.Generator().manual_seed(0))
    visible, model, found = torch.ones(2, 2, dtype=torch.bool), generator.denoiser.model, []
    for switch in (model.disable_gradient_checkpointing, model.enable_gradient_checkpointing):
        switch()
        tokens = torch.ones(2, 2, generator.text_encoder.width, requires_grad=True)
        generator.loss(noise(generator), join(block, Block(tokens, visible)), inputs).sum().backward()
        found.append(tokens.grad)
    model.disable_gradient_checkpointing()
    torch.testing.assert_close(*found)


@pytest.fixture
def copy(folder, tmp_path):
    """A checkpoint that a test may damage."""
    return shutil.copytree(folder, tmp_path / "copy")


def load(name, folder, **arguments):
    return CASES[name].family.load(str(folder), **{"size": SIZE, "max_length": CASES[name].length, **arguments})


def test_other_pipelines_and_missing_components_are_named(copy, name):
    shutil.rmtree(copy / "text_encoder")
    with pytest.raises(PmgError, match=r"has no text_encoder\. Load the whole pipeline again"):
        load(name, copy)
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, "_class_name": "HunyuanDiTPipeline"}))
    with pytest.raises(PmgError, match=f"holds a HunyuanDiTPipeline. Name a {CASES[name].family.pipeline}"):
        load(name, copy)


def test_another_text_encoder_is_refused(copy, name):
    config = json.loads((copy / "text_encoder" / "config.json").read_text())
    (copy / "text_encoder" / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(PmgError, match=f"is a bert, and {CASES[name].family.pipeline} needs a"):
        load(name, copy)


def test_a_text_encoder_of_another_width_is_refused(copy, name, monkeypatch):
    monkeypatch.setattr(CASES[name].family, "text_width", lambda config: 7)
    with pytest.raises(PmgError, match=r"and the transformer reads 7\. Use the text encoder that"):
        load(name, copy)


def test_sizes_that_do_not_fit_and_long_texts_are_refused(copy, generator, name):
    with pytest.raises(PmgError, match="multiple of"):
        load(name, copy, size=SIZE + 8)
    with pytest.raises(PmgError, match="tokens, the text encoder reads"):
        generator.text_encoder.encode(["cat " * 99])


def tiny_pipeline(generator, weighting, guidance, weights=(1.0,)):
    scales = Scales(guidance, guidance, guidance)
    return Pipeline(generator, tiny_scorer(), WeightGrid(weights), weighting, scales, steps=1)


def test_weights_that_have_no_effect_are_refused(generator):
    tiny_pipeline(generator, AttentionWeighting(), 3.0, (0.5,))
    tiny_pipeline(generator, ScaleWeighting(), 3.0)
    if generator.supports.embedding_scale:
        tiny_pipeline(generator, ScaleWeighting(), 3.0, (0.5,))
    else:
        with pytest.raises(PmgError, match=r"scale has no effect\. Set balance/weighting=attention"):
            tiny_pipeline(generator, ScaleWeighting(), 3.0, (0.5,))


DISTILLED = {
    "flux1": lambda folder: Flux1.load(write_flux1(folder, guidance_embeds=False), size=SIZE),
    "z_image": lambda folder: ZImage.load(write_z_image(folder), size=SIZE, distilled=True),
    "flux2_klein": lambda folder: Flux2Klein.load(write_flux2_klein(folder, is_distilled=True), size=SIZE),
}


@pytest.mark.parametrize("family", DISTILLED)
def test_step_distilled_checkpoints_refuse_guidance_and_name_their_base(family, tmp_path):
    generator = DISTILLED[family](tmp_path / "distilled")
    assert generator.supports.distilled_from == CASES[family].published
    tiny_pipeline(generator, AttentionWeighting(), 1.0)
    with pytest.raises(PmgError, match=f"distilled from {generator.supports.distilled_from} into few steps"):
        tiny_pipeline(generator, AttentionWeighting(), 3.0)


def test_sizes_without_weights_are_those_of_the_loaded_models(generator, folder, name):
    with without_weights():
        empty = load(name, folder)
    assert weight_bytes(empty.denoiser) == weight_bytes(generator.denoiser)
    assert weight_bytes(empty.codec) == weight_bytes(generator.codec)
    longest, text = empty.text_encoder.longest(), generator.text_encoder.encode(TEXTS)
    assert (longest.width, longest.pooled) == (text.tokens.shape[-1], text.pooled.shape[-1])
    assert text.tokens.shape[1] <= longest.target == CASES[name].length
    assert empty.process.shift == generator.process.shift
    assert empty.supports == generator.supports


class Profiles(list):
    """Inputs of an encoder."""

    def select(self, rows):
        return rows


def test_training_on_a_distilled_checkpoint_warns_and_names_its_base(tmp_path, caplog):
    generator = DISTILLED["flux1"](tmp_path / "distilled")
    frozen, encoder = FrozenModels(None, generator), torch.nn.Identity()
    build_module(frozen, Profiles([0]), None, None, lambda **_: encoder, lambda **_: encoder)
    assert "generator.source=black-forest-labs/FLUX.1-dev" in caplog.text


@pytest.mark.slow
def test_published_sizes_are_the_known_ones(tmp_path):
    """Parameters of the transformers as their publishers state them, in billions: 12, 20, 6 and 4."""
    sizes = {}
    for name, case in CASES.items():
        with without_weights():
            empty = case.family.load(write_configs(tmp_path / name, case.published), dtype="bfloat16")
        sizes[name] = weight_bytes(empty.denoiser) / 2e9
    assert sizes == {
        "flux1": pytest.approx(11.9, abs=0.1), "qwen_image": pytest.approx(20.4, abs=0.1),
        "qwen_image_edit": pytest.approx(20.4, abs=0.1),
        "z_image": pytest.approx(6.15, abs=0.1), "flux2_klein": pytest.approx(3.88, abs=0.1),
    }  # fmt: skip
