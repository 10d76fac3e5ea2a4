"""Checkpoints of Stable Diffusion's families in the true layout, against diffusers' own pipelines."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers as df
import pytest
import torch

from checkpoints import SCHEDULE, write_sd15, write_sdxl
from pmg.configuration.compose import compose
from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.generation.condition_weighting import AttentionWeighting
from pmg.generation.guidance import Scales
from pmg.generation.pipeline import Pipeline
from pmg.generation.selection import WeightGrid
from pmg.models.diffusion.conditioning import Block, join
from pmg.models.diffusion.cross_attention import FusedWeightedAttention, WeightedAttention
from pmg.models.diffusion.interfaces import Start
from pmg.models.diffusion.sampling import sample_latents
from pmg.models.diffusion.unet.stable_diffusion import StableDiffusion
from pmg.models.loading.memory_tracker import LiveBytes
from pmg.models.tiny_models import tiny_scorer
from pmg.seeding import stable_number

TEXTS = ["red apple", "a dog, thick black outline"]
VELOCITY = {"scheduler": df.DDIMScheduler(**SCHEDULE, prediction_type="v_prediction", clip_sample=False)}
DISTILLED = {"scheduler": df.LCMScheduler(**SCHEDULE), "time_cond_proj_dim": 16}


def noise(generator, count=2):
    return torch.randn(count, *generator.latent_shape, generator=torch.Generator().manual_seed(3))


def own_images(pipe, start, guidance, **call):
    """What diffusers' pipeline makes of the same noise, in [-1, 1]."""
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        TEXTS, latents=start, guidance_scale=guidance, num_inference_steps=3, output_type="pt", **call
    ).images
    return images * 2 - 1


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_images_are_those_of_the_librarys_pipeline(family, tmp_path):
    """Text encoders, empty prompt, guidance, time ids, scaling of latents: all as diffusers has them."""
    folder = write_sdxl(tmp_path) if family == "sdxl" else write_sd15(tmp_path, **VELOCITY if family == "sd21" else {})
    generator = StableDiffusion.load(folder)
    start, encode = noise(generator), generator.text_encoder.encode
    empty, told = join(encode([""]).expand(2)), join(encode(TEXTS))
    got = generator.decode(generator.sample_from(start, [empty, told], [-2.0, 3.0], [0, 1], 3))
    pipe = df.DiffusionPipeline.from_pretrained(folder)
    pipe.scheduler = generator.process.new_sampler()
    torch.testing.assert_close(got, own_images(pipe, start, 3.0), atol=2e-4, rtol=1e-3)
    assert got.std() > 0.01


@pytest.mark.parametrize("write", [write_sd15, write_sdxl])
def test_gradient_checkpointing_takes_less_memory_for_the_same_gradient(write, tmp_path):
    write(tmp_path)
    found, peaks = [], []
    for checkpointing in (False, True):
        generator = StableDiffusion.load(str(tmp_path), gradient_checkpointing=checkpointing)
        inputs = generator.sample_inputs(2, torch.Generator().manual_seed(0))
        tokens = torch.ones(2, 2, generator.text_encoder.width, requires_grad=True)
        block = Block(tokens, torch.ones(2, 2, dtype=torch.bool))
        with LiveBytes() as memory:
            told = join(generator.text_encoder.encode(TEXTS), block)
            generator.loss(noise(generator), told, inputs).sum().backward()
        found.append(tokens.grad)
        peaks.append(memory.peak)
    torch.testing.assert_close(*found)
    assert peaks[1] < 0.8 * peaks[0]


