"""Lower precision on processors that are fast in it."""

from __future__ import annotations

import torch

from pmg.configuration.precision import has_bfloat16


def processor_autocast() -> torch.autocast:
    """Returns a context or decorator: the processor computes in bfloat16 where it has it, in float32 elsewhere."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16())
