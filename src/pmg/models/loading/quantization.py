"""Quantization of language models and diffusion transformers to 4 or 8 bits."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from pmg.domain import PmgError
from pmg.installation import install_extra
from pmg.models.loading.checkpoints import leaves_out_weights
from pmg.models.loading.device import torch_type
from pmg.models.loading.memory_tracker import weight_bytes

BYTES = {"4bit": 0.516, "8bit": 1.0}  # a weight of a linear layer; NF4 with double quantisation has 4.127 bits
Quantization = Literal["4bit", "8bit"]


def loading_options(dtype: str, quantization: str | None, kind: Any = BitsAndBytesConfig) -> dict[str, Any]:
    """Returns arguments of ``from_pretrained`` for a floating point type and a quantization.

    Models without weights (`without_weights`) aren't quantized; `quantized_bytes` counts what they would take.
    Quantizations are ``4bit`` (NF4 with double quantisation, as in QLoRA, Dettmers et al. 2023), ``8bit`` and None;
    `kind` is their config's class, that of the library whose model is loaded. PmgError if the kind or the type is
    unknown, or bitsandbytes is missing.
    """
    computed = torch_type(dtype)
    if quantization is None:
        return {"dtype": computed}
    if quantization not in BYTES:
        raise PmgError(f"quantization is '{quantization}'. Use one of {', '.join(BYTES)}, null")
    if leaves_out_weights():
        return {"dtype": computed}
    if find_spec("bitsandbytes") is None:
        raise PmgError(f"quantization={quantization} needs bitsandbytes: {install_extra('quantization')}")
    if quantization == "8bit":
        config = kind(load_in_8bit=True)
    else:
        config = kind(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=computed,
        )  # fmt: skip
    return {"dtype": computed, "quantization_config": config}


def quantized_bytes(model: nn.Module, quantization: str | None, counted: set[int] | None = None) -> int:
    """Returns the bytes of a model's weights: linear layers quantized, embeddings and the head as they are.

    The model is not quantized yet. Storages `counted` before don't count again, see `weight_bytes`, but quantized ones
    do.
    """
    whole = weight_bytes(model, counted)
    if quantization is None:
        return whole
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    packed = [part.weight for part in model.modules() if isinstance(part, nn.Linear) and part is not head]
    numbers = sum(weight.numel() for weight in packed)
    return whole - sum(weight.nbytes for weight in packed) + round(BYTES[quantization] * numbers)
