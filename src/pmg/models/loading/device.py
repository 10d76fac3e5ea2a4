"""Selects the device and dtype of models, and moves them."""

from __future__ import annotations

import logging
from typing import TypeVar

import torch
from torch import nn

from pmg.configuration.precision import has_bfloat16
from pmg.domain import PmgError

log = logging.getLogger(__name__)
Module = TypeVar("Module", bound=nn.Module)


def device_name(device: str) -> str:
    """Returns `device`; for ``auto``, ``cuda`` if a GPU is available, else ``cpu``."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def torch_type(name: str) -> torch.dtype:
    """Returns torch's dtype of that name; PmgError if there is none."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise PmgError(f"'{name}' is no type of torch; use e.g. bfloat16, float16 or float32")
    return found


def device_of(module: nn.Module) -> torch.device:
    """Returns the device of a model's first parameter; the CPU for a model without parameters."""
    return next((weight.device for weight in module.parameters()), torch.device("cpu"))


def emulates_bfloat16(device: str) -> bool:
    """Returns whether `device` is a CPU without bfloat16 instructions, on which bfloat16 is many times slower."""
    return device_name(device) == "cpu" and not has_bfloat16()


def processor_autocast() -> torch.autocast:
    """Returns a context or decorator: the processor computes in bfloat16 where it has it, in float32 elsewhere."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16())


def to_device(module: Module, device: str) -> Module:
    """Moves a frozen model to a device, except quantised parts and those marked by `keep_device`.

    Logs a warning about bfloat16 on a CPU that emulates it. PmgError if the device isn't available.
    """
    if emulates_bfloat16(device) and any(weight.dtype == torch.bfloat16 for weight in module.parameters()):
        log.warning("this processor only emulates bfloat16, which is many times slower than dtype=float32")
    try:
        _move(module, device_name(device))
    except (RuntimeError, AssertionError) as error:  # of devices that torch was built without
        raise PmgError(f"device={device}: {str(error).splitlines()[0]}") from error
    return module


def keep_device(model: object) -> None:
    """Marks a model that `to_device` leaves on its device, also when it is a part of another model."""
    model.keeps_device = True  # type: ignore[attr-defined]


def is_kept(model: object) -> bool:
    """Returns whether `keep_device` marked a model."""
    return bool(getattr(model, "keeps_device", False))


def _move(module: nn.Module, device: str) -> None:
    if _stays(module):
        return
    if not any(map(_stays, module.modules())):
        module.to(device)
        return
    for name, weight in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(weight.to(device), weight.requires_grad))
    for name, buffer in list(module.named_buffers(recurse=False)):
        setattr(module, name, buffer.to(device))
    for part in module.children():
        _move(part, device)


def _stays(module: nn.Module) -> bool:
    return bool(getattr(module, "quantization_method", None)) or is_kept(module)
