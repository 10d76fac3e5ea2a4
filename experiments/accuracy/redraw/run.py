"""Records what keeping the accuracy costs: best of N noises against noises drawn until one is enough.

python -m experiments.accuracy.redraw.run draw --split validation --into outputs/redraw
python -m experiments.accuracy.redraw.run draw --split test --into outputs/redraw
python -m experiments.accuracy.redraw.run report --runs outputs/redraw

`draw` draws the same noises of each target by three methods and keeps every candidate's scores and what the judge
finds; `report` chooses the threshold on validation users, and reports both rules on test users in this folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.progress import track

import pmg
from pmg.api.call_arguments import with_pictures
from pmg.api.user_preference import build_request
from pmg.cache import atomic_write_bytes
from pmg.data.dataset import Dataset
from pmg.domain import Example
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.metric_builders import build_metrics
from pmg.evaluation.metric_interface import ImageMetric
from pmg.evaluation.references import ReferenceReader
from pmg.evaluation.statistics import interval, paired_difference
from pmg.generation.requests import Request
from pmg.preferences.keywords import NO_WORDS
from pmg.reporting.study_pages import CONTENTS, digest_assets, format_interval, to_markdown_table, write_study
from pmg.runs.provenance import git_state
from pmg.seeding import stable_number

STUDY = "redraw"
READ = ("drawings", "pipeline", "look_generator", "look_scorer", "look_judge", "lpips")
USERS = {"validation": 100, "test": 240}
NOISES = 8
AT_ONCE = 10  # requests
COUNTS = (1, 2, 4, 8)
THRESHOLDS = tuple(round(0.02 * number, 2) for number in range(0, 50))
METHODS = ("none", "soft", "pmg_read")
METRICS = {"concept_accuracy": "concept", "style_accuracy": "style", "lpips_truth": "LPIPS to truth"}
AIM = "concept_accuracy"


def draw(split: str, into: Path) -> None:
    """Writes a table of every candidate of the users of a split, part by part; a rerun draws what is missing."""
    data = pmg.instantiate(pmg.compose("generate", ["data=looks"]).data)
    pipe = pmg.PersonalizedPipeline.from_pretrained(f"{pmg.find_assets()}/pipeline")
    pipe.set_progress_bar_config(disable=True)
    evaluation = pmg.compose("evaluate", ["metrics=looks"])
    metrics = build_metrics(evaluation.metrics, data=data)
    reader = ReferenceReader(data.images, metrics.inputs, Comparison())
    examples = data.examples(split, USERS[split], 1)
    parts = [examples[start : start + AT_ONCE] for start in range(0, len(examples), AT_ONCE)]
    (into / split).mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(track(parts, "drawing")):
        path = into / split / f"{number:03d}.parquet"
        if not path.exists():
            atomic_write_bytes(path, draw_part(pipe, data, metrics.per_image, reader, part).to_parquet(index=False))


def draw_part(
    pipe: pmg.PersonalizedPipeline, data: Dataset, metrics: Sequence[ImageMetric], reader: ReferenceReader,
    examples: Sequence[Example],
) -> pd.DataFrame:  # fmt: skip
    """Returns one row for each method, example and noise: scores of the pipeline, and metrics."""
    references, frames = reader.read(examples, {}), []
    pipeline = pipe.pipeline.with_pairs([(1.0, 1.0)] * NOISES)
    for method, requests in make_requests(pipe, data, examples).items():
        with torch.no_grad():
            images = pipeline.generator.decode(pipeline.denoise(requests))
            rated = pipeline.rate(requests, images)
        for draw in range(NOISES):
            drawn = images[draw::NOISES]
            values = {name: column.numpy() for metric in metrics for name, column in metric(drawn, references).items()}
            scores = [candidates[draw] for candidates in rated]
            frame = {
                "user": [example.user for example in examples], "example": [example.id for example in examples],
                "method": method, "draw": draw,
                "d_t": [one.accuracy for one in scores], "z": [one.z for one in scores],
            }  # fmt: skip
            frames.append(pd.DataFrame({**frame, **values}))
    return pd.concat(frames, ignore_index=True)


def make_requests(
    pipe: pmg.PersonalizedPipeline, data: Dataset, examples: Sequence[Example]
) -> dict[str, list[Request]]:
    """Returns the requests of each of `METHODS`, whose noises are the same."""
    found: dict[str, list[Request]] = {method: [] for method in METHODS}
    for example in examples:
        seed = stable_number(STUDY, example.id) % 2**31
        preference = pipe.extract_preference(with_pictures(example.liked, data.images))
        whole = build_request(preference, example.target, pipe.extractor, pipe.alpha_rule)
        made = {
            "none": build_request(None, example.target, pipe.extractor, pipe.alpha_rule),
            "soft": replace(whole, keywords=NO_WORDS, show_keywords=False),
            "pmg_read": whole,
        }
        for method, request in made.items():
            found[method].append(replace(request, seed=seed))
    return found


def keep(rows: pd.DataFrame, most: int, enough: float | None) -> pd.DataFrame:
    """Returns the means of the kept candidates of each example of one method, and of the draws that they took.

    The means are over the orders in which the noises may be drawn: each is the first of one.

    Args:
        rows: of one method.
        most: noises that may be drawn.
        enough: d_t from which no other is drawn; None: all are drawn. The candidate of the highest z is kept.
    """
    orders = [
        _keep_in_order(rows.assign(draw=(rows["draw"] - first) % NOISES), most, enough) for first in range(NOISES)
    ]
    found = pd.concat(orders)
    return found.groupby(level="example")[[*METRICS, "draws"]].mean().join(orders[0]["user"])


def _keep_in_order(rows: pd.DataFrame, most: int, enough: float | None) -> pd.DataFrame:
    """Returns the kept candidate of each example, with the number of draws, for one order of the noises."""
    rows = rows[rows["draw"] < most].sort_values(["example", "draw"], kind="stable").reset_index(drop=True)
    if enough is not None:
        suffices = rows["d_t"] >= enough
        earlier = suffices.groupby(rows["example"]).cumsum() - suffices
        rows = rows[earlier == 0]
    draws = rows.groupby("example")["draw"].count()
    return rows.loc[rows.groupby("example")["z"].idxmax()].set_index("example").assign(draws=draws)


def choose_threshold(rows: pd.DataFrame, most: int) -> float:
    """Returns the threshold of the fewest draws by which no fewer concepts are found than by the best of four."""
    goal = keep(rows, 4, None)["concept_accuracy"].mean()
    reached = {}
    for threshold in THRESHOLDS:
        kept = keep(rows, most, threshold)
        if kept["concept_accuracy"].mean() >= goal:
            reached[threshold] = kept["draws"].mean()
    return min(reached, key=reached.__getitem__)


def summarize(rows: pd.DataFrame, thresholds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Returns a row for each method and rule: draws, means with intervals, and differences to `none`'s first draw."""
    first = keep(rows[rows["method"] == "none"], 1, None)
    found = []
    for method in METHODS:
        mine = rows[rows["method"] == method]
        rules = {f"best of {count}" if count > 1 else "first": (count, None) for count in COUNTS}
        rules |= {
            f"until {thresholds[method]:g}, at most {count}": (count, thresholds[method]) for count in COUNTS[2:]
        }
        four = keep(mine, 4, None)
        for rule, (count, threshold) in rules.items():
            kept = keep(mine, count, threshold).loc[first.index]
            users = kept["user"].to_numpy()
            cells = {name: asdict(interval(kept[name].to_numpy(), users)) for name in METRICS}
            pairs = {"none, first": first, "best of 4": four.loc[first.index]}
            differences = {
                name: asdict(paired_difference(kept[AIM].to_numpy(), other[AIM].to_numpy(), users))
                for name, other in pairs.items()
            }
            row = {"method": method, "rule": rule, "draws": float(kept["draws"].mean())}
            found.append({**row, "metrics": cells, "concept": differences})
    return found


