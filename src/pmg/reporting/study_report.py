"""Tables and figures of a study, made of its runs as its ``study.yaml`` says: ``pmg-report --study NAME``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pmg.evaluation.comparison import Comparison
from pmg.evaluation.image_evaluation import SELECTION_SCORES
from pmg.evaluation.metric_interface import MetricInfo, read_infos
from pmg.evaluation.model_card import OPERATIONS, read_facts, read_steps
from pmg.evaluation.result_tables import ResultTables
from pmg.evaluation.results import ResultBuilder, write_results, write_rows
from pmg.evaluation.statistics import paired_difference
from pmg.evaluation.table_rendering import MINUS, Table, to_markdown
from pmg.installation import find_assets
from pmg.reporting.figures import draw_effect, draw_methods, draw_plane, find_plane, panels, save
from pmg.reporting.studies import FOLDER, StudyTable, UserGroups, read_study, table_folder
from pmg.reporting.study_pages import ASSETS, CONTENTS, README, copy_results, fill, to_markdown_table, write_study
from pmg.reporting.study_runs import read_runs
from pmg.runs.provenance import git_state

LEGEND = (
    "Mean [95 % bootstrap interval over users]; ↑ higher and ↓ lower is better; bold: the best method, bounds aside."
)


def report_study(name: str, outputs: Path, into: Path = Path(FOLDER)) -> list[Path]:
    """Writes the tables and figures of a study's runs in `outputs`; returns the files of the tables.

    `into` is the folder of the studies, or another one for a trial. PmgError if a run is missing.
    """
    study, written = read_study(name), []
    if study.results:
        copy_results(outputs / study.results, into / name, name)
        written.append(into / name / "table.md")
    for label, spec in study.tables.items():
        folder = table_folder(name, label, into)
        write_table(label, spec, outputs / "studies" / label, folder)
        if spec.readme and into == Path(FOLDER):
            results = json.loads((folder / "results.json").read_text())
            table = ResultTables.of(results).build(results)[0]
            titles = [info.title for info in read_infos(results["metrics"]) if info.name in spec.readme]
            fill(Path(README), label, to_markdown([shorten(table, titles)], LEGEND))
        written.append(folder / "table.md")
    return written


def write_table(label: str, spec: StudyTable, runs: Path, folder: Path) -> None:
    """Writes rows, results, table and figure of runs into `folder`, and the table into the README there, if any."""
    rows, results = read_runs(runs, spec)
    builder, origin = build_builder(results), describe_origin(results)
    shown = [metric for metric in builder.metrics if not metric.selects]
    if not spec.factors:
        rows = rows.drop(columns="variant")
        whole = builder.build(rows) | origin
        write_results(folder, whole, rows)
        save(draw_methods(whole["methods"], shown, builder.comparison.proposed), folder / "figure.png")
        if (folder / README).exists():
            fill(folder / README, label, (folder / "table.md").read_text())
        return
    groups = {title: summarize(part, spec, builder) for title, part in split_users(rows, spec.by).items()}
    speed = measure_speeds(results) if spec.trains else {}
    costs = generator_costs(results, runs.parents[1]) if spec.generators else {}
    write_rows(folder, rows)
    table = render_groups(groups, builder) + render_costs(speed, costs)
    write_study(folder, label, {"users": groups, "speed": speed, "generators": costs, **origin}, table)
    methods = {name: found["methods"] for name, found in next(iter(groups.values()))["variants"].items()}
    proposed = builder.comparison.proposed
    save(
        draw_front(methods, shown, proposed) if spec.front else draw_variants(methods, shown, spec),
        folder / "figure.png",
    )


def build_builder(results: Sequence[Mapping[str, Any]]) -> ResultBuilder:
    """Returns the builder with the metrics, the comparison and the groups of the runs."""
    metrics, comparison, groups = (results[0][key] for key in ("metrics", "comparison", "groups"))
    return ResultBuilder(read_infos(metrics), Comparison.from_dict(comparison), list(groups))


def describe_origin(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns where numbers come from: revision, cost and config of every run, and digests of what it read."""
    names = ("variant", "revision", "cost", "config", CONTENTS)
    runs = [{key: result[key] for key in names} for result in results]
    return {"revision": (git_state() or {}).get("revision"), "runs": runs}


def split_users(rows: pd.DataFrame, by: UserGroups | None) -> dict[str, pd.DataFrame]:
    """Returns rows by the title of their users: all, then those of each group."""
    if by is None:
        return {"All users": rows}
    if by.patterns:
        column = rows[by.column].astype(str)
        parts = {title: rows[column.str.contains(pattern, regex=True)] for title, pattern in by.patterns.items()}
    else:
        parts = {f"{by.column} = {value}": part for value, part in rows.groupby(by.column, sort=False)}
    return {"All users": rows} | {f"Users with {title}": part for title, part in parts.items() if len(part)}


def summarize(rows: pd.DataFrame, spec: StudyTable, builder: ResultBuilder) -> dict[str, Any]:
    """Returns means of every variant's methods, own and mismatched users', and paired differences between variants."""
    rows = rows[rows["method"].isin(spec.methods)]
    parts = {label: part.drop(columns="variant") for label, part in rows.groupby("variant", sort=False)}
    base = spec.base if spec.base in parts else next(iter(parts))
    wanted = [
        (f"{method}: {label} {MINUS} {base}", (label, method), (base, method))
        for method in rows["method"].unique()
        for label in parts
        if label != base
    ]
    for pair in spec.pairs:
        one, other = pair.variants
        for first, second in pair.methods:
            wanted.append((f"{one}: {first} {MINUS} {other}: {second}", (one, first), (other, second)))

    def own(label: str, method: str) -> pd.DataFrame:
        """Returns the rows of a variant's method with users' own preferences."""
        part = parts[label]
        return part[(part["method"] == method) & (part["control"] == "own")]

    pairs = {
        name: differences(own(*one), own(*other), builder.metrics)
        for name, one, other in wanted
        if {one[0], other[0]} <= parts.keys()
    }
    found: dict[str, dict[str, Any]] = {}
    for label, part in parts.items():
        result = builder.build(part)
        found[label] = {key: result[key] for key in ("methods", "paired", "control")}
        if spec.mismatched:
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
            columns = (pairs[column].to_numpy() for column in (metric.name, f"{metric.name}_base", "user"))
            found[metric.name] = asdict(paired_difference(*columns))
    return found