@pytest.mark.ci
@pytest.mark.slow
def test_images_from_a_start_are_those_of_the_librarys_pipeline(tmp_path):
    """Three steps from half of the way are the last three of six there."""
    generator = StableDiffusion.load(write_sd15(tmp_path))
    told, clean = join(generator.text_encoder.encode(TEXTS)), noise(generator)
    drawn = generator.sample([told], [1.0], [7, 8], 3, start=Start(clean, 0.5))
    pipe = df.StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path)
    pipe.scheduler = generator.process.new_sampler()
    draws = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    call = {"image": clean, "strength": 0.5, "num_inference_steps": 6, "guidance_scale": 1.0, "output_type": "pt"}
    pipe.set_progress_bar_config(disable=True)
    own = pipe(TEXTS, generator=draws, **call).images * 2 - 1
    torch.testing.assert_close(generator.decode(drawn), own, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("scheduler", "shift"),
    [
        (df.FlowMatchEulerDiscreteScheduler(shift=2.0), 2.0),
        (df.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0), 2.0),
        (df.DPMSolverMultistepScheduler(**SCHEDULE), None),
        (df.EulerDiscreteScheduler(**SCHEDULE), None),
        (df.DDIMScheduler(**SCHEDULE, clip_sample=False), None),
        (df.UniPCMultistepScheduler(**SCHEDULE), None),
    ],
)
@pytest.mark.parametrize("strength", [0.3, 0.7])
def test_a_model_that_knows_the_noise_gives_the_start_back(scheduler, shift, strength):
    clean, noise = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    times = []

    def predict(latents, time):
        times.append(float(time))
        return noise - clean if shift else noise

    found = sample_latents(predict, scheduler, noise, [0, 1], 20, Start(clean, strength))
    torch.testing.assert_close(found, clean, atol=1e-3, rtol=1e-3)
    assert len(times) == 20
    noisy = shift * strength / (1 + (shift - 1) * strength) if shift else strength
    assert times[0] == pytest.approx(1000 * noisy, abs=60)


@pytest.mark.parametrize("kind", [df.HeunDiscreteScheduler, df.FlowMatchHeunDiscreteScheduler])
def test_solvers_of_second_order_start_between_two_of_their_steps(kind):
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    scheduler = kind() if "Flow" in kind.__name__ else kind(**SCHEDULE)
    exact = noise - clean if "Flow" in kind.__name__ else noise
    found = sample_latents(lambda latents, time: exact, scheduler, noise, [0], 4, Start(clean, 0.5))
    torch.testing.assert_close(found, clean, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("scheduler", "steps", "strength", "message"),
    [
        (df.DPMSolverMultistepScheduler(**SCHEDULE), 51, 0.05, "needs a solver of 1020, .* has 1000"),
        (df.DDIMScheduler(**SCHEDULE), 200, 0.1, "needs a solver of 2000"),
        (df.LCMScheduler(**SCHEDULE), 4, 0.05, "needs a solver of 80, and a LCMScheduler has 50"),
        (df.PNDMScheduler(**SCHEDULE), 4, 0.5, "PNDM can't start from an image"),
    ],
)
def test_a_start_that_a_scheduler_has_no_times_for_is_refused(scheduler, steps, strength, message):
    noise = torch.zeros(1, 4, 8, 8)
    with pytest.raises(PmgError, match=message):
        sample_latents(lambda latents, time: latents, scheduler, noise, [0], steps, Start(noise, strength))


def test_more_steps_than_a_scheduler_has_are_refused():
    with pytest.raises(PmgError, match="60 steps needs a solver of 60, and a LCMScheduler has 50"):
        sample_latents(lambda one, _: one, df.LCMScheduler(**SCHEDULE), torch.zeros(1, 4, 8, 8), [0], 60)


def test_latent_statistics_of_xl_come_beside_the_scaling_factor(tmp_path):
    pipe = df.DiffusionPipeline.from_pretrained(write_sdxl(tmp_path))
    pipe.vae.register_to_config(
        latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[2.0, 3.0, 4.0, 5.0], scaling_factor=0.5
    )
    pipe.vae.save_pretrained(tmp_path / "vae")
    generator = StableDiffusion.load(str(tmp_path))
    start, encode = noise(generator), generator.text_encoder.encode
    got = generator.decode(generator.sample_from(start, [join(encode(TEXTS))], [1.0], [0, 1], 3))
    pipe.scheduler = generator.process.new_sampler()
    torch.testing.assert_close(got, own_images(pipe, start, 1.0), atol=2e-4, rtol=1e-3)


def test_noise_of_another_kind_is_refused(tmp_path):
    df.EDMEulerScheduler().save_pretrained(Path(write_sd15(tmp_path)) / "scheduler")
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "EDMEulerScheduler"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(PmgError, match="has a EDMEulerScheduler, whose noise is none of"):
        StableDiffusion.load(str(tmp_path))