def to_table(found: Sequence[Mapping[str, Any]]) -> str:
    """Returns a row a method and rule."""
    head = ["method", "kept", "pictures drawn", *METRICS.values(), "concept − none, first", "concept − best of 4"]
    rows = []
    for row in found:
        means = [f"{row['metrics'][name]['mean']:.3f}" for name in METRICS]
        gains = [format_interval(one, "+") for one in row["concept"].values()]
        rows.append([row["method"], row["rule"], f"{row['draws']:.2f}", *means, *gains])
    return to_markdown_table(head, rows, names=2)


def plot(rows: pd.DataFrame, path: Path) -> None:
    """Draws the fronts of pictures drawn against concept accuracy: all noises, and noises until one is enough."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4))
    for method, colour in zip(METHODS, ("tab:grey", "tab:blue", "tab:red"), strict=True):
        mine = rows[rows["method"] == method]
        best = [keep(mine, count, None) for count in range(1, NOISES + 1)]
        until = [keep(mine, NOISES, threshold) for threshold in THRESHOLDS]
        for kept, style, label in ((best, "o--", "best of N"), (until, "-", "until one is enough")):
            points = sorted((one["draws"].mean(), one[AIM].mean()) for one in kept)
            axis.plot(*zip(*points, strict=True), style, color=colour, label=f"{method}, {label}", markersize=4)
    axis.set(xlabel="pictures drawn for one that is kept", ylabel="concept accuracy (judge)")
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def report(runs: Path, into: Path) -> None:
    """Writes results.json, table.md, the figure, and the table into the README there.

    Raises:
        SystemExit: a split wasn't drawn.
    """
    parts = {split: sorted((runs / split).glob("*.parquet")) for split in USERS}
    for split, paths in parts.items():
        if not paths:
            raise SystemExit(
                f"{runs / split} holds nothing; run first: experiments.accuracy.redraw.run draw --split {split}"
            )
    tables = {split: pd.concat(map(pd.read_parquet, paths)) for split, paths in parts.items()}
    validation, test = tables["validation"], tables["test"].reset_index(drop=True)
    thresholds = {
        method: choose_threshold(validation[validation["method"] == method].reset_index(drop=True), NOISES)
        for method in METHODS
    }
    found = summarize(test, thresholds)
    record = {
        "revision": (git_state() or {}).get("revision"), CONTENTS: digest_assets(*READ), "thresholds": thresholds,
        "users": {split: int(table["user"].nunique()) for split, table in tables.items()}, "rows": found,
    }  # fmt: skip
    table = to_table(found)
    write_study(into, STUDY, record, table)
    plot(test, into / "fronts.png")
    print(table, thresholds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("draw", "report"))
    parser.add_argument("--split", choices=tuple(USERS), default="test")
    parser.add_argument("--runs", type=Path, default=Path("outputs", STUDY))
    parser.add_argument("--into", type=Path, help="where the tables go; of draw: outputs/redraw")
    options = parser.parse_args()
    if options.work == "draw":
        draw(options.split, options.into or options.runs)
    else:
        report(options.runs, options.into or Path(__file__).parent)
