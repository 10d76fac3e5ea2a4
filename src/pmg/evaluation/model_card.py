"""Model cards, written by the code that trained the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from pmg.cache import atomic_write_text

PICTURE = "picture.png"


def write_model_card(
    folder: Path, card: Mapping[str, str], metrics: Mapping[str, float], facts: Mapping[str, Any],
    picture: Image.Image | None = None,
) -> None:  # fmt: skip
    """Writes ``README.md``, and a picture beside it.

    Args:
        folder: where the card goes.
        card: ``title``, ``text``, ``data`` and ``license``.
        metrics: measured quality.
        facts: training facts by name, e.g. steps and hours.
        picture: to be judged by eye.
    """
    head = f"---\nlicense: {card['license']}\ntags: [pmg, embedded]\n---\n# {card['title']}\n"
    parts = [head, f"{card['text']}\n", f"**Data.** {card['data']}\n", _table("Training", facts)]
    parts.append(_table("Measured on held-out drawings", {name: f"{value:.4f}" for name, value in metrics.items()}))
    if picture is not None:
        picture.save(folder / PICTURE)
        parts.append(f"![what it does]({PICTURE})\n")
    atomic_write_text(folder / "README.md", "\n".join(parts))


def _table(title: str, values: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in values.items())
    return f"| {title} | |\n|---|---|\n{rows}\n"
