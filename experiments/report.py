"""Turns the runs of a study into its tables and figure: no number is typed by hand.

python experiments/report.py tokens
python experiments/report.py tokens --runs outputs/studies/tokens --into experiments/tokens
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from record import fill

from pmg.evaluation.report import build_results, write_results
from pmg.evaluation.tables import arms_table, build_tables, to_markdown
from pmg.provenance import git_state

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
SHOWN = ("style_accuracy", "concept_accuracy", "lpips_truth")
TITLES = {
    "style_accuracy": "style accuracy (higher is better)",
    "concept_accuracy": "concept accuracy (higher is better)",
    "lpips_truth": "LPIPS to truth (lower is better)",
}


@dataclass(frozen=True)
class Study:
    """How a study is reported.

    Attributes:
        factors: what it varies: dotted key of the config by the name that it has in tables; none: seeds alone.
        methods: rows of the table for each variant; none: all.
        front: whether the figure draws accuracy against preference instead of metrics against the factor.
    """

    factors: Mapping[str, str] | None = None
    methods: tuple[str, ...] = ()
    front: bool = False


STUDIES = {
    "components": Study(),
    "baselines": Study(),
    "tokens": Study(
        {"n": "encoder.preference_encoder.soft_tokens", "m": "encoder.preference_encoder.prefix_length"},
        ("soft", "pmg"),
    ),
    "placement": Study({"placement": "encoder.preference_encoder.placement"}, ("soft", "pmg")),
    "balance": Study({"alpha": "balance.alpha"}, ("keywords", "pmg"), front=True),
    "history": Study({"items": "history_items.test"}, ("none", "keywords", "soft", "pmg")),
    "unseen": Study({"unseen": "unseen"}, ("keywords", "soft", "pmg")),
}


def read_runs(folder: Path, study: Study) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Rows of all finished runs, each with its ``variant``, and their results."""
    frames, results = [], []
    for path in sorted(folder.glob("*/results.json")):
        result = json.loads(path.read_text())
        label = ", ".join(f"{name} = {_value(result['config'], key)}" for name, key in (study.factors or {}).items())
        frames.append(pd.read_parquet(path.parent / "rows.parquet").assign(variant=label))
        results.append({**result, "variant": label})
    if not frames:
        raise SystemExit(f"{folder} holds no finished run; run the study first: make {folder.name}")
    return pd.concat(frames, ignore_index=True), results


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return ", ".join(map(str, config)) or "nothing" if isinstance(config, list) else config


