"""Where models stand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pmg.configuration.precision import has_bfloat16
from pmg.domain import PmgError
from pmg.models.loading.device import to_device


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_emulated_bfloat16_is_warned_of(caplog, dtype):
    to_device(nn.Linear(2, 2, dtype=dtype), "cpu")
    assert ("emulates bfloat16" in caplog.text) == (dtype == torch.bfloat16 and not has_bfloat16())


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(PmgError, match="device=xpu"):
        to_device(nn.Linear(2, 2), "xpu")