def test_distilled_guidance_is_an_input(tmp_path):
    generator = StableDiffusion.load(write_sd15(tmp_path, **DISTILLED), sampler="checkpoint")
    assert generator.supports.guidance_input
    told, start = join(generator.text_encoder.encode(TEXTS)), noise(generator)
    got = [generator.decode(generator.sample_from(start, [told], [1.0], [7, 8], 3, guidance)) for guidance in (8, 2)]
    assert not torch.allclose(*got)
    pipe = df.DiffusionPipeline.from_pretrained(tmp_path)
    draws = [torch.Generator().manual_seed(stable_number("steps", seed) % 2**62) for seed in (7, 8)]
    torch.testing.assert_close(got[0], own_images(pipe, start, 8.0, generator=draws), atol=2e-4, rtol=1e-3)


def test_noise_on_the_way_does_not_depend_on_the_batch(tmp_path):
    generator = StableDiffusion.load(write_sd15(tmp_path, **DISTILLED), sampler="checkpoint")
    told, start = generator.text_encoder.encode(TEXTS), noise(generator)
    together = generator.sample_from(start, [join(told)], [1.0], [7, 8], 3, 8.0)
    alone = generator.sample_from(start[1:], [join(told[1:])], [1.0], [8], 3, 8.0)
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)


def test_noise_on_the_way_is_not_the_initial_noise_again():
    """A model that predicts black leaves the second step the first one's noise alone."""
    noise, seen = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7)), []
    scheduler = df.LCMScheduler(**SCHEDULE, prediction_type="sample")
    sample_latents(lambda latents, _: seen.append(latents) or torch.zeros_like(latents), scheduler, noise, [7], 2)
    assert seen[1].std() > 0.5
    assert abs(torch.cosine_similarity(seen[1].flatten(), noise.flatten(), 0)) < 0.3


def test_seeds_have_no_effect_where_steps_add_no_noise():
    noise, ends = torch.randn(1, 4, 8, 8), []
    for seed in (7, 8):
        scheduler = df.EulerDiscreteScheduler(**SCHEDULE)
        ends.append(sample_latents(lambda latents, _: latents.sin(), scheduler, noise, [seed], 3))
    assert torch.equal(*ends)


@pytest.mark.parametrize(("name", "write"), [("sd_turbo", write_sd15), ("sdxl_turbo", write_sdxl)])
def test_turbo_refuses_guidance_and_names_its_base(name, write, tmp_path):
    config = compose("train", [f"generator={name}", f"generator.source={write(tmp_path)}"])
    generator = instantiate(config.generator)
    parts = generator, tiny_scorer(), WeightGrid((1.0,)), AttentionWeighting()
    Pipeline(*parts, Scales(1.0, 1.0, 1.0), steps=1)
    for scales in (Scales(3.0, 3.0, 3.0), Scales(1.0, 1.0, 1.0, negative=0.5)):
        with pytest.raises(PmgError, match=r"distilled from \S+ into few steps"):
            Pipeline(*parts, scales, steps=1)


def test_every_text_has_the_towers_full_length(tmp_path):
    encoder = StableDiffusion.load(write_sdxl(tmp_path)).text_encoder
    block = encoder.encode(["red apple", ""])
    assert block.tokens.shape == (2, 77, 48)
    assert block.pooled.shape == (2, 16)
    assert encoder.width == 48
    assert block.mask.all()
    assert not block.tokens[1].any()  # SDXL's base model was trained with zeros for the empty text
    with pytest.raises(PmgError, match="the text encoder reads 77"):
        encoder.encode(["x " * 100])


def test_images_of_any_size_become_latents_of_the_models(tmp_path):
    folder = write_sd15(tmp_path)
    images = torch.rand(2, 3, 40, 40) * 2 - 1
    assert StableDiffusion.load(folder).encode_images(images).shape == (2, 4, 8, 8)
    larger = StableDiffusion.load(folder, size=96)
    latents = larger.encode_images(images)
    assert latents.shape == (2, 4, 12, 12)
    assert larger.decode(latents).shape == (2, 3, 96, 96)
    with pytest.raises(PmgError, match=r"generator.size is 100; it must be a multiple of 8"):
        StableDiffusion.load(folder, size=100)


