"""A finished ``pmg-train`` run as other commands use it: its config, and its trained encoder's checksum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pmg.configuration.identity import Values, decides_result, format_differences
from pmg.configuration.instantiate import nearest
from pmg.configuration.trees import is_below
from pmg.domain import PmgError
from pmg.runs.content import check_made
from pmg.runs.run_folder import TRAINED, read_masked


@dataclass(frozen=True)
class TrainingRun:
    """A completed training run whose weights are intact."""

    folder: Path
    config: Mapping[str, Any]  # with "<name>" for the folders of its machine
    identity: Values  # the values that decided its result, by dotted key
    weights: str  # checksum of the trained encoder

    @classmethod
    def open(cls, folder: str | Path) -> TrainingRun:
        """Reads a run; PmgError if there is none, it did not complete, or its encoder is damaged or another's."""
        config, metrics = read_masked(folder, "train")
        weights = check_made(Path(folder), metrics, TRAINED)
        return cls(Path(folder), config, metrics.get("identity") or {}, weights)

    def check_same(self, config: Values, groups: Sequence[str]) -> None:
        """Checks that a command's values of some groups are those of this training, except dtypes of frozen weights.

        PmgError names the keys whose values differ, or a group that the config doesn't have.
        """
        for group in groups:
            if not any(is_below(key, group) for key in config):
                raise PmgError(f"no config group '{group}'{nearest(group, {key.partition('.')[0] for key in config})}")
        trained, own = _deciding(self.identity, groups), _deciding(config, groups)
        keys = dict.fromkeys([*trained, *own])
        if differ := {key: (trained.get(key), own.get(key)) for key in keys if trained.get(key) != own.get(key)}:
            raise PmgError(f"{self.folder} was trained with other values: {format_differences(differ)}. Train again")


def _deciding(values: Values, groups: Sequence[str]) -> dict[str, Any]:
    return {
        key: value
        for key, value in values.items()
        if any(is_below(key, group) for group in groups)
        and value is not None
        and not key.endswith((".dtype", ".snr_gamma"))
        and decides_result("train", key)
    }
