"""Checks that the machine has the device and accelerator of a config, before a command loads anything."""

from __future__ import annotations

from typing import Any

from pmg.configuration.instantiate import instantiate, to_plain
from pmg.domain import PmgError
from pmg.orchestration.library_messages import quiet_lightning

MINIMAL = {"logger": False, "callbacks": None, "enable_progress_bar": False, "enable_checkpointing": False}


def check_hardware(device: str | None, trainer: Any) -> None:
    """Checks the device of frozen models, and the trainer.

    Args:
        device: None: there are no frozen models.
        trainer: its config node.

    Raises:
        PmgError: there is no such device or accelerator, or Lightning refuses the trainer's arguments.
    """
    if device:
        check_device(device)
    check_trainer(to_plain(trainer))


def check_device(device: str) -> None:
    """Checks that torch can put a tensor on `device`.

    Raises:
        PmgError: torch has no such device.
    """
    import torch
    from torch import nn

    from pmg.models.loading.device import to_device

    to_device(nn.ParameterList([torch.zeros(1)]), device)  # the weights of a layer would advance torch's rng


def check_trainer(arguments: dict[str, Any]) -> None:
    """Builds a trainer of these arguments, without callbacks and loggers.

    Raises:
        PmgError: Lightning refuses them.
    """
    quiet_lightning()
    try:
        instantiate({**arguments, **MINIMAL})
    except PmgError:
        raise
    except Exception as error:  # misconfigurations, values and types: each argument raises its own
        chosen = {name: arguments[name] for name in ("accelerator", "devices", "strategy") if name in arguments}
        values = ", ".join(f"trainer.{name}={value}" for name, value in chosen.items())
        raise PmgError(f"trainer: {' '.join(str(error).split())} ({values})") from error
