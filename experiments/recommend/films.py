"""Do a language model's genres and states of a person help to foresee which films of MovieLens they like next?

python -m experiments.recommend.films outputs/recommend/films --record

Everybody's likes are cut in time, as `pmg-recommend` does. The best recommender proposes 100 films to each person;
what orders them anew knows its score and how well a film's genres fit the person's, counted or by the trained reader
of `real_people.py` (from the latest twelve films of the part that is learned from, in five folds of people), or the
cosine of the frozen model's states. Only means over people are recorded: MovieLens may not be passed on.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from real_people import FOLDS, READ, Films, Person, popularity, train_reader

import pmg
from pmg.cache import atomic_write_json
from pmg.configuration.compose import compose
from pmg.data.dataset import Timeline
from pmg.domain import PmgError
from pmg.evaluation.statistics import interval, paired_difference
from pmg.recommendation.behaviour import Behaviour
from pmg.recommendation.ranking import CHOSEN_BY, METRICS, Catalogue, Ranked, measure, rerank
from pmg.reporting.study_pages import fill, format_interval, to_markdown_table
from pmg.runs.provenance import git_state

PROPOSED, LEAST = 100, 5  # films that are proposed to each person; people who like a film that takes part
STEPS = 300  # of the reader, as `real_people.py` chose on validation people


def read_behaviour(films: Films) -> Behaviour:
    """Returns everybody's likes of films that at least five people like."""
    lines = [line for name in ("train", "validation", "test") for line in films.data.timelines(name)]
    counts = Counter(item.id for line in lines for item in {item.id: item for item in line.liked}.values())
    kept = [
        Timeline(line.user, tuple(one for one in line.interactions if one.liked and counts[one.item.id] >= LEAST))
        for line in lines
    ]
    return Behaviour.cut(kept, 0.1, 0.2)


def recommend(behaviour: Behaviour, seed: int) -> tuple[str, Ranked, dict[str, float]]:
    """Returns the recommender of the best validation nDCG with its name, and the nDCG of all."""
    nodes, catalogue = compose("recommend", [f"seed={seed}"]).recommenders, Catalogue(behaviour)
    recommenders = {name: pmg.instantiate(node) for name, node in nodes.items()}
    ranked = {name: catalogue.fit(one) for name, one in recommenders.items() if not one.pictures}
    best = max(ranked, key=lambda name: ranked[name].validation)
    return best, ranked[best], {name: one.validation for name, one in ranked.items()}


def read_people(films: Films, behaviour: Behaviour, users: list[str], seed: int) -> np.ndarray:
    """Returns the reader's probabilities of genres `(U, G)`, learned from people of other folds."""
    known = {person.name: person for person in films.people}
    fold = np.random.default_rng(0).permutation(len(users)) % FOLDS
    found = np.zeros((len(users), len(films.genres)))
    for number in range(FOLDS):
        own = [user for user, place in zip(users, fold, strict=True) if place == number]
        others = [person for name, person in known.items() if name not in set(own)]
        (score,) = train_reader(films, others, [STEPS], seed)
        asked = [Person(user, "", [behaviour.items[item] for item in behaviour.train[user][-READ:]]) for user in own]
        found[fold == number] = score(asked).softmax(1).numpy()
    return found


