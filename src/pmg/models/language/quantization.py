"""Quantization of language models to 4 or 8 bits."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from pmg.domain import PmgError
from pmg.installation import install_extra
from pmg.models.loading.device import torch_type
from pmg.models.loading.memory_tracker import weight_bytes

BYTES = {"4bit": 0.516, "8bit": 1.0}  # a weight of a linear layer; NF4 with double quantisation has 4.127 bits
KINDS = tuple(BYTES)


def loading_options(dtype: str, quantization: str | None) -> dict[str, Any]:
    """Returns arguments of ``from_pretrained`` for a floating point type and a quantization.

    Args:
        dtype: name of the type of the computation.
        quantization: ``4bit`` (NF4 with double quantisation, as in QLoRA, Dettmers et al. 2023), ``8bit`` or None.

    Raises:
        PmgError: the kind or the type is unknown, or bitsandbytes is missing.
    """
    computed = torch_type(dtype)
    if quantization is None:
        return {"dtype": computed}
    if quantization not in KINDS:
        raise PmgError(f"encoder.language_model.quantization is '{quantization}'. Use one of {', '.join(KINDS)}, null")
    if find_spec("bitsandbytes") is None:
        raise PmgError(f"quantization={quantization} needs bitsandbytes: {install_extra('quantization')}")
    if quantization == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=computed,
        )
    return {"dtype": computed, "quantization_config": config}


def quantized_bytes(model: PreTrainedModel, quantization: str | None) -> int:
    """Returns the bytes of a model's weights: linear layers quantized, embeddings and the head as they are."""
    whole = weight_bytes(model)
    if quantization is None:
        return whole
    head = model.get_output_embeddings()
    packed = [part.weight for part in model.modules() if isinstance(part, nn.Linear) and part is not head]
    numbers = sum(weight.numel() for weight in packed)
    return whole - sum(weight.nbytes for weight in packed) + round(BYTES[quantization] * numbers)
