"""Compiled models give what they give uncompiled."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from torch import nn

from checkpoints import write_language_model
from pmg.domain import PmgError
from pmg.models.compilation import LayerGroup, compile_models, join_layers, uncompiled
from pmg.models.diffusion.conditioning import join
from pmg.models.language.context import ContextLayer
from pmg.models.language.language_model import load_language_model
from pmg.models.preference.prefix_placement import Prefix

TEXTS = ("red apple, flat", "dog: thick black outline, black and white, flat", "ghost")
SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 0,
}  # fmt: skip
FAMILIES = {  # with the number of layers in each group
    "llama": (tf.LlamaConfig(**SIZES, num_hidden_layers=4), [2, 2]),
    "qwen3": (tf.Qwen3Config(**SIZES, num_hidden_layers=9), [3, 3, 3]),
    "gemma3": (tf.Gemma3TextConfig(**SIZES, num_hidden_layers=6, sliding_window=64, query_pre_attn_scalar=8), [1] * 6),
}


def load(folder, config):
    return load_language_model(write_language_model(folder, config), "float32", "unused")


def multimodal_states(lm, texts=TEXTS):
    """States of soft tokens behind a prefix, and their gradients."""
    torch.manual_seed(0)
    embeds = torch.randn(5, lm.width, requires_grad=True)
    prefix = Prefix(lm.layers, lm.kv_heads, lm.head_dim, 2, std=1.0)().detach().requires_grad_()
    states = lm.multimodal_states(lm.prefill(texts), embeds, prefix)
    return [states, *torch.autograd.grad((states * torch.randn_like(states)).sum(), (embeds, prefix))]


@pytest.mark.parametrize("family", FAMILIES)
def test_joined_layers_are_the_same_model(family, tmp_path):
    config, sizes = FAMILIES[family]
    lm = load(tmp_path, config)
    before, written = multimodal_states(lm), lm.generate(lm.prefill(TEXTS), " It is", 5)
    decoder = lm.model.get_decoder()
    join_layers(decoder, lm.cache_argument)
    assert [len(group.layers) for group in decoder.layers] == sizes
    with uncompiled():
        for got, expected in zip(multimodal_states(lm), before, strict=True):
            assert torch.equal(got, expected)
        assert lm.generate(lm.prefill(TEXTS), " It is", 5) == written


@pytest.mark.slow
def test_compiled_layers_give_the_same_states_and_gradients_in_one_compilation(tmp_path, generator, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr("pmg.models.compilation.GROUP_SIZE", 1)
    lm = load(tmp_path, tf.LlamaConfig(**SIZES, num_hidden_layers=2))
    plain = {texts: multimodal_states(lm, texts) for texts in (TEXTS, (*TEXTS[::-1], "red dog, black outline"))}
    compile_models(generator, lm, tmp_path / "compiled")
    for texts, expected in plain.items():
        with torch._dynamo.config.patch(error_on_recompile=True):
            torch.testing.assert_close(multimodal_states(lm, texts), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compiled_denoiser_predicts_the_same_for_batches_of_any_size(tmp_path, generator):
    torch._dynamo.reset()
    block = generator.text_encoder.encode(["red apple", "dog", "flat"])
    noisy, steps = torch.randn(3, *generator.latent_shape), torch.tensor([900, 500, 10])
    told = join(block, block.with_attention_bias(torch.tensor([0.5, 4.0, 1.0])))
    few = join(block[:2])

    def predict(latents, times, condition):
        return generator.denoiser(latents, times, generator.prepare(condition, reused=True))

    with torch.no_grad():
        plain = [predict(noisy, steps, told), predict(noisy[:2], steps[:2], few)]
        compile_models(generator, None, tmp_path / "compiled")
        compiled = [predict(noisy, steps, told), predict(noisy[:2], steps[:2], few)]
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-4)


def test_only_layers_behind_kept_histories_are_compiled(tmp_path, monkeypatch):
    lm = load(tmp_path, FAMILIES["llama"][0])
    join_layers(lm.model.get_decoder(), lm.cache_argument)
    seen = []

    def run(layers, states, parts, *_):
        seen.append(parts)
        return states

    monkeypatch.setattr("pmg.models.compilation.run_behind", run)
    context = lm.prefill(TEXTS)
    assert not seen
    lm.multimodal_states(context, torch.randn(2, lm.width))
    assert [len(parts) for parts in seen] == [2, 2]
    assert all(isinstance(part, ContextLayer) and part.loaded for parts in seen for part in parts)


def test_what_cannot_be_compiled_is_said(tmp_path, generator, monkeypatch):
    with pytest.raises(PmgError, match=r"Linear has no list of layers.*compile=false"):
        join_layers(nn.Linear(2, 2), "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(PmgError, match=r"needs a C\+\+ compiler.*compile=false"):
        compile_models(generator, None, tmp_path)


def test_a_group_has_the_attributes_of_its_first_layer():
    group = LayerGroup([nn.Conv2d(2, 5, 1), nn.Conv2d(5, 3, 1)], 0, "cache")
    assert group.out_channels == 5
    with pytest.raises(AttributeError, match="attention_type"):
        group.attention_type  # noqa: B018
