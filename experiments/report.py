"""Turns the runs of a study into its tables and figure: no number is typed by hand.

python experiments/report.py prefix
python experiments/report.py prefix --runs outputs/studies/prefix --into experiments/prefix
python experiments/report.py prefix --runs outputs/more --add  # runs of other methods, beside those that are recorded
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from figures import SHOWN, draw_front
from matplotlib.figure import Figure
from record import fill, write_study
from studies import LINE_ART, STUDIES, Study

from pmg.evaluation.comparison import Comparison
from pmg.evaluation.metric_interface import MetricInfo, read_infos
from pmg.evaluation.model_card import OPERATIONS, read_facts, read_steps
from pmg.evaluation.result_tables import ResultTables
from pmg.evaluation.results import ResultBuilder, write_results, write_rows
from pmg.evaluation.statistics import paired_difference
from pmg.evaluation.table_rendering import Table, to_markdown
from pmg.reporting.figures import draw_arms, draw_effect, save
from pmg.runs.provenance import git_state

HERE = Path(__file__).resolve().parent
IN_README = "components"  # its first table, shortened, is in the project's README
LEGEND = (
    "Mean [95 % bootstrap interval over users]; ↑ higher and ↓ lower is better; bold: the best method, bounds aside."
)


def read_runs(folder: Path, study: Study) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Rows of all finished runs, each with its ``variant``, and their results, in the order of what varies."""
    found = []
    for path in folder.glob("*/results.json"):
        result = json.loads(path.read_text().replace(f"{HERE.parent}/", ""))  # of a study's parts: absolute folders
        values = {name: _value(result["config"], key) for name, key in (study.factors or {}).items()}
        label = ", ".join(f"{name} = {_shown(value)}" for name, value in values.items())
        rows = pd.read_parquet(path.parent / "rows.parquet").assign(variant=label)
        if study.by == "drawing":
            line_art = rows["look"].str.partition(":")[0].isin(LINE_ART)
            rows["drawing"] = line_art.map({True: "line art", False: "colour"})
        found.append(([*values.values(), result["config"]["seed"]], rows, {**result, "variant": label}))
    if not found:
        raise SystemExit(f"{folder} holds no finished run; run the study first: make {folder.name}")
    found.sort(key=lambda run: run[0])
    _, frames, results = zip(*found, strict=True)
    _require_seeds(folder, results)
    rows = pd.concat(frames, ignore_index=True)
    once = ["variant", "method", "control", "example", "seed"]  # several runs of a study may have `none`
    return rows.drop_duplicates(once, ignore_index=True), list(results)


def read_recorded(
    folder: Path, rows: pd.DataFrame, results: Sequence[Mapping[str, Any]]
) -> tuple[pd.DataFrame, list[Any]]:
    """Returns the rows that a study has recorded with those of further runs, and the descriptions of all these runs.

    A picture that is recorded keeps its numbers. Further runs need the same users, targets and noise: SystemExit
    names variants and seeds that aren't recorded.
    """
    recorded = pd.read_parquet(folder / "rows.parquet")
    if "variant" not in recorded:
        recorded = recorded.assign(variant="")
    draws = ["variant", "seed", "example", "user", "look"]
    new = rows[draws].drop_duplicates().merge(recorded[draws].drop_duplicates(), how="left", indicator=True)
    if len(other := new[new["_merge"] != "both"]):
        first = ", ".join(f"{name} {other.iloc[0][name]}" for name in draws if other.iloc[0][name] != "")
        raise SystemExit(f"{folder} has recorded other pictures than these runs have: not {first}")
    once = ["variant", "method", "control", "example", "seed"]
    both = pd.concat([recorded, rows[recorded.columns]], ignore_index=True).drop_duplicates(once, ignore_index=True)
    return both, [*json.loads((folder / "results.json").read_text())["runs"], *results]


