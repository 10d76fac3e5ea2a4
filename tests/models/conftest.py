"""Small language models of the true classes, with random weights."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from pmg.models.language.language_model import LanguageModel
from pmg.models.tiny_models import tiny_tokenizer


def build_family(family: str) -> LanguageModel:
    tokenizer = tiny_tokenizer()
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 6 if family == "llama-full" else 2,
        "initializer_range": 0.2,  # larger than usual, so that attention patterns are far from uniform
    }  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**sizes)) if family == "qwen2" else LlamaForCausalLM(LlamaConfig(**sizes))
    return LanguageModel(model, tokenizer)


@pytest.fixture
def build():
    """Makes the model of a family by name."""
    return build_family


@pytest.fixture(params=["llama", "llama-full", "qwen2"])
def language_model(request) -> LanguageModel:
    return build_family(request.param)
