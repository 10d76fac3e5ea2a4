"""What a causal language model must be like so that histories can be kept: its shape, its limit, and the proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from pmg.domain import PmgError
from pmg.models.language.context import Context
from pmg.models.language.grouped_attention import PACKED

PROBE = (5, 3)  # tokens that are kept, and tokens behind them
TOLERANCE = {torch.float32: 1e-3}  # relative error of the states; in half precision the order of sums shows
HALF_TOLERANCE = 0.1


class CachedReader(Protocol):
    """The part of `pmg.models.language.language_model.LanguageModel` that `settle_attention` uses."""

    model: PreTrainedModel
    embeddings: Tensor

    def attend_by(self, name: str) -> None:
        """Selects an attention implementation by its name."""
        ...

    def prefill_tokens(self, tokens: list[Tensor]) -> Context:
        """Computes the keys and values of each text."""
        ...

    def embed(self, tokens: Tensor) -> Tensor:
        """Returns input embeddings `(..., width)` of tokens."""
        ...

    def extend(self, context: Context, inputs: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
        """Returns last hidden states of new inputs behind a context."""
        ...


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder.

    Attributes:
        width: of embeddings and hidden states.
        layers: transformer layers.
        kv_heads: key/value heads, fewer than query heads under grouped (GQA) and multi-query attention (MQA).
        head_dim: width of one head.
        limit: longest sequence that full attention reads as the model was trained to, in tokens; None: no limit.
    """

    width: int
    layers: int
    kv_heads: int
    head_dim: int
    limit: int | None

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Shape:
        """Reads a transformers config; of a model of several modalities, its text part.

        Raises:
            PmgError: there are no attention heads.
        """
        config = config.get_text_config()
        heads = getattr(config, "num_attention_heads", None)
        if not heads:
            raise refusal(config.model_type, "it has no attention heads")
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        return cls(config.hidden_size, config.num_hidden_layers, kv_heads, head_dim, _limit(config))


def _limit(config: PreTrainedConfig) -> int | None:
    """The sliding window where there is one, else the longest position."""
    kinds = getattr(config, "layer_types", None) or []
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    window = getattr(config, "sliding_window", None) if slides else None
    known = [length for length in (window, getattr(config, "max_position_embeddings", None)) if length]
    return min(known, default=None)


def logits_of(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Logits over the vocabulary `(..., V)` of last hidden states `(..., width)`, float32, as the model makes them.

    Some families scale or cap what their head gives: Granite divides, Cohere multiplies, Gemma takes c tanh(x / c).
    """
    config = model.config.get_text_config()
    logits = model.get_output_embeddings()(states).float()
    factor = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    logits = logits if factor == 1.0 else logits * factor
    cap = getattr(config, "final_logit_softcapping", None)
    return cap * torch.tanh(logits / cap) if cap else logits


def check_length(length: int, limit: int | None) -> None:
    """Refuses what the model can't read whole.

    Raises:
        PmgError: says the length, the limit and how to shorten histories.
    """
    if limit is not None and length > limit:
        raise PmgError(
            f"a history and what is asked behind it have {length} tokens, and the language model (its positions, or "
            f"its sliding window) reads {limit}: lower scenario.max_items, or history_items"
        )


def settle_attention(model: CachedReader) -> str:
    """Finds an attention under which a kept history gives the same states as reading everything at once.

    Tried are the packed one and transformers' plain one, which knows soft caps and sinks; the measure is the model's
    own forward pass without a cache. What neither can do (recurrent layers, positions by distance from the end)
    would go wrong silently.

    Returns:
        The name of the attention, which the model now has.

    Raises:
        PmgError: no attention gives the same states.
    """
    tokens = torch.arange(sum(PROBE)) * 7 % len(model.embeddings)
    bound = TOLERANCE.get(model.model.dtype, HALF_TOLERANCE)
    whole = _read_at_once(model, tokens)
    for name in (PACKED, "eager"):
        try:
            model.attend_by(name)
            error = _error(model, tokens, whole)
            reason = f"its states differ by {error:.0%} from those of reading everything at once"
        except (RuntimeError, AttributeError, IndexError, TypeError, ValueError) as failure:  # other caches and shapes
            error, reason = float("inf"), " ".join(str(failure).split())[:160]
        if error < bound:
            return name
    raise refusal(type(model.model).__name__, reason)


@torch.no_grad()
def _read_at_once(model: CachedReader, tokens: Tensor) -> Tensor:
    """Last hidden states `(T, width)` of tokens `(T,)`, by the model's own attention and without a cache."""
    inputs = tokens[None].to(model.model.device)
    return model.model.get_decoder()(input_ids=inputs, use_cache=False).last_hidden_state[0]


def refusal(name: str, reason: str) -> PmgError:
    """An error that says which models will do."""
    return PmgError(
        f"{name} can't go on behind a kept history ({reason}); a decoder that keeps keys and values is needed: Llama, "
        "Qwen, Mistral, Gemma, Phi, SmolLM and the like"
    )


def _error(model: CachedReader, tokens: Tensor, whole: Tensor) -> float:
    """Relative error of the states behind a kept history, `whole` `(N, width)` being the right ones."""
    kept, new = tokens.split(PROBE)
    context = model.prefill_tokens([kept])
    visible = torch.ones(len(new), len(new), dtype=torch.bool).tril()
    got = model.extend(context, model.embed(new)[None], torch.arange(len(new)), visible)[0].float()
    wanted = whole[-len(new) :].float()
    return float((got - wanted).norm() / wanted.norm())
