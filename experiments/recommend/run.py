"""Makes a catalogue of stickers and what 2,000 simulated users took of it, for `pmg-recommend`; and its study's table.

python -m experiments.recommend.run make outputs/recommend    # items.csv, likes.csv and 400 pictures
python -m experiments.recommend.run record outputs/recommend  # the runs seed0, seed1, …, into experiments/recommend

A user likes one artist, one finish and two topics, takes what is popular as well, and takes 24 stickers in time. A
tenth of the stickers appear in the last twentieth of the time; a tenth of the users have taken five. So a look
decides, and topics decide something else: a recommender may learn either.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from pmg.cache import atomic_write_json
from pmg.configuration.compose import compose
from pmg.configuration.instantiate import instantiate
from pmg.evaluation.metric_interface import MetricInfo
from pmg.evaluation.statistics import interval, paired_difference
from pmg.looks.drawings import LookData
from pmg.looks.finishes import Finish
from pmg.models.vision.pictures import to_pictures
from pmg.recommendation.pairs import CANDIDATES, read_candidates
from pmg.recommendation.ranking import METRICS, PAIR_METRICS
from pmg.records.storage import read_records
from pmg.reporting.study_pages import QUALITY, fill, format_interval, to_markdown_table
from pmg.seeding import stable_number

ITEMS, USERS = 400, 2000
ARTISTS, FINISHES, TOPICS = 8, 5, 2  # that the stickers are of; topics that a user likes
TAKEN, FEW = 24, 5  # stickers of a user; of a new one
COLD = 0.1  # share of the stickers that are new, and of the users
LOOK, TOPIC = 1.5, 1.0  # log-odds of the artist, and of the finish; of the topic
POPULAR = 0.7  # deviation of popularity


def draw_items(data: LookData, seed: int) -> list[tuple[int, int, Finish]]:
    """Returns a drawing's row, the number of its finish, and the finish, of `ITEMS` stickers."""
    rng = np.random.default_rng(stable_number("recommend", "items", seed))
    rows = data.rows_by_artist("train", "validation", "test")
    artists = sorted(name for name in rows if name not in data.unseen_artists)
    artists = [artists[place] for place in rng.permutation(len(artists))[:ARTISTS]]
    finishes = [data.space.sample(random.Random(stable_number(seed, number))) for number in range(FINISHES)]
    looks = [(artist, number) for artist in artists for number in range(FINISHES)]
    found = []
    for artist, number in looks:
        chosen = rng.choice(rows[artist], ITEMS // len(looks), replace=False)
        found += [(int(row), number, finishes[number]) for row in chosen]
    return found


def draw_likes(
    artists: Sequence[str], finishes: Sequence[int], topics: Sequence[str], seed: int
) -> list[tuple[int, int, int]]:
    """Returns user, item and time of everything that users take, by the artist, finish and topic of each item."""
    rng = np.random.default_rng(stable_number("recommend", "users", seed))
    popular = rng.normal(0, POPULAR, ITEMS)
    new = rng.random(ITEMS) < COLD
    kinds = [np.unique(values, return_inverse=True)[1] for values in (artists, finishes, topics)]
    likes = []
    for user in range(USERS):
        artist, finish = rng.integers(kinds[0].max() + 1), rng.integers(kinds[1].max() + 1)
        topic = rng.choice(kinds[2].max() + 1, TOPICS, replace=False)
        wish = popular + LOOK * (kinds[0] == artist) + LOOK * (kinds[1] == finish) + TOPIC * np.isin(kinds[2], topic)
        count = FEW if rng.random() < COLD else TAKEN
        taken = np.argsort(-(wish + rng.gumbel(size=ITEMS)))[:count]
        times = np.where(new[taken], rng.integers(95_000, 100_000, count), rng.integers(0, 100_000, count))
        likes += [(user, int(item), int(time)) for item, time in zip(taken, times, strict=True)]
    return likes


def make(folder: Path, seed: int) -> None:
    """Writes pictures, ``items.csv`` and ``likes.csv``."""
    data: LookData = instantiate(compose("pretrain", ["data=looks"]).data)
    items = draw_items(data, seed)
    drawn = [data.drawings.items[row] for row, _, _ in items]
    artists = [data.drawings.artists[row] for row, _, _ in items]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    images = data.drawings.pictures(torch.tensor([row for row, _, _ in items]), [finish for _, _, finish in items])
    for place, picture in enumerate(to_pictures(images)):
        picture.save(folder / "pictures" / f"{place}.png")
    table = [
        (place, item.title, " ".join(item.keywords), item.topic, f"{place}.png", artist)
        for place, (item, artist) in enumerate(zip(drawn, artists, strict=True))
    ]
    likes = draw_likes(artists, [number for _, number, _ in items], [item.topic for item in drawn], seed)
    for name, head, rows in (
        ("items.csv", ("id", "title", "keywords", "topic", "image", "artist"), table),
        ("likes.csv", ("user", "item", "timestamp"), likes),
    ):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([head, *rows])


def compare(
    folders: Sequence[Path], pairs: Sequence[tuple[str, str]], metrics: Sequence[MetricInfo]
) -> tuple[dict[str, Any], str]:
    """Returns means of methods, differences of pairs, and their table; a user's values are means over runs."""
    frames = [pd.read_parquet(folder / "rows.parquet") for folder in folders]
    names = [metric.name for metric in metrics]
    means = pd.concat(frames).groupby(["method", "user"], sort=False)[names].mean()
    titles = [metric.title for metric in metrics]
    rows: list[list[str]] = []
    found: dict[str, Any] = {"methods": {}, "differences": {}}

    def add(kind: str, name: str, values: dict[str, Any], sign: str) -> None:
        """Adds a row to the results and to the table."""
        found[kind][name] = {metric: asdict(value) for metric, value in values.items()}
        rows.append([name, *(format_interval(value, sign, 4) for value in found[kind][name].values())])

    for method in dict.fromkeys(means.index.get_level_values("method")):
        values = {name: means.loc[method][name].dropna() for name in names}
        add(
            "methods",
            method,
            {name: interval(one.to_numpy(), one.index.to_numpy()) for name, one in values.items()},
            "",
        )
    for a, b in pairs:
        both = means.loc[a].join(means.loc[b].add_suffix("_b"), how="inner")
        values = {name: both[[name, f"{name}_b"]].dropna() for name in names}
        differences = {
            name: paired_difference(one[name].to_numpy(), one[f"{name}_b"].to_numpy(), one.index.to_numpy())
            for name, one in values.items()
        }
        add("differences", f"{a} − {b}", differences, "+")
    return found, to_markdown_table(["method", *titles], rows)


def draw_sheet(folder: Path, users: int = 4, columns: int = 12) -> Image.Image:
    """Returns rows of pictures of some users: liked, recommended, made for them, made for somebody else."""
    found = dict(list(read_candidates(folder / "base" / CANDIDATES).items())[:users])
    drawn = {(one.user, one.control, one.example): one.image for one in read_records(folder / "pairs")}
    step = 68
    sheet = Image.new("RGB", (columns * step, users * (4 * step + 8)), "white")
    for number, (user, one) in enumerate(found.items()):
        examples = [f"{user}-{row}" for row in range(columns)]
        rows = [
            [folder / "pictures" / f"{item}.png" for item in one.history[-columns:]],
            [folder / "pictures" / f"{item}.png" for item in one.items[:columns]],
            *([folder / "pairs" / drawn[user, kind, name] for name in examples] for kind in ("own", "mismatched")),
        ]
        for row, paths in enumerate(rows):
            for column, path in enumerate(paths):
                place = (column * step, number * (4 * step + 8) + row * step)
                sheet.paste(Image.open(path).convert("RGB"), place)
    return sheet


def record(folder: Path) -> None:
    """Writes results.json of all seeds, pairs.webp, and both tables into the study's page."""
    runs = sorted(folder.glob("seed*"))
    if not runs:
        raise SystemExit(f"{folder} holds no run; run: make recommend")
    of_items = [("vbpr_own", other) for other in ("vbpr_shuffled", "vbpr_noise", "vbpr_crowd", "bpr")]
    of_items.append(("vbpr_crowd", "vbpr_shuffled"))
    of_pairs = [("made_for_user", other) for other in ("made_for_another", "own_picture", "recommender")]
    of_pairs += [("own_picture", "recommender"), ("both", "own_picture")]
    items, item_table = compare(runs, of_items, METRICS)
    pairs, pair_table = compare([run / "pairs" for run in runs], of_pairs, PAIR_METRICS)
    revisions = {json.loads((run / "results.json").read_text())["revision"] for run in runs}
    whole = {"revisions": sorted(map(str, revisions)), "seeds": len(runs), "items": items, "pairs": pairs}
    atomic_write_json(Path(__file__).parent / "results.json", whole)
    draw_sheet(folder).save(Path(__file__).parent / "pairs.webp", quality=QUALITY)
    for name, table in (("items", item_table), ("pairs", pair_table)):
        fill(Path(__file__).parent / "README.md", name, table)
        print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "record"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.what == "make":
        make(given.folder, given.seed)
    else:
        record(given.folder)
