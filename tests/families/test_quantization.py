"""Models in 4 or 8 bits: what they weigh, where they stand, and what is refused."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from torch import nn

from checkpoints import write_flux1, write_language_model
from pmg.domain import PmgError
from pmg.families.flux1 import BASE, Flux1
from pmg.models.diffusion.conditioning import Block, join
from pmg.models.language.language_model import load_language_model
from pmg.models.loading.checkpoints import without_weights
from pmg.models.loading.device import to_device
from pmg.models.loading.quantization import quantized_bytes
from published import write_configs

FOUR_BITS = 0.516
LLAMA = tf.LlamaConfig(
    hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=256, pad_token_id=None, bos_token_id=None, eos_token_id=0,
)  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_generator_is_quantized_on_a_gpu_alone(tmp_path):
    pytest.importorskip("bitsandbytes")
    with pytest.raises(PmgError, match=r"generator\.quantization=4bit needs a GPU: set generator\.quantization=null"):
        Flux1.load(write_flux1(tmp_path), size=64, quantization="4bit")
    with pytest.raises(PmgError, match=r"'3bit'\. Use one of 4bit, 8bit"):
        Flux1.load(write_flux1(tmp_path / "b"), size=64, quantization="3bit")


def test_flux1_in_few_bits_has_the_published_size(tmp_path):
    """11.9 billion parameters, nearly all of linear layers: 6.2 GB of NF4, 11.9 GB of integers."""
    with without_weights():
        transformer = Flux1.load(write_configs(tmp_path, BASE), "bfloat16").frozen_models()["denoiser"]
    assert quantized_bytes(transformer, "4bit") == pytest.approx(6.2e9, rel=0.02)
    assert quantized_bytes(transformer, "8bit") == pytest.approx(11.9e9, rel=0.01)


def test_a_quantized_part_keeps_its_device(tmp_path):
    pytest.importorskip("bitsandbytes")
    packed = load_language_model(write_language_model(tmp_path, LLAMA), "float32", "unused", quantization="4bit")
    whole = nn.ModuleDict({"packed": packed, "linear": nn.Linear(2, 2)})
    whole.register_buffer("own", torch.zeros(2))
    to_device(whole, "meta")
    assert whole["linear"].weight.is_meta
    assert whole.own.is_meta
    assert not any(weight.is_meta for weight in packed.parameters())


def test_text_encoders_on_the_cpu_are_not_moved(tmp_path):
    folder = write_flux1(tmp_path)
    moved, kept = (Flux1.load(folder, size=64, text_on_cpu=on_cpu) for on_cpu in (False, True))
    expected = kept.text_encoder.encode(["red apple"])
    for generator in (moved, kept):
        to_device(generator, "meta")
        assert all(weight.is_meta for weight in generator.denoiser.parameters())
    assert all(weight.is_meta for weight in moved.text_encoder.parameters())
    torch.testing.assert_close(kept.text_encoder.encode(["red apple"]).tokens, expected.tokens)


@pytest.mark.slow
@pytest.mark.ci
def test_a_quantized_generator_is_forecast_with_fewer_bytes(compose, tmp_path):
    from pmg.commands.estimate import empty_models

    short = [
        "generator=flux1",
        f"generator.source={write_flux1(tmp_path)}",
        "generator.size=64",
        "language_model=tiny",
    ]
    whole = empty_models(compose("estimate", *short))[2]
    packed = empty_models(compose("estimate", *short, "generator.quantization=4bit"))[2]
    assert packed["denoiser"] < whole["denoiser"]
    assert packed["text encoder"] < whole["text encoder"]
    assert packed["autoencoder"] == whole["autoencoder"]
    aside = empty_models(compose("estimate", *short, "generator.text_on_cpu=true"))[2]
    assert aside == {**whole, "text encoder": 0}


@pytest.mark.gpu
@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_a_quantized_generator_predicts_and_passes_gradients(quantization, tmp_path):
    pytest.importorskip("bitsandbytes")
    generator = Flux1.load(write_flux1(tmp_path), "bfloat16", 64, 72, quantization=quantization)
    generator = to_device(generator, "cuda")
    target = generator.text_encoder.encode(["red apple"])
    soft = torch.zeros(1, 4, generator.text_encoder.width, requires_grad=True)
    block = Block(soft, torch.ones(1, 4, dtype=torch.bool))
    latents, times = torch.randn(1, *generator.latent_shape), torch.tensor([500.0])
    generator.predict(latents, times, join(target, block), 3.0).sum().backward()
    assert torch.isfinite(soft.grad).all()
    assert soft.grad.any()