def _require_seeds(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Raises SystemExit where variants have different seeds: their means would be of other runs than their pairs."""
    seeds: dict[str, set[int]] = {}
    for result in results:
        seeds.setdefault(result["variant"], set()).add(result["config"]["seed"])
    every = set.union(*seeds.values())
    missing = [
        f"seed {', '.join(map(str, sorted(every - found)))} of {variant}"
        for variant, found in seeds.items()
        if found != every
    ]
    if missing:
        raise SystemExit(f"{folder} has no finished run of {'; '.join(missing)}; run the study again to go on with it")


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def _shown(value: Any) -> str:
    """Returns a value of the config for tables: a class by its name alone."""
    text = str(value)
    return text.rpartition(".")[2] if text.startswith("pmg.") else text


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


def generator_costs(results: Sequence[Mapping[str, Any]], outputs: Path) -> dict[str, dict[str, float | None]]:
    """Returns the seconds and evaluations of an image, and the operations of its generator's training, by variant.

    Args:
        results: of the runs.
        outputs: folder of what commands write, which may hold the generators.
    """
    found: dict[str, dict[str, float | None]] = {}
    for variant in dict.fromkeys(result["variant"] for result in results):
        own = [result for result in results if result["variant"] == variant]
        costs = [result["cost"]["generate"] for result in own]
        images = sum(cost["images"] for cost in costs)
        found[variant] = {
            "seconds": sum(cost["seconds"]["generate"] for cost in costs) / images,
            "evaluations": sum(cost["denoiser_evaluations"] for cost in costs) / images,
            "operations": read_operations(model_folder(own[0]["config"]["generator"], outputs)),
        }
    return found


def read_operations(folder: Path) -> float | None:
    """Returns the floating point operations of a model's training by its card; None if it doesn't have them.

    Earlier runs, whose steps the card has, count as if they had the same batches.
    """
    facts = read_facts(folder)
    return read_steps(folder) * float(facts[OPERATIONS]) * 1e9 if OPERATIONS in facts else None


def model_folder(generator: Mapping[str, Any], outputs: Path) -> Path:
    """Returns the folder of the model that runs once a step, with its card."""
    folder: str = generator["denoiser"]["folder"] if "denoiser" in generator else generator["folder"]
    return HERE.parent / folder.replace("<assets_dir>", "assets").replace("<output_dir>", str(outputs.resolve()))


def report(name: str, runs: Path, folder: Path, add: bool = False) -> None:
    """Writes rows, results, table and figure into `folder`, and the table into the README there.

    With `add` the runs stand beside what is recorded there, see `read_recorded`.
    """
    study = STUDIES[name]
    rows, results = read_runs(runs, study)
    builder = build_builder(results)
    if add:
        rows, results = read_recorded(folder, rows, results)
    if study.factors:
        parts = split_users(rows, study)
        groups = {title: summarize(part, study, builder) for title, part in parts.items()}
        speed = speeds(results) if study.trains else {}
        costs = generator_costs(results, runs.parents[1]) if study.generators else {}
        table = _variant_tables(groups, builder) + _speed_table(speed) + _cost_table(costs)
        write_rows(folder, rows)
        write_study(folder, name, {"users": groups, "speed": speed, "generators": costs, **_origin(results)}, table)
        arms = {label: found["arms"] for label, found in next(iter(groups.values()))["variants"].items()}
        save(draw_front(arms) if study.front else draw_variants(arms, study), folder / "figure.png")
    else:
        whole = builder.build(rows.drop(columns="variant")) | _origin(results)
        write_results(folder, whole, rows.drop(columns="variant"))
        tables = ResultTables.of(whole)
        table = to_markdown(built := tables.build(whole), tables.footnote)
        if name == IN_README and folder == HERE / name:  # a record, no trial
            fill(HERE.parent / "README.md", name, to_markdown([shorten(built[0])], LEGEND))
        save(draw_arms(whole["arms"], SHOWN, builder.comparison.proposed), folder / "figure.png")
        if (folder / "README.md").exists():
            fill(folder / "README.md", name, table)
    print(folder / "table.md", folder / "figure.png", sep="\n")


def draw_variants(arms: Mapping[str, Mapping], study: Study) -> Figure:
    """Draws metrics over the variants, or the methods of a single one; values of one factor are labels alone."""
    if len(arms) == 1:
        return draw_arms(next(iter(arms.values())), SHOWN)
    name = next(iter(study.factors or {})) if len(study.factors or {}) == 1 else ""
    return draw_effect({label.removeprefix(f"{name} = "): values for label, values in arms.items()}, SHOWN, name)


def shorten(table: Table) -> Table:
    """Returns a table with the metrics of the figure alone."""
    shown = {metric.title for metric in SHOWN}
    kept = [place for place, name in enumerate(table.header) if not place or name.rstrip(" ↑↓") in shown]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return Table(table.title, tuple(table.header[place] for place in kept), rows, table.names)


def build_builder(results: Sequence[Mapping[str, Any]]) -> ResultBuilder:
    """Returns the builder with the metrics, the comparison and the groups of the runs."""
    metrics, comparison, groups = (results[0][key] for key in ("metrics", "comparison", "groups"))
    return ResultBuilder(read_infos(metrics), Comparison.from_dict(comparison), list(groups))


def split_users(rows: pd.DataFrame, study: Study) -> dict[str, pd.DataFrame]:
    """Rows by the title of their users: all, then those of each value of the study's column `by`."""
    apart = rows.groupby(study.by, sort=False) if study.by else ()
    return {"All users": rows} | {f"Users with {study.by} = {value}": part for value, part in apart}


def summarize(rows: pd.DataFrame, study: Study, builder: ResultBuilder) -> dict[str, Any]:
    """Returns means of every variant's methods, own and mismatched users', and paired differences between variants."""
    rows = rows[rows["method"].isin(study.methods)]
    parts = {label: part.drop(columns="variant") for label, part in rows.groupby("variant", sort=False)}
    variants = {label: builder.build(part) for label, part in parts.items()}
    base = study.base if study.base in parts else next(iter(parts))

    def own(label: str, method: str) -> pd.DataFrame:
        """Returns the rows of a variant's method with users' own preferences."""
        part = parts[label]
        return part[(part["method"] == method) & (part["control"] == "own")]

    pairs = {
        f"{method}: {label} \N{MINUS SIGN} {base}": differences(own(label, method), own(base, method), builder.metrics)
        for method in rows["method"].unique()
        for label in parts
        if label != base
    }
    for one, other in study.across:
        if one[0] in parts and other[0] in parts:
            name = " \N{MINUS SIGN} ".join(": ".join(each) for each in (one, other))
            pairs[name] = differences(own(*one), own(*other), builder.metrics)
    shown = ("arms", "paired", "control")
    found = {label: {key: result[key] for key in shown} for label, result in variants.items()}
    if study.mismatched:
        for label, part in parts.items():
            found[label]["own_minus_mismatched"] = own_minus_mismatched(part, builder.metrics)
    return {"variants": found, "paired": {name: pair for name, pair in pairs.items() if pair}}


def differences(one: pd.DataFrame, other: pd.DataFrame, metrics: Sequence[MetricInfo]) -> dict[str, dict[str, float]]:
    """Returns paired differences of two variants' rows, same example and seed, by metric, selecting scores aside."""
    both = one.merge(other, on=["example", "seed"], suffixes=("", "_base"))
    found = {}
    for metric in metrics:
        if metric.name in one and not metric.selects:
            pairs = both[["user", metric.name, f"{metric.name}_base"]].dropna()
            if pairs.empty:  # of a group without a value, e.g. of the history where users only chat
                continue
            found[metric.name] = asdict(
                paired_difference(
                    *(pairs[column].to_numpy() for column in (metric.name, f"{metric.name}_base", "user"))
                )
            )
    return found


def own_minus_mismatched(rows: pd.DataFrame, metrics: Sequence[MetricInfo]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns paired differences of images under a user's own and another's preference, by method and metric."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for method, part in rows[rows["control"] == "mismatched"].groupby("method", sort=False):
        own = rows[(rows["method"] == method) & (rows["control"] == "own")]
        found[str(method)] = differences(own, part, metrics)
    return found


def _origin(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where the numbers come from: revisions, cost and config of every run."""
    return {
        "revision": (git_state() or {}).get("revision"),
        "runs": [{key: result[key] for key in ("variant", "revision", "cost", "config")} for result in results],
    }


def _variant_tables(groups: Mapping[str, Mapping[str, Any]], builder: ResultBuilder) -> str:
    shown = ResultTables(builder.metrics, builder.comparison)
    proposed, baseline = builder.comparison.proposed, builder.comparison.baseline
    tables = []
    for title, group in groups.items():
        arms = {
            f"{label}: {method}": values
            for label, result in group["variants"].items()
            for method, values in result["arms"].items()
        }
        within = {
            f"{label}: {pair}": metrics
            for label, result in group["variants"].items()
            for pair, metrics in result["paired"].items()
            if pair.startswith(f"{proposed}-") and pair != f"{proposed}-{baseline}"
        }
        own = {
            f"{label}: {method}": metrics
            for label, result in group["variants"].items()
            for method, metrics in result.get("own_minus_mismatched", {}).items()
        }
        tables += [
            shown.arms(title, arms),
            shown.paired(f"{title}: own minus another user's preference", own),
            shown.paired(f"{title}: differences between variants", group["paired"]),
            shown.paired(f"{title}: differences between methods", within),
        ]
    return to_markdown([table for table in tables if table.rows], shown.footnote)


def _speed_table(found: Mapping[str, Sequence[float]]) -> str:
    if not found:
        return ""
    lines = [f"| {label} | {sum(each) / len(each):.1f} | {len(each)} |" for label, each in found.items()]
    return "\n".join(["", "| variant | training examples a second | runs |", "| --- | ---: | ---: |", *lines, ""])


def _cost_table(found: Mapping[str, Mapping[str, float | None]]) -> str:
    if not found:
        return ""
    lines = [
        f"| {label} | {cost['seconds']:.3f} | {cost['evaluations']:.0f} | {_peta(cost['operations'])} |"
        for label, cost in found.items()
    ]
    head = "| variant | seconds an image | evaluations an image | operations of the generator's training (PFLOP) |"
    return "\n".join(["", head, "| --- | ---: | ---: | ---: |", *lines, ""])


def _peta(operations: float | None) -> str:
    return "not recorded" if operations is None else f"{operations / 1e15:.2f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--runs", type=Path, help="folder of the study's runs")
    parser.add_argument("--into", type=Path, help="folder of tables and figure")
    parser.add_argument("--add", action="store_true", help="keep what is recorded there; the runs have other methods")
    options = parser.parse_args()
    source = options.runs or HERE.parent / "outputs" / "studies" / options.study
    report(options.study, source, options.into or HERE / options.study, options.add)
