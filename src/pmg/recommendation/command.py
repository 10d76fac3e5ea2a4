"""``pmg-recommend``: compares recommenders with and without pictures."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmg.configuration.instantiate import instantiate, instantiate_by_name, to_plain
from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.orchestration.builders import Builder
from pmg.orchestration.command_lines import config_folder, override, override_root, quote
from pmg.orchestration.launcher import launch
from pmg.orchestration.run import Run, tracked
from pmg.paths import display_path
from pmg.runs.content import digest_path
from pmg.runs.run_folder import read_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omegaconf import DictConfig

    from pmg.evaluation.comparison import Comparison
    from pmg.evaluation.metric_interface import MetricInfo
    from pmg.recommendation.behaviour import Behaviour
    from pmg.recommendation.features import Vectors
    from pmg.recommendation.pairs import Candidates
    from pmg.recommendation.ranking import Ranked, Recommender

SPLITS = ("train", "validation", "test")  # of users, which all have likes to be foreseen


@tracked
def body(cfg: DictConfig, run: Run) -> float | None:
    """Compares recommenders with and without pictures."""
    from pmg.recommendation.behaviour import Behaviour
    from pmg.recommendation.features import encode_items, encode_pairs, item_features, pair_features
    from pmg.recommendation.pairs import CANDIDATES, EVERYBODY, read_candidates, write_candidates
    from pmg.recommendation.ranking import CONTROLS, METRICS, PAIR_METRICS, rerank
    from pmg.records.storage import read_records

    builder = Builder(cfg, run)
    recommenders: Mapping[str, Recommender] = instantiate_by_name(cfg.recommenders)
    lines = (line for split in SPLITS for line in builder.data.timelines(split))
    behaviour = Behaviour.cut(lines, cfg.shares.validation, cfg.shares.test)
    image_encoder = instantiate(cfg.image_encoder)
    found, pairs = {}, {}
    with run.ledger.phase("encode pictures"):
        own = encode_items(image_encoder, builder.data.images, list(behaviour.items.values()))
        if cfg.pictures.run:
            found = read_candidates(Path(cfg.pictures.candidates or "", CANDIDATES))
            check_candidates(found, behaviour, cfg.pictures.candidates)
            made_of = read_run(cfg.pictures.run, "generate")[1]["identity"].get("data.file.content")
            if made_of != digest_path(Path(cfg.pictures.candidates, CANDIDATES)):
                raise PmgError(f"pictures.run={cfg.pictures.run} is of other pictures.candidates: name those it drew")
            records = [one for one in read_records(cfg.pictures.run) if one.method == cfg.pictures.method]
            pairs = encode_pairs(image_encoder, cfg.pictures.run, records, found)
    data = [] if pairs else changed_data(cfg.data, str(run.choices.get("data", "own_files")))
    run.begin()
    with run.ledger.phase("fit recommenders"):
        features = item_features(own, pairs.get((EVERYBODY, "own")), builder.seed, **cfg.features)
        ranked = fit_all(recommenders, behaviour, features)
    orders = {name: one.orders for name, one in ranked.items()}
    write(builder, Path(cfg.results_dir), orders, behaviour, instantiate(cfg.comparison.recommenders), METRICS)
    if pairs:
        methods = pair_features(found, own, pairs)
        items, later = ({user: getattr(one, part) for user, one in found.items()} for part in ("items", "later"))
        again = {name: rerank(known, items, later, builder.seed) for name, known in methods.items()}
        compared = instantiate(cfg.comparison.pairs)
        write(builder, Path(cfg.results_dir, "pairs"), again, behaviour, compared, PAIR_METRICS)
    else:
        rivals = [name for name in ranked if not name.endswith(CONTROLS)]
        best = max(rivals, key=lambda name: ranked[name].validation)
        chosen = choose_candidates(behaviour, ranked[best], cfg.candidates.users, cfg.candidates.each, builder.seed)
        write_candidates(run.folder, chosen)
        count = sum(len(one.items) for one in chosen.values())
        print(f"candidates by {best}: {cfg.candidates.each} items for each of {len(chosen) - 1} users,")
        print(f"all items for the user '{EVERYBODY}', whose history is what most users like")
        print(f"{count} pairs; pmg-generate draws each for its user and for another one")
        print("\n".join(["next:", *next_commands(run.folder, run.overrides, data, cfg.pictures.method)]))
    return None


def check_candidates(found: Mapping[str, Candidates], behaviour: Behaviour, folder: str) -> None:
    """Checks that candidates are of the same users, items and cut of likes, else raises PmgError."""
    for user, one in found.items():
        same = not one.later or behaviour.test.get(user) == tuple(one.later)
        if not same or not {*one.history, *one.items} <= behaviour.items.keys():
            raise PmgError(
                f"pictures.candidates={folder} was made with other data or shares (user {user}): use those of that run"
            )


def changed_data(data: Any, option: str) -> list[str]:
    """Returns overrides below ``data.of`` for what differs from an option of ``data``, e.g. by an experiment."""
    from pmg.configuration.compose import compose

    default = dict(leaves(to_plain(compose("recommend", [f"data={option}", *config_folder("hydra.searchpath")]).data)))
    found = {key: value for key, value in leaves(to_plain(data)) if key == "folder" or default.get(key, "") != value}
    given = {key: quote(value) if isinstance(value, str) else value for key, value in found.items()}
    return [
        *([] if option == "own_files" else [f"data@data.of={option}"]),
        *(f"data.of.{key}={'null' if value is None else value}" for key, value in given.items()),
    ]


def next_commands(folder: Path, overrides: Sequence[str], data: Sequence[str], method: str) -> list[str]:
    """Returns the command lines that make the pictures of a run's candidates, and that order these by them.

    `data` are the overrides of the data set.
    """
    from pmg.recommendation.pairs import CANDIDATES

    kept = [text for text in overrides if override_root(text) != "run_dir"]
    inner = [*data, *(text for text in kept if override_root(text) in ("paths", "plugins"))]
    whole = ["split_sizes.test=null", "targets.test=null", "balance/weights=one"]
    here = display_path(folder)
    pictures = here.with_name(f"{here.name}_pictures")
    candidates, into = override("data.file", here / CANDIDATES), override("run_dir", pictures)
    made = ["data=pairs", *inner, candidates, f"method={method}", *whole, into]
    again = here.with_name(f"{here.name}_with_pictures")
    folders = {"pictures.run": pictures, "pictures.candidates": here, "run_dir": again}
    read = [*kept, *(override(key, folder) for key, folder in folders.items())]
    lines = (["pmg-generate", *config_folder(), *made], ["pmg-recommend", *config_folder(), *read])
    return list(map(shlex.join, lines))


def fit_all(
    recommenders: Mapping[str, Recommender], behaviour: Behaviour, features: Mapping[str, Vectors]
) -> dict[str, Ranked]:
    """Returns what each recommender says, with each kind of pictures that it takes and that there is."""
    from pmg.progress import track
    from pmg.recommendation.ranking import Catalogue

    methods: list[tuple[str, Recommender, str | None]] = []
    for name, one in recommenders.items():
        kinds = [kind for kind in one.pictures if kind in features or kind != "crowd"]
        methods += [(f"{name}_{kind}", one, kind) for kind in kinds] if one.pictures else [(name, one, None)]
    plain = Catalogue(behaviour)
    return {
        name: (Catalogue(behaviour, features[kind]) if kind else plain).fit(one)
        for name, one, kind in track(methods, "Fitting recommenders")
    }


def choose_candidates(
    behaviour: Behaviour, ranked: Ranked, users: int, count: int, seed: int
) -> dict[str, Candidates]:
    """Returns the first `count` items for each user of a random part, and all items for the user `EVERYBODY`."""
    import numpy as np

    from pmg.recommendation.pairs import EVERYBODY, Candidates

    names = sorted(ranked.orders)
    chosen = np.random.default_rng(seed).permutation(len(names))[:users]
    found = {}
    for name in sorted(names[place] for place in chosen):
        history = (*behaviour.train[name], *behaviour.validation[name])
        items, scores = list(ranked.orders[name])[:count], ranked.scores[name][:count].tolist()
        found[name] = Candidates(history, items, scores, behaviour.test[name])
    everything = list(behaviour.items)
    if EVERYBODY in found:
        raise PmgError(f"a user is called '{EVERYBODY}', which stands for all users: rename them")
    found[EVERYBODY] = Candidates(behaviour.popular(12)[::-1], everything, [0.0] * len(everything), ())
    return found


def write(
    builder: Builder, folder: Path, orders: Mapping[str, Mapping[str, Sequence[str]]], behaviour: Behaviour,
    comparison: Comparison, metrics: Sequence[MetricInfo],
) -> None:  # fmt: skip
    """Measures every method's orders, writes results into a folder and prints their table.

    The label ``likes`` says how many likes were learned from.
    """
    import pandas as pd

    from pmg.evaluation.results import ResultBuilder, write_results
    from pmg.recommendation.ranking import measure
    from pmg.runs.provenance import origin

    run, seed = builder.run, builder.seed
    rows: list[dict[str, Any]] = []
    with run.ledger.phase("statistics"):
        for name, one in orders.items():
            for user, values in measure(one, behaviour.test, behaviour.known).to_dict("index").items():
                likes = "fewer than 5" if len(behaviour.train.get(user, ())) < 5 else "5 or more"
                keys = {"example": user, "user": user, "method": name, "control": "own", "seed": seed, "likes": likes}
                rows.append(keys | values)
        table = pd.DataFrame(rows)
        results = ResultBuilder(metrics, comparison, ["likes"], seed).build(table)
    results |= origin({"recommend": run.ledger.as_dict()}, builder.masked)
    write_results(folder, results, table)
    run.publish(folder, results)


main = partial(launch, "recommend", body)

if __name__ == "__main__":
    main()
