"""Checks a config's device and trainer before a command loads anything, and silences messages of Lightning."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from pmg.configuration.instantiate import instantiate, to_plain
from pmg.domain import PmgError

LOGGERS = ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric")
WARNINGS = (
    r".*treespec, LeafSpec.*",  # its own use of torch
    r".*overridden `transfer_batch_to_device`.*",  # on purpose
    r".*exists and is not empty.*",  # a resumed run
    r".*module\(s\) in eval mode at the start.*",  # frozen models
)
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


def quiet_lightning() -> None:
    """Silences Lightning's tips, its lists of absent devices, its repetition of the config, and `WARNINGS`.

    Importing Lightning resets the level of its loggers, so it is imported first.
    """
    import pytorch_lightning  # noqa: F401

    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
