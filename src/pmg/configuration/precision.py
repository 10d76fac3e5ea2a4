"""Floating point types: the fastest one of the device that computes, and Lightning's names of them."""

from __future__ import annotations

from pathlib import Path

ANY_DTYPE = "<dtype>"
"""Placeholder for the floating point type in values that are equal on every machine."""


def has_bfloat16() -> bool:
    """Returns whether this processor multiplies matrices in bfloat16; others only emulate it, slowly."""
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16"))


def gpu_has_bfloat16(device: str) -> bool | None:
    """Returns whether the GPU that a device's name means has bfloat16; None: it means the processor.

    `device` is ``auto``, torch's name, e.g. ``cuda:1``, or Lightning's of an accelerator: ``cpu``, ``gpu``, ``cuda``.
    A GPU that is asked for where there is none, as in a forecast, has it.
    """
    import torch

    named = device.startswith(("cuda", "gpu"))
    if not torch.cuda.is_available():
        return True if named else None
    return torch.cuda.is_bf16_supported(including_emulation=False) if named or device == "auto" else None


def settle_dtype(dtype: str | None, device: str = "cpu") -> str:
    """Returns a floating point type by name; for ``auto`` the one that `device` is fastest in."""
    if dtype not in ("auto", None):
        return str(dtype)
    on_gpu = None if device == "cpu" else gpu_has_bfloat16(device)
    return "bfloat16" if (has_bfloat16() if on_gpu is None else on_gpu) else "float32"


def to_precision(dtype: str | None, accelerator: str = "cpu") -> str:
    """Returns Lightning's name of computing in a floating point type, for ``auto`` in that of an accelerator."""
    name = settle_dtype(dtype, accelerator)
    return {"bfloat16": "bf16-mixed", "float32": "32-true"}.get(name, name)


def is_bfloat16(dtype: str | None) -> bool | str:
    """Returns whether a floating point type is bfloat16; a name for it, as in an identity, is left as it is."""
    name = settle_dtype(dtype)
    return name if name == ANY_DTYPE else name == "bfloat16"
