"""Devices of models: a slow type is warned of, a device that is not there is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pmg.domain import PmgError
from pmg.models.loading.device import to_device


@pytest.mark.parametrize(
    ("dtype", "has", "warned"),
    [(torch.float32, False, False), (torch.bfloat16, True, False), (torch.bfloat16, False, True)],
)
def test_emulated_bfloat16_is_warned_of(caplog, monkeypatch, dtype, has, warned):
    monkeypatch.setattr("pmg.models.loading.device.has_bfloat16", lambda: has)
    to_device(nn.Linear(2, 2, dtype=dtype), "cpu")
    assert ("emulates bfloat16" in caplog.text) == warned


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(PmgError, match="device=xpu"):
        to_device(nn.Linear(2, 2), "xpu")
