"""Checks that the machine has the device and accelerator of a config, before a command loads anything."""

from __future__ import annotations

from typing import Any

from pmg.configuration.instantiate import instantiate, to_plain
from pmg.domain import PmgError
from pmg.orchestration.library_messages import quiet_lightning

MINIMAL = {"logger": False, "callbacks": None, "enable_progress_bar": False, "enable_checkpointing": False}


def check_device(device: str) -> None:
    """Checks that torch can put a tensor on `device`, else raises PmgError."""
    import torch
    from torch import nn

    from pmg.models.loading.device import to_device

    to_device(nn.ParameterList([torch.zeros(1)]), device)  # the weights of a layer would advance torch's rng


def check_trainer(trainer: Any) -> None:
    """Builds a trainer of this config node, without callbacks and loggers; PmgError if Lightning refuses it."""
    arguments = to_plain(trainer)
    quiet_lightning()
    try:
        instantiate({**arguments, **MINIMAL})
    except PmgError:
        raise
    except Exception as error:  # misconfigurations, values and types: each argument raises its own
        chosen = {name: arguments[name] for name in ("accelerator", "devices", "strategy") if name in arguments}
        values = ", ".join(f"trainer.{name}={value}" for name, value in chosen.items())
        raise PmgError(f"trainer: {' '.join(str(error).split())} ({values})") from error
