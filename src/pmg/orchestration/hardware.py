"""Checks that the machine has what a config asks for, before a command loads anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmg.configuration.instantiate import instantiate, to_plain
from pmg.domain import PmgError

if TYPE_CHECKING:
    from omegaconf import DictConfig

OWN_PARTS = {"logger": False, "callbacks": None, "enable_progress_bar": False, "enable_checkpointing": False}


def check_hardware(cfg: DictConfig) -> None:
    """Checks `cfg.device`, where frozen models are put, and `cfg.trainer`, where the config has them.

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
        PmgError: it can't.
    """
    import torch
    from torch import nn

    from pmg.models.loading.device import place

    place(nn.ParameterList([torch.zeros(1)]), device)  # a layer's weights would be drawn, and change all later draws


def check_trainer(arguments: dict[str, Any]) -> None:
    """Builds a trainer of these arguments, without callbacks and loggers.

    Raises:
        PmgError: Lightning refuses them.
    """
    try:
        instantiate({**arguments, **OWN_PARTS})
    except PmgError:
        raise
    except Exception as error:  # misconfigurations, values and types: each argument raises its own
        chosen = {name: arguments[name] for name in ("accelerator", "devices", "strategy") if name in arguments}
        told = ", ".join(f"trainer.{name}={value}" for name, value in chosen.items())
        raise PmgError(f"trainer: {' '.join(str(error).split())} ({told})") from error
