"""Data URIs: files as addresses that contain them, for pages without other files."""

from __future__ import annotations

import base64


def data_uri(content: bytes, kind: str) -> str:
    """Returns a file as an address that contains it.

    Args:
        content: of the file.
        kind: its media type, e.g. ``image/png``.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