@pytest.mark.ci
@pytest.mark.slow
def test_losses_follow_the_checkpoints_prediction_type(tmp_path):
    latents, timesteps = torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    for prediction in ("epsilon", "v_prediction", "sample"):
        scheduler = df.DDIMScheduler(**SCHEDULE, prediction_type=prediction, clip_sample=False)
        generator = StableDiffusion.load(write_sd15(tmp_path / prediction, scheduler), snr_gamma=None)
        told, start = join(generator.text_encoder.encode(TEXTS)), noise(generator)
        noisy = scheduler.add_noise(latents, start, timesteps)
        wanted = {"epsilon": start, "sample": latents}.get(prediction)
        wanted = scheduler.get_velocity(latents, start, timesteps) if wanted is None else wanted
        expected = (generator.predict(noisy, timesteps, told) - wanted).square().mean((1, 2, 3))
        inputs = {"noise": start, "times": timesteps}
        torch.testing.assert_close(generator.loss(latents, told, inputs), expected)


def test_attention_follows_the_size_of_latents(tmp_path):
    small, large = (StableDiffusion.load(write_sd15(tmp_path), size=size) for size in (64, 256))
    kinds = [type(next(iter(g.denoiser.model.attn_processors.values()))) for g in (small, large)]
    assert kinds == [WeightedAttention, FusedWeightedAttention]


def test_both_attentions_weigh_tokens_alike(tmp_path):
    generator = StableDiffusion.load(write_sd15(tmp_path))
    block = generator.text_encoder.encode(TEXTS)
    weighed = block.with_attention_bias(torch.tensor([0.5, 4.0]))
    told, start, timesteps = join(block[[1, 0]], weighed), noise(generator), torch.tensor([9, 500])
    plain = generator.predict(start, timesteps, told)
    generator.denoiser.model.set_attn_processor(FusedWeightedAttention())
    torch.testing.assert_close(generator.predict(start, timesteps, told), plain, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(generator.predict(start, timesteps, join(block[[1, 0]], block)), plain, atol=1e-4)


@pytest.mark.parametrize("attention", [WeightedAttention(), FusedWeightedAttention()])
def test_kept_keys_give_what_reading_them_again_gives(tmp_path, attention):
    generator = StableDiffusion.load(write_sd15(tmp_path))
    generator.denoiser.model.set_attn_processor(attention)
    block, start = generator.text_encoder.encode(TEXTS), noise(generator)
    told = join(block[[1, 0]], block.with_attention_bias(torch.tensor([0.5, 4.0])))
    cached, plain = (generator.prepare(told, reused=reused) for reused in (True, False))
    for step in (900, 500, 10):
        timesteps = torch.full((2,), step)
        assert torch.equal(*(generator.denoiser(start, timesteps, inputs) for inputs in (cached, plain)))
    crossing = [name for name in generator.denoiser.model.attn_processors if ".attn2." in name]
    assert len(cached["cross_attention_kwargs"]["cache"]) == len(crossing) > 1


def test_what_is_no_text_to_image_checkpoint_is_refused(tmp_path):
    with pytest.raises(PmgError, match=r"takes 9 channels and the autoencoder gives 4.*inpainting"):
        StableDiffusion.load(write_sd15(tmp_path / "inpainting", in_channels=9))
    folder = Path(write_sdxl(tmp_path / "refiner"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionXLImg2ImgPipeline"}))
    with pytest.raises(PmgError, match="holds a StableDiffusionXLImg2ImgPipeline"):
        StableDiffusion.load(str(folder))


@pytest.mark.parametrize("damage", ["missing", "kind", "weights"])
def test_damaged_folders_are_named(damage, tmp_path):
    folder = Path(write_sd15(tmp_path / "sd"))
    if damage == "missing":
        (folder / "model_index.json").unlink()
    elif damage == "kind":
        (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    else:
        next((folder / "unet").glob("*.safetensors")).write_bytes(b"cut")
    with pytest.raises(PmgError, match=f"{folder}"):
        StableDiffusion.load(str(folder))
