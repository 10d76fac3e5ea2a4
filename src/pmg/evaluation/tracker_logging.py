"""Logs a generation and its results to trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pmg.domain import Example
from pmg.evaluation.contact_sheet import choose_examples, image_grid
from pmg.records.storage import Record, read_images, scan_records
from pmg.tracking.tracker import IMAGE, Tracking

SAMPLES = "samples"


def record_samples(
    tracking: Tracking, folder: Path, examples: Sequence[Example], methods: Sequence[str], users: int,
    labels: Sequence[str] = (),
) -> None:  # fmt: skip
    """Gives trackers, where there are some, a grid of generated images, and a table of them with their records.

    The grid is written into the folder of the generation; a method a column, an example of `choose_examples` a row.
    """
    if not tracking:
        return
    chosen = [example.id for example in choose_examples(examples, labels, users)]
    found = {(r.example, r.method): r for _, r in scan_records(folder) if r.control == "own" and r.example in chosen}
    records = [found[example, method] for example in chosen for method in methods]
    path = folder / f"{SAMPLES}.png"
    image_grid(read_images(folder, records), chosen, methods).save(path)
    tracking.record_image(f"{SAMPLES}_grid", path)
    tracking.record_table(SAMPLES, pd.DataFrame([_row(folder, record) for record in records]))


def _row(folder: Path, record: Record) -> dict[str, Any]:
    picked = record.chosen
    return {
        IMAGE: folder / record.image,
        "example": record.example, "user": record.user, "method": record.method, "seed": record.seed,
        "target": ", ".join(record.target_keywords),
        "preference": ", ".join(record.preference_keywords),
        "negative": ", ".join(record.negative_keywords),
        "w_p": picked.w_p, "w_t": picked.w_t, "d_p": picked.preference, "d_t": picked.accuracy, "z": picked.z,
        "alpha": record.alpha, "candidates": len(record.candidates),
    }  # fmt: skip


def headline(results: Mapping[str, Any]) -> dict[str, float]:
    """Returns the means of results by name, e.g. ``results/pmg/lpips_truth`` or ``sets/kid_dino/pmg``."""
    parts = {"results": results["methods"], "paired": results["paired"], "gap_closed": results["gap_closed"]}
    means = {
        f"{part}/{row}/{column}": values["mean"]
        for part, found in parts.items()
        for row, columns in found.items()
        for column, values in columns.items()
    }
    sets = results.get("sets", {}).items()
    return means | {
        f"sets/{name}/{method}": values["value"] for name, methods in sets for method, values in methods.items()
    }


def record_results(tracking: Tracking, results: Mapping[str, Any], folder: Path) -> None:
    """Gives trackers the tables of results, one row a method and metric, and their files."""
    for part in ("methods", "paired"):
        rows = [
            {"method": row, "metric": column, **values}
            for row, columns in results[part].items()
            for column, values in columns.items()
        ]
        if rows:
            tracking.record_table("results" if part == "methods" else part, pd.DataFrame(rows))
    tracking.record_artifact("results", "results", *(folder / f for f in ("results.json", "rows.parquet", "table.md")))
