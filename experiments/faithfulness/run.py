"""Do the films that a person liked first foresee the genres of what they like later? A trained reader beside counts.

python -m experiments.faithfulness.run outputs/real_people

MovieLens (`pmg-prepare data=movielens`), the people of `experiment=faithfulness`. Each method learns from other people
alone: five folds, whose choices (penalty, weight, steps) were made on validation people. The reader is
`pmg.models.preference.reader.PreferenceReader` over the language model's states of each film's line, read alone. Only
means over people are recorded: MovieLens may not be passed on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.channels.run import fit_ridges
from rich.progress import track
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import pmg
from pmg.cache import atomic_write_json, open_cache
from pmg.data.interactions import cut_later
from pmg.domain import Item, Keywords
from pmg.evaluation.faithfulness import METRICS, agreement
from pmg.evaluation.statistics import interval, paired_difference
from pmg.models.preference.reader import PreferenceReader, Readings
from pmg.preferences.contexts import WrittenHistories, no_pictures
from pmg.reporting.study_pages import fill
from pmg.runs.provenance import git_state
from pmg.training.reader_inputs import UsersReadings
from pmg.training.visual_inputs import SeenPictures

READ, LATER = 12, 5  # films that are read; least number of films that are liked later
FOLDS, SEEDS = 5, (0, 1, 2)
LAYERS = [0, 16]
WEIGHTS, PENALTIES, STEPS = (0.5, 1.0, 2.0, 4.0), (3.0, 10.0, 30.0, 100.0, 300.0), (100, 200, 300, 400)


@dataclass(frozen=True)
class Person:
    """Somebody who liked enough films.

    Attributes:
        name: in the data set.
        split: of the data set.
        liked: all films, oldest first.
    """

    name: str
    split: str
    liked: Sequence[Item]


class Films:
    """All films that somebody liked: their genres, and the language model's states of a line about each."""

    def __init__(self, config: Any) -> None:
        self.config, self.data = config, pmg.instantiate(config.data)
        self.genres = list(config.scenario.attributes.genre.options)
        timelines = [(name, one) for name in ("train", "validation", "test") for one in self.data.timelines(name)]
        enough = {example.user for example in cut_later([one for _, one in timelines], READ, LATER)}
        self.people = [Person(one.user, split, one.liked) for split, one in timelines if one.user in enough]
        self.liked = {one.user: one.liked for _, one in timelines}
        self.items = list({item.id: item for liked in self.liked.values() for item in liked}.values())
        self.row = {item.id: row for row, item in enumerate(self.items)}

    def count(self, liked: Sequence[Item]) -> Tensor:
        """Returns how many films have each genre, `(G,)`."""
        return self.shown[[self.row[one.id] for one in liked]].sum(0)

    @cached_property
    def shown(self) -> Tensor:
        """Which genres each film has, `(N, G)`."""
        return torch.tensor([[float(word in item.keywords) for word in self.genres] for item in self.items])

    @cached_property
    def states(self) -> list[Tensor]:
        """Of each film's line, title, year and genres, `(T, W)`."""
        lines = [f"\n{one.title} ({one.facts['year']}): {one.facts['genres']}" for one in self.items]
        language_model = pmg.instantiate(self.config.language_model)
        cache = open_cache(self.config.paths.contexts_dir)
        name = f"real people {self.config.language_model.source}"
        return WrittenHistories(lines, language_model, cache, name, no_pictures).states(LAYERS)


Scores = Callable[[Sequence[Person]], Tensor]
"""Scores the genres that people like later, by their first films, `(P, G)`."""


def popularity(films: Films) -> Scores:
    """Returns the share of each genre among all that others liked."""
    every = torch.stack([films.count(liked) for liked in films.liked.values()]).sum(0)
    return lambda asked: torch.stack([(every - films.count(one.liked)) / every.sum() for one in asked])


def mixture(films: Films, weight: float) -> Scores:
    """Returns the share of each genre among a person's first films, and popularity times a weight."""
    popular = popularity(films)

    def score(asked: Sequence[Person]) -> Tensor:
        """Returns the sum."""
        counts = torch.stack([films.count(one.liked[:READ]) for one in asked])
        return counts / counts.sum(1, keepdim=True) + weight * popular(asked)

    return score


