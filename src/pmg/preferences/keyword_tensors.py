"""Keywords in the form that the cache keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from pmg.domain import Keywords


def to_tensors(keywords: Sequence[Keywords]) -> dict[str, Tensor]:
    """Returns keywords in the form that the cache keeps."""
    text = json.dumps([asdict(words) for words in keywords], ensure_ascii=False)
    return {"json": torch.tensor(list(text.encode()), dtype=torch.uint8)}


def from_tensors(tensors: Mapping[str, Tensor]) -> list[Keywords]:
    """Returns the keywords that `to_tensors` encoded."""
    rows = json.loads(bytes(tensors["json"].tolist()))
    return [Keywords(**{name: tuple(values) for name, values in row.items()}) for row in rows]