def speeds(results: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Training examples (questions) a second of each variant, one number a run that trained."""
    found: dict[str, list[float]] = {}
    for result in results:
        config, train = result["config"], result["cost"].get("train")
        if train and train["seconds"].get("train"):
            asked = config["trainer"]["max_steps"] * config["objective"]["users_per_step"]
            asked *= config["objective"]["batches"]["draws"]
            found.setdefault(result["variant"], []).append(asked / train["seconds"]["train"])
    return found


def report(name: str, runs: Path, folder: Path) -> None:
    """Writes rows, results, table and figure into `folder`, and the table into the README there."""
    study = STUDIES[name]
    rows, results = read_runs(runs, study)
    variants = {
        label: build_results(part.drop(columns="variant"), None, {}, {})
        for label, part in rows.groupby("variant", sort=False)
    }
    if study.factors:
        table = _variant_table(study, variants) + _speed_table(speeds(results))
        summary = {label: {"arms": r["arms"], "control": r["control"]} for label, r in variants.items()}
        _write(folder, rows, {"variants": summary, "speed": speeds(results), **_origin(results)}, table)
    else:
        (whole,) = variants.values()
        whole |= _origin(results)
        write_results(folder, whole, rows.drop(columns="variant"))
        table = to_markdown(build_tables(whole))
    draw(study, variants, folder / "figure.png")
    if (folder / "README.md").exists():
        fill(folder / "README.md", name, table)
    print(folder / "table.md", folder / "figure.png", sep="\n")


def _origin(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where the numbers come from: revisions, cost and config of every run."""
    return {
        "revision": (git_state() or {}).get("revision"),
        "runs": [{key: result[key] for key in ("variant", "revision", "cost", "config")} for result in results],
    }


def _variant_table(study: Study, variants: Mapping[str, Mapping]) -> str:
    arms = {
        f"{label}: {method}": values
        for label, result in variants.items()
        for method, values in result["arms"].items()
        if method in study.methods
    }
    return to_markdown([arms_table("All users", arms)])


def _speed_table(found: Mapping[str, Sequence[float]]) -> str:
    if not found:
        return ""
    lines = [f"| {label} | {sum(each) / len(each):.1f} | {len(each)} |" for label, each in found.items()]
    return "\n".join(["", "| variant | training examples a second | runs |", "| --- | ---: | ---: |", *lines, ""])


def _write(folder: Path, rows: pd.DataFrame, results: Mapping[str, Any], table: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / "rows.parquet", index=False)
    (folder / "table.md").write_text(table)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")


def draw(study: Study, variants: Mapping[str, Mapping], path: Path) -> None:
    """A picture of the means with their 95 % intervals."""
    if not study.factors:
        ((_, result),) = variants.items()
        _draw_arms(result["arms"], path)
    elif study.front:
        _draw_front(study, variants, path)
    else:
        _draw_variants(study, variants, path)


def _draw_arms(arms: Mapping[str, Mapping], path: Path) -> None:
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(4 * len(SHOWN), 0.4 * len(arms) + 1.2), sharey=True)
    for axis, metric in zip(axes, SHOWN, strict=True):
        names = [name for name in arms if metric in arms[name]][::-1]
        for place, name in enumerate(names):
            _point(axis, arms[name][metric], place, "C1" if name == "pmg" else "C0")
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel(TITLES[metric])
        axis.grid(axis="x", alpha=0.3)
    _save(figure, path)


def _point(axis: Any, value: Mapping[str, float], place: float, colour: str) -> None:
    axis.plot([value["low"], value["high"]], [place, place], color=colour, linewidth=2)
    axis.plot(value["mean"], place, "o", color=colour)


def _draw_variants(study: Study, variants: Mapping[str, Mapping], path: Path) -> None:
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(4.5 * len(SHOWN), 3.6))
    labels = [label.replace("unseen = ", "unseen:\n").replace(", m", "\nm") for label in variants]
    for axis, metric in zip(axes, SHOWN, strict=True):
        for method in study.methods:
            values = [result["arms"][method][metric] for result in variants.values()]
            axis.plot([value["mean"] for value in values], "o-", label=method)
            axis.fill_between(range(len(values)), *([v[end] for v in values] for end in ("low", "high")), alpha=0.15)
        axis.set_xticks(range(len(labels)), labels, fontsize=8)
        axis.set_title(TITLES[metric], fontsize=10)
        axis.grid(alpha=0.3)
    axes[0].legend()
    _save(figure, path)


def _draw_front(study: Study, variants: Mapping[str, Mapping], path: Path) -> None:
    pairs = {
        "the scores that select": ("selection_accuracy", "selection_preference"),
        "the judge, who does not": ("concept_accuracy", "style_accuracy"),
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 4))
    for axis, (title, (across, up)) in zip(axes, pairs.items(), strict=True):
        for method in study.methods:
            arms = [result["arms"][method] for result in variants.values()]
            axis.plot([a[across]["mean"] for a in arms], [a[up]["mean"] for a in arms], "o-", label=method)
        for label, result in variants.items():
            point = result["arms"]["pmg"]
            axis.annotate(label.removeprefix("alpha = "), (point[across]["mean"], point[up]["mean"]), fontsize=8)
        axis.set(title=title, xlabel=f"accuracy ({across})", ylabel=f"preference ({up})")
        axis.grid(alpha=0.3)
    axes[0].legend()
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--runs", type=Path, help="folder of the study's runs")
    parser.add_argument("--into", type=Path, help="folder of tables and figure")
    options = parser.parse_args()
    source = options.runs or HERE.parent / "outputs" / "studies" / options.study
    report(options.study, source, options.into or HERE / options.study)