def know_films(films: Films, behaviour: Behaviour, ranked: Ranked, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Returns what each method knows of each person's films, `(N, F)`."""
    users = list(ranked.orders)
    shown = films.shown / films.shown.sum(1, keepdim=True).clamp(min=1)
    liked = {user: [behaviour.items[item] for item in behaviour.train[user][-READ:]] for user in users}
    counts = torch.stack([films.count(items) for items in liked.values()])
    popular = popularity(films)([Person("", "", films.liked[user]) for user in users]).numpy()  # what others like
    counted = (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    reader = read_people(films, behaviour, users, seed)
    states = torch.nn.functional.normalize(torch.stack([one.float().mean(0) for one in films.states]), dim=1)
    states = torch.nn.functional.normalize(states - states.mean(0), dim=1)
    methods: dict[str, dict[str, np.ndarray]] = {}
    for place, user in enumerate(users):
        rows = [films.row[item] for item in ranked.orders[user][:PROPOSED]]
        score = ranked.scores[user][:PROPOSED]
        base = (score - score.mean()) / max(score.std(), 1e-9)
        genres = shown[rows].numpy()
        history = states[[films.row[item.id] for item in liked[user]]].mean(0)
        columns = {
            "popular": genres @ popular[place], "counted": genres @ counted[place], "reader": genres @ reader[place],
            "states": (states[rows] @ history).numpy(),
        }  # fmt: skip
        known = {
            "recommender": [], "popular genres": ["popular"], "counted genres": ["popular", "counted"],
            "reader": ["popular", "reader"], "states": ["popular", "states"],
            "counted genres, reader and states": ["popular", "counted", "reader", "states"],
        }  # fmt: skip
        for name, parts in known.items():
            methods.setdefault(name, {})[user] = np.stack([base, *(columns[part] for part in parts)], 1)
    return methods


def main(into: Path, record: bool, seeds: int) -> None:
    """Writes films.json into a folder; `record` writes it beside the study's page, too, and the table into that."""
    films = Films(pmg.compose("keywords", ["experiment=faithfulness"]))
    behaviour = read_behaviour(films)
    # the reader learns from long histories; whoever has fewer than twelve likes to read is left out of the comparison
    test = {user: ids for user, ids in behaviour.test.items() if len(behaviour.train[user]) >= READ}
    behaviour = replace(behaviour, test=test)
    name, ranked, validation = recommend(behaviour, 0)
    items = {user: list(order)[:PROPOSED] for user, order in ranked.orders.items()}
    frames = {}
    for seed in range(seeds):
        for method, known in know_films(films, behaviour, ranked, seed).items():
            orders = rerank(known, items, behaviour.test, seed)
            frames.setdefault(method, []).append(measure(orders, behaviour.test, behaviour.known))
    means = {method: sum(frame for frame in found) / len(found) for method, found in frames.items()}
    users = np.arange(len(test))
    shown = [metric for metric in METRICS if metric.name in ("recall_at_10", CHOSEN_BY, "mrr")]
    results = {"people": len(test), "recommender": name, "validation": validation, "seeds": seeds, "methods": {}}
    rivals = ("recommender", "counted genres")
    heads = [*(metric.title for metric in shown), *(f"nDCG minus {rival}" for rival in rivals)]
    rows = []
    for method, frame in means.items():
        found = {metric.name: interval(frame[metric.name].to_numpy(), users) for metric in shown}
        gains = {
            rival: paired_difference(frame[CHOSEN_BY].to_numpy(), means[rival][CHOSEN_BY].to_numpy(), users)
            for rival in rivals
            if rival != method
        }
        cells = [format_interval(asdict(one)) for one in found.values()]
        cells += [format_interval(asdict(gains[rival]), "+", 4) if rival in gains else "" for rival in rivals]
        results["methods"][method] = {
            "means": {metric: asdict(one) for metric, one in found.items()},
            "ndcg_minus": {rival: asdict(gain) for rival, gain in gains.items()},
        }
        rows.append([method, *cells])
    results["revision"] = (git_state() or {}).get("revision")
    text = to_markdown_table(["order by", *heads], rows)
    atomic_write_json(into / "films.json", results)
    print(json.dumps({"people": len(test), "recommender": name, "validation": validation}))
    print(text)
    if record:
        atomic_write_json(Path(__file__).parent / "films.json", results)
        fill(Path(__file__).parent / "README.md", "films", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("into", type=Path)
    parser.add_argument("--record", action="store_true", help="write the table into experiments/recommend")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    try:
        main(options.into, options.record, options.seeds)
    except PmgError as error:
        raise SystemExit(str(error)) from None
