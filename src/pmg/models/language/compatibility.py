"""What language models of transformers differ in: their longest sequence, their head, the argument of a cache."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from pmg.domain import PmgError


def longest_sequence(config: PreTrainedConfig) -> int | None:
    """Returns the sliding window of a text model where there is one, else the longest position; None: no limit."""
    kinds = getattr(config, "layer_types", None) or []
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    window = getattr(config, "sliding_window", None) if slides else None
    limits = [length for length in (window, getattr(config, "max_position_embeddings", None)) if length]
    return min(limits, default=None)


def logits_of(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Returns logits over the vocabulary `(..., V)`, float32, of last hidden states `(..., width)`.

    Some families scale or cap the output of their head: Granite divides, Cohere multiplies, Gemma takes c tanh(x / c).
    """
    config = model.config.get_text_config()
    logits = model.get_output_embeddings()(states).float()
    factor = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    logits = logits if factor == 1.0 else logits * factor
    cap = getattr(config, "final_logit_softcapping", None)
    return cap * torch.tanh(logits / cap) if cap else logits


def check_length(length: int, limit: int | None) -> None:
    """Checks that a sequence isn't longer than the model's limit, else raises PmgError."""
    if limit is not None and length > limit:
        raise PmgError(
            f"a history and the question behind it have {length} tokens, and the language model (its positions, or "
            f"its sliding window) reads {limit}: lower scenario.max_items, or history_items"
        )


def unsupported_model(name: str, reason: str) -> PmgError:
    """Returns an error that names the supported kinds of models."""
    return PmgError(
        f"{name} can't be used with cached histories ({reason}). Use a decoder that caches keys and values: Llama, "
        "Qwen, Mistral, Gemma, Phi, SmolLM and the like"
    )


def find_cache_argument(decoder: nn.Module) -> str:
    """Returns the name of a decoder's argument for a cache: transformers 5.24 warns about the old one."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"
