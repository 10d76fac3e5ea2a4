"""Silences messages of Lightning that users of pmg can do nothing about."""

from __future__ import annotations

import logging
import warnings

LOGGERS = ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric")
WARNINGS = (
    r".*treespec, LeafSpec.*",  # its own use of torch
    r".*overridden `transfer_batch_to_device`.*",  # on purpose
    r".*exists and is not empty.*",  # a resumed run
    r".*module\(s\) in eval mode at the start.*",  # frozen models
)


def quiet_lightning() -> None:
    """Silences Lightning's tips, its lists of absent devices, its repetition of the config, and `WARNINGS`.

    Importing Lightning resets the level of its loggers, so it is imported first.
    """
    import pytorch_lightning  # noqa: F401

    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
