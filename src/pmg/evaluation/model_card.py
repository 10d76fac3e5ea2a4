"""Model cards, written by the code that trained the model, and the card of an exported pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from pmg.api.components import CLASS
from pmg.api.export import CARD, weight_sources
from pmg.cache import atomic_write_text
from pmg.configuration.trees import mappings
from pmg.evaluation.results import read_results

PICTURE = "picture.png"
TRAINED_ON = "trained_on"  # key of a card's head
STEPS, STEPS_BEFORE = "steps", "steps before"  # training facts of a run, and of the runs whose weights it started from
OPERATIONS = "GFLOP a step"
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


def write_model_card(
    folder: Path, card: Mapping[str, str], metrics: Mapping[str, float], facts: Mapping[str, Any],
    picture: Image.Image | None = None, trained_on: str | None = None,
) -> None:  # fmt: skip
    """Writes ``README.md`` into a folder, and a picture beside it, to be judged by eye.

    `card` has ``title``, ``text``, ``data`` and ``license``, `facts` what is known of the training, e.g. steps and
    hours. `trained_on` is the option of the config group ``data`` whose pictures the model learned from.
    """
    data = f"{TRAINED_ON}: [{trained_on}]\n" if trained_on else ""
    head = f"---\nlicense: {card['license']}\ntags: [pmg, embedded]\n{data}---\n# {card['title']}\n"
    parts = [head, f"{card['text']}\n", f"**Data.** {card['data']}\n", _table("Training", facts)]
    parts.append(_table("Measured on held-out drawings", {name: f"{value:.4f}" for name, value in metrics.items()}))
    if picture is not None:
        picture.save(folder / PICTURE)
        parts.append(f"![what it does]({PICTURE})\n")
    atomic_write_text(folder / CARD, "\n".join(parts))


def read_trained_on(folder: Path) -> set[str]:
    """Returns the data sets that the models in a folder or its sub-folders learned from, as far as cards say so."""
    found: set[str] = set()
    for path in (folder / CARD, *folder.glob(f"*/{CARD}")):
        head = path.read_text(encoding="utf-8").split("---\n") if path.is_file() else []
        match yaml.safe_load(head[1]) if len(head) > 2 and not head[0] else None:
            case {"trained_on": [*names]}:
                found |= {str(name) for name in names}
    return found


def read_steps(folder: Path) -> int:
    """Returns the training steps behind a model by its card, those of earlier runs included; 0 without a card."""
    facts = read_facts(folder)
    return sum(int(facts[name]) for name in (STEPS, STEPS_BEFORE) if facts.get(name, "").isdigit())


def read_facts(folder: Path) -> dict[str, str]:
    """Returns the rows of a card's tables with two columns; none without a card."""
    path = folder / CARD
    rows = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows if row.startswith("|")]
    return {values[0]: values[1] for values in cells if len(values) == 2}


def _table(title: str, values: Mapping[Any, Any]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in values.items())
    return f"| {title} | |\n|---|---|\n{rows}\n"


def write_pipeline_card(
    folder: Path, title: str, license_name: str, parts: Mapping[str, Any], metrics: Mapping[str, Any],
    results: str | None,
) -> None:  # fmt: skip
    """Writes ``README.md`` of a pipeline, with `metrics`, the ``metrics.json`` of the training run.

    It has what ``pmg-evaluate`` measured where `results` names its file; PmgError if there is no such file.
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
    if results is None:
        return []
    found = read_results(results, "methods", "comparison")
    methods, comparison = found["methods"], found["comparison"]
    rows = {
        name: " · ".join(
            f"{method} {value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
            for method in (comparison["baseline"], comparison["proposed"])
            if (value := methods.get(method, {}).get(name))
        )
        for name in SHOWN
    }
    return [_table("Measured on test users (mean and 95 % interval)", rows)]
