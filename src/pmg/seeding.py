"""Numbers that depend on what they are for and nothing else: seeds, and stable random choices."""

from __future__ import annotations

from hashlib import sha256


def stable_number(*parts: str | int) -> int:
    """Returns an integer in [0, 2**64) that depends on `parts` alone: the same on every machine and in every process.

    Parts say what the number is for, e.g. ``("noise", seed, example_id)``.
    """
    return int.from_bytes(sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")
