"""Warns of a generator that was trained on other pictures than those of the data set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmg.configuration.instantiate import to_plain
from pmg.configuration.trees import texts

if TYPE_CHECKING:
    from pmg.data.dataset import Dataset
    from pmg.domain import Example

log = logging.getLogger(__name__)


def warn_of_other_pictures(generator: Any, option: str | None, data: Dataset, examples: Sequence[Example]) -> None:
    """Logs a warning if the generator's model cards name data sets, and the configured one isn't among them.

    `option` is that of the group ``data``; None: unknown. A data set without pictures gets no warning.
    """
    from pmg.evaluation.model_card import read_trained_on

    folders = [Path(text) for key, text in texts(to_plain(generator)) if key.endswith("folder")]
    trained_on = set().union(*map(read_trained_on, folders))
    if not trained_on or not option or trained_on & {option, data.pictures_of}:
        return
    if any(data.images.has(one.item) for example in examples for one in example.history):
        names = " and ".join(sorted(trained_on))
        log.warning(
            "the generator was trained on pictures of %s, not of data=%s, and draws the former. Train one on yours: "
            "pmg-pretrain data=%s stage=look_autoencoder (docs/own_data.md)", names, option, option,
        )  # fmt: skip
