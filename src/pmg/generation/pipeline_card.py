"""The model card of an exported pipeline, filled from its training run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmg.cache import atomic_write_text
from pmg.configuration.trees import mappings
from pmg.domain import PmgError
from pmg.generation.components import CLASS
from pmg.generation.export import CARD, weight_sources

SHOWN = ("style_accuracy", "concept_accuracy", "lpips_truth", "lpips_history", "ssim_truth")
ABOUT = """A preference encoder of PMG (Shen et al., WWW 2024): it turns what a language model read of a user's history
into soft tokens that condition a diffusion model, beside keywords. Only the encoder was trained; the rest is frozen.
"""
USE = """```python
from pmg import PersonalizedPipeline

pipe = PersonalizedPipeline.from_pretrained("{folder}"{trust})
output = pipe(history=[...], target="...", alpha=0.5, num_images_per_prompt=4)
output.images[0].save("image.png")
print(output.records[0])
```
"""


def write_pipeline_card(
    folder: Path, title: str, license_name: str, parts: Mapping[str, Any], metrics: Mapping[str, Any],
    results: str | None,
) -> None:  # fmt: skip
    """Writes ``README.md``.

    Args:
        folder: of the pipeline.
        title: the card's.
        license_name: of the trained weights.
        parts: nodes of its index.
        metrics: ``metrics.json`` of the training run.
        results: file of ``pmg-evaluate``, or None.

    Raises:
        PmgError: there is no such file of results.
    """
    names = [node[CLASS] for _, node in mappings(parts) if CLASS in node]
    bases = sorted(set(weight_sources(parts)))
    plugins = sorted({name.partition(".")[0] for name in names if "." in name})
    hub = [f"- {base}" for base in bases if not base.startswith(("<", "/", "package:"))]
    head = ["---", f"license: {license_name}", "library_name: pmg", "tags: [pmg, personalization, diffusion]"]
    head += ["base_model:", *hub, "---"] if hub else ["---"]
    ledger = metrics["ledger"]
    facts = {
        "trained parameters": f"{ledger['trainable_parameters']:,}",
        "training": f"{ledger['seconds']['train']:.0f} s on {metrics['hardware']['processor']}",
        "seed": metrics["seed"],
        "revision": (metrics.get("git") or {}).get("revision", "unknown"),
        **{name: f"{value:.4f}" for name, value in metrics["metrics"].items()},
    }
    texts = [
        "\n".join([*head, f"# {title}\n"]),
        ABOUT,
        USE.format(folder=folder.name, trust=f", trust={plugins}" if plugins else ""),
        _table("Training", facts),
        _table("Frozen models", {number: f"`{base}`" for number, base in enumerate(bases, start=1)}),
        *_quality(results),
    ]
    atomic_write_text(folder / CARD, "\n".join(texts))


def _quality(results: str | None) -> list[str]:
    """Tables of the arm ``pmg`` and of ``none``."""
    if results is None:
        return []
    try:
        arms = json.loads(Path(results).read_text())["arms"]
    except (OSError, ValueError, KeyError) as error:
        raise PmgError(f"results={results} is no results.json of pmg-evaluate ({error})") from None
    rows = {
        name: " · ".join(
            f"{arm} {arms[arm][name]['mean']:.3f} [{arms[arm][name]['low']:.3f}, {arms[arm][name]['high']:.3f}]"
            for arm in ("none", "pmg")
            if name in arms.get(arm, {})
        )
        for name in SHOWN
    }
    return [_table("Measured on test users (mean and 95 % interval)", rows)]


def _table(title: str, values: Mapping[Any, Any]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in values.items())
    return f"| {title} | |\n|---|---|\n{rows}\n"
