"""Finished runs of a study: their rows and results, by what varies between them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pandas as pd

from pmg.domain import PmgError
from pmg.reporting.studies import StudyTable
from pmg.reporting.study_pages import CONTENTS
from pmg.runs.content import CONTENT, select_content
from pmg.runs.run_folder import METRICS_FILE


def read_runs(folder: Path, spec: StudyTable) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Returns rows of all finished runs, each with its ``variant``, and their results, in the order of what varies.

    PmgError if there is no run, or variants have different seeds.
    """
    found = []
    for path in folder.glob("*/results.json"):
        result = json.loads(path.read_text().replace(f"{Path.cwd()}/", ""))  # of a study's parts: absolute folders
        values = {name: reduce(getitem, key.split("."), result["config"]) for name, key in spec.factors.items()}
        label = ", ".join(f"{name} = {_shown(value)}" for name, value in values.items())
        rows = pd.read_parquet(path.parent / "rows.parquet").assign(variant=label)
        result |= {"variant": label, CONTENTS: read_contents(path.parent)}
        found.append(([*values.values(), result["config"]["seed"]], rows, result))
    if not found:
        raise PmgError(f"{folder} holds no finished run. Run the study first: make NAME.")
    found.sort(key=lambda run: run[0])
    _, frames, results = zip(*found, strict=True)
    _require_seeds(folder, results)
    rows = pd.concat(frames, ignore_index=True)
    once = ["variant", "method", "control", "example", "seed"]  # several runs of a study may have `none`
    return rows.drop_duplicates(once, ignore_index=True), list(results)


def read_contents(folder: Path) -> dict[str, str]:
    """Returns the digests of the weights and data that a run and its parts read, by their places in its configs."""
    found: dict[str, str] = {}
    for path in (*folder.glob(METRICS_FILE), *folder.glob(f"*/{METRICS_FILE}")):
        identity = json.loads(path.read_text()).get("identity") or {}
        for key, digest in select_content(identity).items():
            place = identity.get(key.removesuffix(f".{CONTENT}"))
            found[str(place or key)] = str(digest)
    return found


def _require_seeds(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Raises PmgError where variants have different seeds: their means would be of other runs than their pairs."""
    seeds: dict[str, set[int]] = {}
    for result in results:
        seeds.setdefault(result["variant"], set()).add(result["config"]["seed"])
    missing = {variant: sorted(set.union(*seeds.values()) - found) for variant, found in seeds.items()}
    if lacking := [f"seed {', '.join(map(str, found))} of {variant}" for variant, found in missing.items() if found]:
        raise PmgError(f"{folder} has no finished run of {'; '.join(lacking)}. Run the study again to resume it.")


def _shown(value: Any) -> str:
    """Returns a value of the config for tables: a class by its name alone."""
    text = str(value)
    return text.rpartition(".")[2] if text.startswith("pmg.") else text
