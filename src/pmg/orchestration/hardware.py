"""Checks that the machine has the device and accelerator of a config, before a command loads anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmg.configuration.instantiate import instantiate, to_plain
from pmg.domain import PmgError
from pmg.orchestration.library_messages import quiet_lightning

if TYPE_CHECKING:
    from omegaconf import DictConfig

MINIMAL = {"logger": False, "callbacks": None, "enable_progress_bar": False, "enable_checkpointing": False}


def check_hardware(cfg: DictConfig) -> None:
    """Checks `cfg.device`, the device of frozen models, and `cfg.trainer`; either may be absent.

    Raises:
        PmgError: there is no such device or accelerator, or Lightning refuses the trainer's arguments.
    """
    if cfg.get("device"):
        check_device(cfg.device)
    if cfg.get("trainer"):
        check_trainer(to_plain(cfg.trainer))


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
