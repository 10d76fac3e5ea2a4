"""The forecast of a training's memory, against the allocator's own account of a real step."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from checkpoints import write_language_model, write_sd15
from forecasts import ENCODER, SIZES, TERMS, allocated, read_generator, read_language_model, real_step
from pmg.domain import PmgError
from pmg.models.diffusion.unet.stable_diffusion import StableDiffusion
from pmg.models.language.language_model import load_language_model
from pmg.models.loading.memory_tracker import LiveBytes, weight_bytes
from pmg.models.loading.quantization import quantized_bytes
from pmg.models.preference.preference_encoder import PreferenceEncoder
from pmg.models.preference.reader import PreferenceReader
from pmg.models.preference.visual_encoder import VisualPreferenceEncoder
from pmg.training.memory_forecast import READ_AT_ONCE, Estimate, empty_encoder, estimate_training, trained_bytes
from pmg.training.visual_inputs import VisualHistories
from published import write_configs

LLAMA_2, QWEN = "meta-llama/Llama-2-7b-chat-hf", "Qwen/Qwen2.5-0.5B-Instruct"
SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.fixture
def checkpoints(tmp_path):
    return write_language_model(tmp_path / "llama"), write_sd15(tmp_path / "sd")


@pytest.fixture
def forecast(checkpoints):
    llama, sd = checkpoints
    language_model, generator = read_language_model(llama), read_generator(StableDiffusion.load, sd)
    return lambda sizes=SIZES: estimate_training(language_model, generator, {}, sizes, TERMS)


@pytest.fixture
def real(checkpoints):
    """The true models with weights."""
    return load_language_model(checkpoints[0], "float32", "unused"), StableDiffusion.load(checkpoints[1])


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["late", "front"])
def test_a_step_takes_what_was_forecast(forecast, real, placement):
    sizes = with_encoder(PreferenceEncoder, placement=placement)
    assert forecast(sizes).phases["training step"] == pytest.approx(allocated(real_step(*real, sizes)), rel=0.2)


def with_encoder(kind, inputs=SIZES.inputs, **options):
    """Sizes with another encoder."""
    return replace(SIZES, inputs=inputs, encoder=partial(kind.sized, **{**ENCODER, **options}))


def pictures(context):
    """Inputs of users with forty pictures each."""
    image_encoder = {"_target_": "pmg.training.visual_inputs.ScorerImageEncoder"}
    width = ENCODER["soft_tokens"] * SIZES.texts.width
    return VisualHistories.blank(context, width, width // 2, {"image_encoder": image_encoder, "pictures": 40})


@pytest.mark.slow
@pytest.mark.parametrize("copies", [False, True])
def test_a_step_with_pictures_takes_what_was_forecast(forecast, real, copies):
    sizes = with_encoder(VisualPreferenceEncoder, pictures, sees="both", copies=copies)
    told = forecast(sizes)
    assert told.phases["training step"] == pytest.approx(allocated(real_step(*real, sizes)), rel=0.2)
    assert told.phases["training step"] > 1.1 * forecast().phases["training step"]
    assert told.trained > forecast().trained


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [
        with_encoder(PreferenceEncoder, prefix_hidden=200),
        with_encoder(VisualPreferenceEncoder, pictures, sees="text"),
        with_encoder(VisualPreferenceEncoder, pictures, sees="pictures"),
    ],
)
def test_every_encoder_takes_what_was_forecast(sizes, forecast, real):
    assert forecast(sizes).phases["training step"] == pytest.approx(allocated(real_step(*real, sizes)), rel=0.2)


def test_reading_and_encoding_take_what_was_forecast(forecast, real):
    language_model, generator = real
    told = forecast()
    images = torch.randn(32, 3, 64, 64)
    with torch.no_grad(), LiveBytes() as tensors:  # the allocator knows the scratch space of convolutions, too
        generator.codec.encode(images)
    assert told.phases["encode images"] == pytest.approx(tensors.peak + images.nbytes, rel=0.2)
    histories = [torch.randint(300, (SIZES.history_tokens,)) for _ in range(32)]
    assert told.phases["read histories"] == pytest.approx(
        allocated(lambda: language_model.prefill_tokens(histories, READ_AT_ONCE)), rel=0.2
    )


def test_the_cache_takes_what_was_forecast(forecast, real):
    (language_model, _), tokens = real, SIZES.history_tokens
    context = language_model.prefill_tokens([torch.ones(tokens, dtype=torch.long)] * 10)
    stored = sum(tensor.nbytes for tensor in context.to_tensors().values())
    assert forecast().contexts == pytest.approx(stored * SIZES.users / 10, rel=0.2)


def test_weights_are_those_of_the_loaded_models(checkpoints, real):
    llama, sd = checkpoints
    language_model, generator = real
    empty, drawn = read_language_model(llama), read_generator(StableDiffusion.load, sd)
    assert weight_bytes(empty.model) == pytest.approx(weight_bytes(language_model.model), rel=0.01)
    assert weight_bytes(drawn.denoiser) == weight_bytes(generator.denoiser)
    assert weight_bytes(drawn.codec) == weight_bytes(generator.codec)
    (tower,) = drawn.text_encoder.towers
    assert weight_bytes(tower.model) == pytest.approx(weight_bytes(generator.text_encoder.towers[0].model), rel=0.01)


@pytest.fixture
def count_operations(benchmarks):
    """The function of benchmarks/operations.py."""
    from benchmarks.operations import count_operations

    return count_operations


@pytest.mark.slow
def test_operations_are_those_of_the_true_models(count_operations, checkpoints, real):
    language_model, generator = real
    empty = read_language_model(checkpoints[0]), read_generator(StableDiffusion.load, checkpoints[1])
    told = count_operations(*empty, SIZES, TERMS)

    def count(work):
        # the kernel that torch takes apart, as it does on tensors without content
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops()

    questions = SIZES.users_per_step * SIZES.draws
    assert told.question * questions == pytest.approx(count(real_step(*real)), rel=0.01)
    history = [torch.randint(300, (SIZES.history_tokens,))]
    assert told.history == pytest.approx(count(lambda: language_model.prefill_tokens(history)), rel=0.01)
    assert told.drawing == pytest.approx(count(lambda: generator.encode_images(torch.zeros(1, 3, 64, 64))), rel=0.01)
    latents = torch.zeros(1, *generator.latent_shape)
    assert told.decoding == pytest.approx(count(lambda: generator.decode(latents)), rel=0.01)


@pytest.mark.slow
def test_a_large_model_reads_a_token_with_two_operations_a_weight(count_operations, tmp_path):
    language_model = read_language_model(write_configs(tmp_path / "llama", LLAMA_2), "bfloat16")
    drawn = read_generator(StableDiffusion.load, write_configs(tmp_path / "sd", SD15), dtype="bfloat16")
    sizes = replace(SIZES, texts=SIZES.texts._replace(width=768, pooled=768))
    told = count_operations(language_model, drawn, sizes, TERMS)
    assert told.history == pytest.approx(2 * 6.6e9 * sizes.history_tokens, rel=0.03)
    assert told.evaluation == pytest.approx(2 * 0.4e12, rel=0.1)  # 400 GMAC at 512 px with three blocks of words


def test_published_sizes_are_the_known_ones(tmp_path):
    """Parameters as their publishers state them: 6.74 and 0.494 billion, and 859.5, 83.7 and 123.1 million."""
    counts = [
        weight_bytes(read_language_model(write_configs(tmp_path / name, name), "bfloat16").model) / 2
        for name in (LLAMA_2, QWEN)
    ]
    assert counts == [pytest.approx(6.74e9, rel=1e-3), pytest.approx(494e6, rel=1e-3)]
    drawn = read_generator(StableDiffusion.load, write_configs(tmp_path / "sd", SD15))
    sizes = [weight_bytes(part) / 4e6 for part in (drawn.denoiser, drawn.codec, drawn.text_encoder)]
    assert sizes == [pytest.approx(size, abs=0.1) for size in (859.5, 83.7, 123.1)]


def test_the_device_holds_all_weights_and_the_largest_phase():
    assert Estimate({"a": 1, "b": 2}, 10, {"x": 100, "y": 300, "z": 200}, 10_000).device == 313


def test_few_bits_shrink_linear_layers_alone(checkpoints):
    model = read_language_model(checkpoints[0]).model
    linear = sum(p.numel() for name, p in model.named_parameters() if "proj" in name)
    rest = weight_bytes(model) - 4 * linear
    assert quantized_bytes(model, "8bit") == rest + linear
    assert quantized_bytes(model, "4bit") == rest + round(0.516 * linear)


def test_storages_count_once_and_until_they_are_gone():
    with LiveBytes() as memory:
        kept = torch.zeros(1000)
        view = kept[:10]
        torch.zeros(500)
    assert view.shape == (10,)
    assert memory.peak == 6000
    assert memory.live == 4000


def test_unknown_sources_are_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    for read in (read_language_model, partial(read_generator, StableDiffusion.load)):
        with pytest.raises(PmgError, match=f"can't load .* from {tmp_path} .*go online once, or name a folder"):
            read(str(tmp_path))


@pytest.mark.ci
@pytest.mark.slow
def test_a_generator_without_a_folder_is_measured_as_it_is_made(compose):
    from pmg.commands.estimate import empty_models

    _, generator, weights, _ = empty_models(compose("estimate", "generator=tiny"))
    assert generator.denoiser.model.config.cross_attention_dim == 384
    assert all(size > 0 for size in weights.values())


@pytest.mark.slow
@pytest.mark.parametrize("training", [(), ("preference_encoder=reader", "objective=align_answer")])
def test_the_shipped_generator_is_forecast(compose, training):
    from pmg.commands.estimate import empty_models
    from pmg.configuration.instantiate import instantiate_by_name

    cfg = compose("estimate", "language_model=tiny", *training)
    language_model, generator, weights, sizes = empty_models(cfg)
    terms = instantiate_by_name(cfg.objective.module.terms)
    estimate = estimate_training(language_model, generator, weights, sizes, terms)
    assert estimate.phases["encode images"] > 0
    assert estimate.device > sum(weights.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "kind"),
    [(["language_model=tiny", "preference_encoder.prefix_hidden=64"], PreferenceEncoder),
     (["preference_encoder=visual", "preference_encoder.sees=text"], VisualPreferenceEncoder),
     (["preference_encoder=reader", "preference_encoder.width=32"], PreferenceReader),
     (["preference_encoder=sentences"], PreferenceReader)],
)  # fmt: skip
def test_the_encoder_of_a_config_is_forecast(overrides, kind, compose):
    from pmg.commands.estimate import empty_models

    language_model, _, _, sizes = empty_models(compose("estimate", *overrides))
    encoder = empty_encoder(language_model, sizes)
    assert isinstance(encoder, kind)
    takes_contexts = kind in (PreferenceEncoder, VisualPreferenceEncoder)
    assert bool(sizes.users) == takes_contexts  # whose contexts are on disk
    frozen = weight_bytes(encoder.projector) + encoder.roles.weight.nbytes if kind is VisualPreferenceEncoder else 0
    weights = sum(weight.nbytes for weight in encoder.parameters())
    assert trained_bytes(encoder) == weight_bytes(encoder) + 3 * (weights - frozen)
    if kind is PreferenceEncoder:
        assert encoder.prefix.pairs.shape == (4, 64)