def own_minus_mismatched(rows: pd.DataFrame, metrics: Sequence[MetricInfo]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns paired differences of images under a user's own and another's preference, by method and metric."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for method, part in rows[rows["control"] == "mismatched"].groupby("method", sort=False):
        own = rows[(rows["method"] == method) & (rows["control"] == "own")]
        found[str(method)] = differences(own, part, metrics)
    return found


def measure_speeds(results: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Returns training examples a second of each variant, one number a run that trained."""
    found: dict[str, list[float]] = {}
    for result in results:
        config, train = result["config"], result["cost"].get("train")
        if train and train["seconds"].get("train"):
            examples = config["trainer"]["max_steps"] * config["objective"]["users_per_step"]
            examples *= config["objective"]["batches"]["draws"]
            found.setdefault(result["variant"], []).append(examples / train["seconds"]["train"])
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
    return Path(folder.replace(ASSETS, find_assets()).replace("<output_dir>", str(outputs.resolve())))


def render_groups(groups: Mapping[str, Mapping[str, Any]], builder: ResultBuilder) -> str:
    """Returns the tables of each group of users: means, and paired differences of variants and of methods."""
    shown = ResultTables(builder.metrics, builder.comparison)
    proposed, baseline = builder.comparison.proposed, builder.comparison.baseline
    tables = []
    for title, group in groups.items():

        def collect(key: str, group: Mapping[str, Any] = group) -> dict[str, Any]:
            """Returns a part of each variant's results, by variant and name."""
            return {
                f"{label}: {name}": value
                for label, result in group["variants"].items()
                for name, value in result.get(key, {}).items()
                if key != "paired" or (name.startswith(f"{proposed}-") and name != f"{proposed}-{baseline}")
            }

        tables += [
            shown.methods(title, collect("methods")),
            shown.paired(f"{title}: own minus another user's preference", collect("own_minus_mismatched")),
            shown.paired(f"{title}: differences between variants", group["paired"]),
            shown.paired(f"{title}: differences between methods", collect("paired")),
        ]
    return to_markdown([table for table in tables if table.rows], shown.footnote)


def render_costs(speed: Mapping[str, Sequence[float]], costs: Mapping[str, Mapping[str, float | None]]) -> str:
    """Returns the tables of what `measure_speeds` and `generator_costs` return; of nothing, none."""
    text = ""
    if speed:
        rows = [[label, f"{sum(each) / len(each):.1f}", str(len(each))] for label, each in speed.items()]
        text += "\n" + to_markdown_table(["variant", "training examples a second", "runs"], rows)
    if costs:
        head = ["seconds an image", "evaluations an image", "operations of the generator's training (PFLOP)"]
        rows = [
            [label, f"{cost['seconds']:.3f}", f"{cost['evaluations']:.0f}", _peta(cost["operations"])]
            for label, cost in costs.items()
        ]
        text += "\n" + to_markdown_table(["variant", *head], rows)
    return text


def _peta(operations: float | None) -> str:
    return "not recorded" if operations is None else f"{operations / 1e15:.2f}"


def shorten(table: Table, titles: Sequence[str]) -> Table:
    """Returns a table with the metrics of some titles alone."""
    kept = [place for place, name in enumerate(table.header) if not place or name.rstrip(" ↑↓") in titles]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return Table(table.title, tuple(table.header[place] for place in kept), rows, table.names)


def draw_variants(methods: Mapping[str, Mapping], shown: Sequence[MetricInfo], spec: StudyTable) -> Figure:
    """Draws metrics over the variants, or the methods of a single one; values of one factor are labels alone."""
    if len(methods) == 1:
        return draw_methods(next(iter(methods.values())), shown)
    name = next(iter(spec.factors)) if len(spec.factors) == 1 else ""
    return draw_effect({label.removeprefix(f"{name} = "): values for label, values in methods.items()}, shown, name)


def draw_front(methods: Mapping[str, Mapping], shown: Sequence[MetricInfo], proposed: str) -> Figure:
    """Draws accuracy against preference of every variant, by the scores that select and by metrics that don't.

    Points are labelled by the value of the last factor; values of the others follow the methods' names.
    """
    arranged: dict[str, dict[str, Mapping]] = {}
    for label, found in methods.items():
        *others, last = (part.split(" = ")[-1] for part in label.split(", "))
        arranged.setdefault(last, {}).update({", ".join([name, *others]): each for name, each in found.items()})
    name = next(one for found in arranged.values() for one in found if one.startswith(proposed))
    by_aspect = {metric.aspect: metric for metric in SELECTION_SCORES}
    planes = {"the scores that select": (by_aspect["accuracy"], by_aspect["preference"])}
    if plane := find_plane(shown, methods.values()):
        planes["classifiers that select nothing"] = plane
    figure, axes = panels(len(planes), 4.5, 4.0)
    for axis, (title, each) in zip(axes, planes.items(), strict=True):
        draw_plane(axis, arranged, each, name)
        axis.set_title(title)
    axes[0].legend(fontsize=7)
    return figure