def fit_ridge(films: Films, people: Sequence[Person], penalty: float) -> Scores:
    """Returns a ridge regression from counts of the first films' genres to shares of later ones."""
    inputs = torch.stack([films.count(one.liked[:READ]) for one in people]) / 2
    outputs = torch.stack([films.count(one.liked[READ:]) for one in people])
    outputs = outputs / outputs.sum(1, keepdim=True)
    (ridge,) = fit_ridges(inputs, outputs, [penalty])
    return lambda asked: ridge(torch.stack([films.count(one.liked[:READ]) for one in asked]) / 2)


def read(films: Films, histories: Sequence[Sequence[Item]]) -> Readings:
    """Returns what a reader takes of histories."""
    states = [torch.cat([films.states[films.row[item.id]] for item in one]).float() for one in histories]
    nothing = [torch.zeros(0, dtype=torch.long)] * len(states)
    seen = SeenPictures(torch.zeros(1, 1), nothing, [rows.bool() for rows in nothing])
    titles = torch.zeros(1, states[0].shape[1] // len(LAYERS))
    return UsersReadings(states, seen, titles).select(range(len(states)))


def train_reader(
    films: Films, people: Sequence[Person], steps: Sequence[int], seed: int, *, width: int = 64, layers: int = 1,
    dropout: float = 0.3, lr: float = 1e-3, decay: float = 0.97,
) -> list[Scores]:  # fmt: skip
    """Returns readers after so many steps of 32 people, each with a history from anywhere in their time.

    It learns the genres of what is liked behind that history, by cross-entropy; weights are averaged over steps.
    """
    torch.manual_seed(seed)
    draws = np.random.default_rng(seed)
    sample = read(films, [one.liked[:READ] for one in people[:64]])
    reader = PreferenceReader(
        llm_width=sample.titles.shape[-1], layers_read=len(LAYERS), feature_width=1, text_width=8, soft_tokens=1,
        width=width, layers=layers, dropout=dropout, answered=[("genre", films.genres)],
    ).train()  # fmt: skip
    reader.fit_scales(sample, torch.randn(10, 8))
    shares = torch.stack([films.count(one.liked) for one in people]).sum(0).clamp(min=0.5)
    with torch.no_grad():
        reader.answers[0].bias.copy_((shares / shares.sum()).log())
        reader.answers[0].weight.mul_(0.1)
    averaged = AveragedModel(reader, multi_avg_fn=get_ema_multi_avg_fn(decay))
    optimizer, found = torch.optim.AdamW(reader.parameters(), lr, weight_decay=0.05), []
    for step in track(range(1, max(steps) + 1), f"reader of seed {seed}"):
        chosen = [people[place] for place in draws.integers(len(people), size=32)]
        starts = [int(draws.integers(len(one.liked) - READ - LATER + 1)) for one in chosen]
        pairs = list(zip(chosen, starts, strict=True))
        later = torch.stack([films.count(one.liked[start + READ :]) for one, start in pairs])
        scores = reader.respond(None, read(films, [one.liked[start : start + READ] for one, start in pairs]))[1][0]
        loss = -(later / later.sum(1, keepdim=True) * scores.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        averaged.update_parameters(reader)
        if step in steps:
            kept = PreferenceReader.from_config(reader.config)
            kept.load_state_dict(averaged.module.state_dict())
            found.append(_scorer(films, kept.eval()))
    return found


def _scorer(films: Films, reader: Any) -> Scores:
    @torch.no_grad()
    def score(asked: Sequence[Person]) -> Tensor:
        """Returns log-probabilities."""
        parts = [asked[start : start + 64] for start in range(0, len(asked), 64)]
        return torch.cat([reader.respond(None, read(films, [p.liked[:READ] for p in part]))[1][0] for part in parts])

    return score


def judge(films: Films, scores: Tensor, people: Sequence[Person]) -> dict[str, np.ndarray]:
    """Returns each metric of each person, `(P,)`."""
    rows = []
    for row, person in zip(scores, people, strict=True):
        words = tuple(films.genres[place] for place in row.argsort(descending=True, stable=True).tolist())
        rows.append(agreement(Keywords(words), person.liked[READ:], films.genres))
    return {metric.name: np.array([row[metric.name] for row in rows]) for metric in METRICS}


def choose(films: Films) -> dict[str, float]:
    """Returns penalty, weight and steps that are best on validation people, learned from training people."""
    train, asked = ([one for one in films.people if one.split == split] for split in ("train", "validation"))
    first = METRICS[0].name

    def mean(score: Scores) -> float:
        """Returns the mean of the first metric."""
        return float(judge(films, score(asked), asked)[first].mean())

    weights = {weight: mean(mixture(films, weight)) for weight in WEIGHTS}
    penalties = {penalty: mean(fit_ridge(films, train, penalty)) for penalty in PENALTIES}
    runs = [train_reader(films, train, STEPS, seed) for seed in SEEDS[:2]]
    steps = {step: float(np.mean([mean(run[place]) for run in runs])) for place, step in enumerate(STEPS)}
    print("on validation people:", {"weight": weights, "penalty": penalties, "steps": steps})
    best = [max(each, key=each.__getitem__) for each in (weights, penalties, steps)]
    return dict(zip(("weight", "penalty", "steps"), best, strict=True))


def compare(films: Films, chosen: Mapping[str, float]) -> dict[str, dict[str, np.ndarray]]:
    """Returns each metric of each method and person who chose nothing, learned in folds from other people."""
    asked = [one for one in films.people if one.split != "validation"]
    fold = np.random.default_rng(0).permutation(len(asked)) % FOLDS
    found: dict[str, dict[str, np.ndarray]] = {}
    for number in range(FOLDS):
        own = [one for one, place in zip(asked, fold, strict=True) if place == number]
        names = {one.name for one in own}
        others = [one for one in films.people if one.name not in names]
        methods = {
            "popularity": [popularity(films)],
            "counting": [mixture(films, 1e-3)],
            "counting + popularity": [mixture(films, chosen["weight"])],
            "ridge": [fit_ridge(films, others, chosen["penalty"])],
            "reader": [train_reader(films, others, [int(chosen["steps"])], seed)[0] for seed in SEEDS],
        }
        for name, each in methods.items():
            judged = [judge(films, score(own), own) for score in each]
            for metric in METRICS:
                rows = found.setdefault(name, {}).setdefault(metric.name, np.zeros(len(asked)))
                rows[fold == number] = np.mean([one[metric.name] for one in judged], 0)
    return found


def table(found: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Returns means with intervals over people, and paired differences of the reader and each other method."""
    users = np.arange(len(found["reader"][METRICS[0].name]))
    lines = [["method", *(metric.title for metric in METRICS)], ["---", *["---:"] * len(METRICS)]]
    for name, values in found.items():
        means = [interval(values[metric.name], users) for metric in METRICS]
        lines.append([name, *(f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in means)])
    for name in (name for name in found if name != "reader"):
        pairs = [paired_difference(found["reader"][m.name], found[name][m.name], users) for m in METRICS]
        cells = [f"{p.mean:+.3f} [{p.low:+.3f}, {p.high:+.3f}], {_significance(p.p)}" for p in pairs]
        lines.append([f"reader - {name}", *cells])
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines)
        .replace(" -0", " \N{MINUS SIGN}0")
        .replace("[-", "[\N{MINUS SIGN}")
    )


def _significance(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def main(into: Path, record: bool) -> None:
    """Chooses, compares, and prints the table; `record` puts it into experiments/faithfulness."""
    films = Films(pmg.compose("keywords", ["experiment=faithfulness"]))
    path = into / "chosen.json"
    chosen = json.loads(path.read_text()) if path.exists() else choose(films)
    atomic_write_json(path, chosen)
    text = table(compare(films, chosen))
    atomic_write_json(
        into / "table.json", {"chosen": chosen, "table": text, "revision": (git_state() or {}).get("revision")}
    )
    print(text)
    if record:
        fill(Path(__file__).parent / "README.md", "trained", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("into", type=Path, help="folder of what was chosen, and of the table")
    parser.add_argument("--record", action="store_true", help="write the table into experiments/faithfulness")
    options = parser.parse_args()
    main(options.into, options.record)
