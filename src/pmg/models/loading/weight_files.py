"""Checks of a checkpoint's config and weight files before a model is built: none from anybody exhausts the memory."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pmg.configuration.trees import leaves
from pmg.domain import PmgError

COMPUTED = re.compile(r"(^|\.)(position_ids|inv_freq|masked_bias|num_batches_tracked)$")
"""Buffers in older checkpoints that are computed by newer classes."""

FLOATS = ("F64", "F32", "F16", "BF16")  # types of weights, as safetensors files name them
QUANTIZED = "quantization_config"  # a config's key: weights are whole numbers, which its library reads
REPEATED = re.compile(r"layers|labels|blocks|depth|experts")  # of keys whose number is the length of a loop
MOST_REPEATED = 10_000
LARGEST = 2**31 - 1  # of a config's other numbers
SPARE = 4  # times the weights of a file that a model may have: tied ones are saved once


def check_files(folder: Path) -> int | None:
    """Checks config and weights of a folder; what isn't on this machine is passed over.

    Returns:
        How many numbers a model of it may have; None: the folder has no safetensors file, or quantized weights.

    Raises:
        PmgError: a number of the config is too large, or weights are not stored as floating-point numbers.
    """
    values = _read_config(folder)
    for key, value in leaves(values):
        most = MOST_REPEATED if REPEATED.search(key) else LARGEST
        if any(isinstance(part, int) and abs(part) > most for part in (value if isinstance(value, list) else [value])):
            raise PmgError(f"{folder / 'config.json'}: {key} is {str(value)[:80]}; at most {most} is allowed")
    if QUANTIZED in values:
        return None
    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        for name, kind, count in _read_header(file):
            total += count
            if kind not in FLOATS and not COMPUTED.search(name):
                raise PmgError(
                    f"{file}: {name} is stored as {kind}, not as one of {', '.join(FLOATS)}. Load it again."
                )
    return SPARE * total or None


def _read_config(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # the loader says what is wrong
        return {}
    return found if isinstance(found, dict) else {}


def _read_header(file: Path) -> Iterator[tuple[str, str, int]]:
    """Yields name, type and count of each tensor of a file; nothing of a damaged one, which the loader refuses."""
    try:
        with safe_open(file, framework="pt") as content:
            for name in content.keys():  # noqa: SIM118
                part = content.get_slice(name)
                yield name, part.get_dtype(), math.prod(part.get_shape())
    except (OSError, SafetensorError):
        return
