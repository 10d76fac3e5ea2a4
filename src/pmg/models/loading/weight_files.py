"""Checks of a checkpoint's config and weight files before a model is built: none from anybody exhausts the memory."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pmg.configuration.trees import leaves, mappings
from pmg.domain import PmgError

COMPUTED = re.compile(r"(^|\.)(position_ids|inv_freq|masked_bias|num_batches_tracked)$")
"""Buffers in older checkpoints that are computed by newer classes."""

FLOATS = ("F64", "F32", "F16", "BF16")  # types of weights, as safetensors files name them
QUANTIZED = "quantization_config"  # a config's key: weights are whole numbers, which its library reads
REPEATED = re.compile(r"layers|blocks|depth")  # of keys whose number is the length of a loop
NAMED = re.compile(r"labels|experts")  # and of longer ones
MOST_REPEATED, MOST_NAMED, MOST_LAYERS = 1_000, 100_000, 20_000
LARGEST_TOKENIZER, LARGEST_CONFIG = 2**26, 2**22  # bytes of tokenizer.json and config.json
MOST_GROWTH = 10_000  # times that a normalizer may lengthen a text
LARGEST = 2**31 - 1  # of a config's other numbers
SPARE, PACKED = 4, 16  # times the numbers of a file that a model may have: tied ones are saved once, 4 bits packed


def check_files(folder: Path) -> int | None:
    """Checks config and weights of a folder; what isn't on this machine is passed over.

    Returns how many numbers a model of it may have; None: the folder has no safetensors file. PmgError if the config
    or a number of it is too large, or weights are not stored as floating-point numbers.
    """
    values, most_layers, longest = _read_config(folder), 1, 1
    for key, value in leaves(values):
        numbers = [part for part in (value if isinstance(value, list) else [value]) if isinstance(part, int)]
        most = MOST_REPEATED if REPEATED.search(key) else MOST_NAMED if NAMED.search(key) else LARGEST
        if numbers and max(map(abs, numbers)) > most:
            raise PmgError(f"{folder / 'config.json'}: {key} is {str(value)[:80]}; at most {most} is allowed")
        longest = max(longest, len(value) if isinstance(value, list) else 1)
        most_layers = max([most_layers, *(numbers if REPEATED.search(key) else ())])
    if longest * most_layers > MOST_LAYERS:
        raise PmgError(
            f"{folder / 'config.json'} describes up to {longest} times {most_layers} layers; at most {MOST_LAYERS}"
        )
    total, quantized = 0, QUANTIZED in values
    for file in sorted(folder.glob("*.safetensors")):
        for name, kind, count in _read_header(file):
            total += count
            if kind not in FLOATS and not (quantized or COMPUTED.search(name)):
                raise PmgError(
                    f"{file}: {name} is stored as {kind}, not as one of {', '.join(FLOATS)}. Load it again."
                )
    return (PACKED if quantized else SPARE) * total or None


def check_tokenizer(file: Path) -> None:
    """Checks a ``tokenizer.json``, if it is here; PmgError if it is too large, or makes texts too long."""
    refuse_large(file, LARGEST_TOKENIZER)
    try:
        normalizer = json.loads(file.read_text(encoding="utf-8"))["normalizer"] or {}
    except (OSError, ValueError, RecursionError, KeyError, TypeError):  # the loader says what is wrong
        return
    growth = 1
    for _, node in mappings(normalizer):
        if node.get("type") in ("Replace", "Prepend"):
            growth *= max(1, len(str(node.get("content") or node.get("prepend") or "")))
    if growth > MOST_GROWTH:
        raise PmgError(f"{file}: its normalizer makes texts up to {growth} times as long; at most {MOST_GROWTH}")


def refuse_large(file: Path, most: int) -> None:
    """Checks that a file, if it is here, has at most `most` bytes, else raises PmgError."""
    size = file.stat().st_size if file.is_file() else 0
    if size > most:
        raise PmgError(f"{file} has {size} bytes; at most {most} are read")


def _read_config(folder: Path) -> Mapping[str, Any]:
    refuse_large(folder / "config.json", LARGEST_CONFIG)
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
