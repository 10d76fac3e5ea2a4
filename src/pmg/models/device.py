"""Where models stand."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from pmg.domain import PmgError

Module = TypeVar("Module", bound=nn.Module)


def place(module: Module, device: str) -> Module:
    """Moves a frozen model; weights of few bits stay where they were loaded.

    Args:
        module: the model.
        device: as torch names it, or ``auto``: a GPU where there is one.

    Raises:
        PmgError: there is no such device.
    """
    if getattr(getattr(module, "model", None), "quantization_method", None):
        return module
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        return module.to(name)
    except (RuntimeError, AssertionError) as error:  # torch says both of devices that it was built without
        raise PmgError(f"device={device}: {str(error).splitlines()[0]}") from error
