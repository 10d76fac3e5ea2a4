"""Where models stand."""

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
    """Returns `device`, or for ``auto`` a GPU's name where there is one, else ``cpu``."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def torch_type(name: str) -> torch.dtype:
    """Returns the type of torch that a config names.

    Raises:
        PmgError: there is no such type.
    """
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise PmgError(f"'{name}' is no type of torch; use e.g. bfloat16, float16 or float32")
    return found


def emulates_bfloat16(device: str) -> bool:
    """Returns whether `device` is a processor that has no bfloat16 of its own: it is many times slower in it."""
    return device_name(device) == "cpu" and not has_bfloat16()


def place(module: Module, device: str) -> Module:
    """Moves a frozen model; weights of few bits stay where they were loaded.

    Warns of bfloat16 on a processor that only emulates it.

    Args:
        module: the model.
        device: as torch names it, or ``auto``: a GPU where there is one.

    Raises:
        PmgError: there is no such device.
    """
    if getattr(getattr(module, "model", None), "quantization_method", None):
        return module
    if emulates_bfloat16(device) and any(weight.dtype == torch.bfloat16 for weight in module.parameters()):
        log.warning("this processor only emulates bfloat16, which is many times slower than dtype=float32")
    try:
        return module.to(device_name(device))
    except (RuntimeError, AssertionError) as error:  # torch says both of devices that it was built without
        raise PmgError(f"device={device}: {str(error).splitlines()[0]}") from error
