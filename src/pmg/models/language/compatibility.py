"""Checks that a causal language model computes the same states with cached histories as without a cache."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from pmg.domain import PmgError
from pmg.models.language.context import Context
from pmg.models.language.grouped_attention import PACKED

PROBE = (5, 3)  # cached tokens, and tokens behind them
TOLERANCE = {torch.float32: 1e-3}  # relative error of the states; in half precision the order of sums shows
HALF_TOLERANCE = 0.1


class CachedDecoder(Protocol):
    """The part of `pmg.models.language.context_decoder.ContextDecoder` that `select_attention` uses."""

    model: PreTrainedModel

    def set_attention(self, name: str) -> None:
        """Selects an attention implementation by its name."""
        ...

    def probe(self) -> Probe:
        """Returns a short history, with the states that the model's own attention gives without a cache."""
        ...

    def embed(self, tokens: Tensor) -> Tensor:
        """Returns input embeddings `(..., width)` of tokens."""
        ...

    def extend(self, context: Context, inputs: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
        """Returns last hidden states of new inputs behind a context."""
        ...


@dataclass(frozen=True)
class Probe:
    """A short history, and the states of what follows it.

    Attributes:
        prefill: computes the context of the history.
        new: the tokens behind it, int64 `(N,)`.
        states: their last hidden states without a cache, `(N, width)`.
    """

    prefill: Callable[[], Context]
    new: Tensor
    states: Tensor


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a decoder.

    Attributes:
        width: of embeddings and hidden states.
        layers: transformer layers.
        kv_heads: key/value heads, fewer than query heads under grouped (GQA) and multi-query attention (MQA).
        head_dim: width of one head.
        limit: longest sequence, in tokens, for which full attention is that of the model's training; None: no limit.
    """

    width: int
    layers: int
    kv_heads: int
    head_dim: int
    limit: int | None

    @classmethod
    def from_config(cls, config: PreTrainedConfig) -> DecoderShape:
        """Returns the sizes in a transformers config; of a multimodal model, those of its text part.

        Raises:
            PmgError: there are no attention heads.
        """
        config = config.get_text_config()
        heads = getattr(config, "num_attention_heads", None)
        if not heads:
            raise unsupported_model(config.model_type, "it has no attention heads")
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        return cls(config.hidden_size, config.num_hidden_layers, kv_heads, head_dim, _limit(config))


def _limit(config: PreTrainedConfig) -> int | None:
    """Returns the sliding window where there is one, else the longest position."""
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
    """Checks the length of a sequence.

    Raises:
        PmgError: it is longer than the model's limit.
    """
    if limit is not None and length > limit:
        raise PmgError(
            f"a history and the question behind it have {length} tokens, and the language model (its positions, or "
            f"its sliding window) reads {limit}: lower scenario.max_items, or history_items"
        )


def select_attention(model: CachedDecoder) -> str:
    """Selects the attention, by name, by which a cached history gives the same states as one uncached pass.

    Candidates are the packed one and transformers' eager one, which supports soft caps and sinks; the reference is the
    model's own forward pass without a cache. Recurrent layers and positions relative to the end fail with both.

    Raises:
        PmgError: neither gives the same states.
    """
    if model.model.device.type == "meta":
        model.set_attention(PACKED)
        return PACKED
    bound = TOLERANCE.get(model.model.dtype, HALF_TOLERANCE)
    probe = model.probe()
    for name in (PACKED, "eager"):
        try:
            model.set_attention(name)
            error = _error(model, probe)
            reason = f"its states differ by {error:.0%} from those of one uncached pass"
        except (RuntimeError, AttributeError, IndexError, TypeError, ValueError) as failure:  # other caches and shapes
            error, reason = float("inf"), " ".join(str(failure).split())[:160]
        if error < bound:
            return name
    raise unsupported_model(type(model.model).__name__, reason)


def unsupported_model(name: str, reason: str) -> PmgError:
    """Returns an error that names the supported kinds of models."""
    return PmgError(
        f"{name} can't be used with cached histories ({reason}). Use a decoder that caches keys and values: Llama, "
        "Qwen, Mistral, Gemma, Phi, SmolLM and the like"
    )


def _error(model: CachedDecoder, probe: Probe) -> float:
    """Returns the relative error of the states behind a cached history."""
    context, new = probe.prefill(), probe.new
    visible = torch.ones(len(new), len(new), dtype=torch.bool).tril()
    got = model.extend(context, model.embed(new)[None], torch.arange(len(new)), visible)[0].float()
    wanted = probe.states.float()
    return float((got - wanted).norm() / wanted.norm())


def find_cache_argument(decoder: nn.Module) -> str:
    """Returns the name of the argument under which a decoder takes a cache.

    transformers 5.24 renamed it and warns about the old name.
    """
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"
