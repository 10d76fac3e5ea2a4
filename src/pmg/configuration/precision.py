"""Floating point types: the fastest one of this machine, and Lightning's names of them."""

from __future__ import annotations

from pathlib import Path

ANY_DTYPE = "<dtype>"
"""Placeholder for the floating point type in values that are equal on every machine."""


def has_bfloat16() -> bool:
    """Returns whether this processor multiplies matrices in bfloat16; others only emulate it, slowly."""
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16"))


def settle_dtype(dtype: str | None) -> str:
    """Returns a floating point type by name; for ``auto`` the one that this processor is fastest in."""
    return ("bfloat16" if has_bfloat16() else "float32") if dtype in ("auto", None) else str(dtype)


def to_precision(dtype: str | None) -> str:
    """Returns Lightning's name of computing in a floating point type."""
    name = settle_dtype(dtype)
    return {"bfloat16": "bf16-mixed", "float32": "32-true"}.get(name, name)


def is_bfloat16(dtype: str | None) -> bool | str:
    """Returns whether a floating point type is bfloat16; a name for it, as in an identity, is left as it is."""
    name = settle_dtype(dtype)
    return name if name == ANY_DTYPE else name == "bfloat16"
