"""Measures the personal reward on users whose looks its training never met, into experiments/reward.

python -m experiments.reward.run
python -m experiments.reward.run --runs outputs/studies/reward --groups 10

Pairs: sixteen users of four artists under four finishes each like one look; which of two pictures of held-out drawings
do they prefer? Rivals are hard: the same artist under another finish, or another artist under the same finish.
Selection: runs of ``experiment=reward``, whose draws are the same candidates for both scorers.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from experiments.accuracy.selection.run import keep_best, require_draws
from rich.progress import track
from torch import Tensor
from torch.nn.functional import normalize

from pmg.configuration.compose import compose
from pmg.configuration.instantiate import instantiate
from pmg.evaluation.statistics import interval, paired_difference
from pmg.generation.selection import WeightedScores
from pmg.looks.drawings import GROUPS, LookData
from pmg.looks.models.personal_scorer import PersonalScorer
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.looks.stages.reward import hard_rivals
from pmg.models.loading.weight_sources import load_frozen
from pmg.reporting.study_pages import CONTENTS, digest_assets, format_interval, to_markdown_table, write_study
from pmg.runs.provenance import git_state
from pmg.seeding import stable_number

STUDY = "reward"
READ = ("drawings", "look_generator", "look_scorer", "look_reward", "look_judge", "lpips")
BEHAVIOURS = (1, 2, 4, 8, 12)
METRICS = ("style_accuracy", "concept_accuracy", "finish_error", "lpips_truth")
SIDE, NOISE, SPREAD = 4, 0.2, 0.03  # artists and finishes of a group; of simulated users


def draw_group(data: LookData, group: str, seed: int) -> tuple[Tensor, Tensor]:
    """Returns histories `(U, 12, 3, H, W)`, a fifth of them of other looks, and the next picture `(U, 3, H, W)`."""
    rng = random.Random(stable_number("reward", group, seed))
    shown, held_out = data.rows_by_artist("train", "unseen_artists"), data.rows_by_artist("test", "unseen_artists")
    known = sorted(set(shown) - data.unseen_artists)
    unseen = sorted(data.unseen_artists) if group == "unseen_artist" else []
    artists = [*unseen, *rng.sample(known, SIDE - len(unseen))]
    finishes = [data.space.sample(rng, seen=group != "unseen_region") for _ in range(SIDE)]
    rows, drawn = [], []
    for artist in artists:
        for finish in finishes:
            other = [place < (max(BEHAVIOURS) - 1) * NOISE for place in range(max(BEHAVIOURS))]
            rng.shuffle(other)
            history = [rng.choice(shown[rng.choice(known) if strange else artist]) for strange in other]
            drawn += [data.space.sample(rng) if strange else data.space.vary(finish, rng, SPREAD) for strange in other]
            rows += [*history, rng.choice([row for row in held_out[artist] if row not in history])]
            drawn.append(data.space.vary(finish, rng, SPREAD))
    pictures = data.drawings.pictures(torch.tensor(rows), drawn).unflatten(0, (SIDE**2, -1))
    return pictures[:, :-1], pictures[:, -1]


@dataclass(frozen=True)
class Arm:
    """What an arm reads of pictures `(B, 3, H, W)`, as `(B, F)`, and how it rates candidates `(U, F)`, as `(U, U)`."""

    read: Callable[[Tensor], Tensor]
    rate: Callable[[Tensor, Tensor], Tensor]


def build_arms(models: Path, rewards: Path) -> dict[str, Arm]:
    """Returns the reward, and what is simpler."""
    cfg = compose("train", ["scorer=personal", f"paths.models_dir={models}", f"scorer.folder={rewards}"])
    scorer: PersonalScorer = instantiate(cfg.scorer)
    codec, captioner = instantiate(cfg.generator.codec), instantiate(cfg.captioner)
    style: StyleEncoder = load_frozen(StyleEncoder, str(models / "look_generator" / "style_encoder"))

    def personal(histories: Tensor, candidates: Tensor) -> Tensor:
        """Returns logits of the reward."""
        known = torch.ones(histories.shape[:2], dtype=torch.bool)
        return scorer.reward(candidates.expand(len(histories), -1, -1), histories, known, known)

    def popularity(histories: Tensor, candidates: Tensor) -> Tensor:
        """Returns the mean logit over all users."""
        return personal(histories, candidates).mean(0, keepdim=True).expand(len(histories), -1)

    def cosine(histories: Tensor, candidates: Tensor) -> Tensor:
        """Returns cosines of each history's mean with each candidate."""
        return normalize(histories.mean(1), dim=-1) @ normalize(candidates, dim=-1).T

    def count(pictures: Tensor) -> Tensor:
        """Returns which words describe each picture, by a place of a thousand for each word."""
        found = torch.zeros(len(pictures), 1000)
        for row, words in enumerate(captioner.describe(pictures)):
            for word in words.items():
                found[row, stable_number("word", *word) % 1000] = 1.0
        return found

    return {
        "reward": Arm(lambda pictures: scorer(pictures)[1], personal),
        "cosine of mean_style": Arm(lambda pictures: style.read(codec.encode, pictures[:, None]).flatten(1), cosine),
        "cosine of the scorer's style": Arm(lambda pictures: scorer.scorer(pictures)[1], cosine),
        "counting": Arm(count, cosine),
        "popularity": Arm(lambda pictures: scorer(pictures)[1], popularity),
    }


@torch.no_grad()
def measure_pairs(data: LookData, arms: Mapping[str, Arm], groups: int) -> pd.DataFrame:
    """Returns a row a user, arm and number of behaviours: share of hard pairs that are right, ties half; margins."""
    hard, rows = hard_rivals(SIDE, SIDE), []
    for group in GROUPS:
        for number in track(range(groups), description=group):
            histories, following = draw_group(data, group, number)
            users = range(SIDE * len(data.unseen_artists) if group == "unseen_artist" else SIDE**2)
            for name, arm in arms.items():
                read, candidates = arm.read(histories.flatten(0, 1)).unflatten(0, (SIDE**2, -1)), arm.read(following)
                for behaviours in BEHAVIOURS:
                    scores = arm.rate(read[:, -behaviours:], candidates)
                    margins = scores.diagonal()[:, None] - scores
                    for user in users:
                        own = margins[user][hard[user]]
                        right = float((own > 0).float().mean() + (own == 0).float().mean() / 2)
                        rows.append((group, f"{group} {number}", user, name, behaviours, right, own.tolist()))
    return pd.DataFrame(rows, columns=["group", "cluster", "user", "arm", "behaviours", "right", "margins"])


def calibration_error(margins: Sequence[float]) -> float:
    """Returns the expected calibration error of P(own preferred) = sigmoid(margin), in ten bins, of either order."""
    given = torch.tensor(margins).sigmoid()
    said, true = torch.cat([given, 1 - given]), torch.cat([torch.ones_like(given), torch.zeros_like(given)])
    places = (said * 10).long().clamp(max=9)
    bins = [places == number for number in range(10) if (places == number).any()]
    return float(sum((said[some].mean() - true[some].mean()).abs() * some.sum() for some in bins) / len(said))


def summarise_pairs(rows: pd.DataFrame) -> dict[str, Any]:
    """Returns means with intervals by group, arm and behaviours, and differences of the reward to the others."""
    found: dict[str, Any] = {}
    for (group, arm, behaviours), part in rows.groupby(["group", "arm", "behaviours"], sort=False):
        clusters, right = part["cluster"].to_numpy(), part["right"].to_numpy()
        own = rows[(rows["group"] == group) & (rows["arm"] == "reward") & (rows["behaviours"] == behaviours)]
        cell = {"right": asdict(interval(right, clusters)), "users": len(part)}
        if arm == "reward":
            cell["calibration_error"] = calibration_error([each for row in part["margins"] for each in row])
        else:
            cell["reward_minus_it"] = asdict(paired_difference(own["right"].to_numpy(), right, clusters))
        found.setdefault(group, {}).setdefault(arm, {})[str(behaviours)] = cell
    return found


def read_candidates(runs: Path, split: str) -> pd.DataFrame:
    """Returns a row a candidate: its metrics, the scorer's d_t and d_p by words, and d_p by the reward.

    A candidate's ``draw`` is the seed of its run. SystemExit if a scorer lacks a seed that the other has.
    """
    by_scorer = {}
    for scorer in ("looks", "personal"):
        paths = sorted(runs.glob(f"scorer={scorer},split={split},seed=*/rows.parquet"))
        if not paths:
            raise SystemExit(f"{runs} holds no finished run of {scorer}, {split}; run: make reward")
        rows = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
        rows = rows[rows["method"] == "mean_style"].rename(columns={"seed": "draw"})
        by_scorer[scorer] = rows.set_index(["example", "draw"])
    draws = {scorer: rows.index.unique("draw") for scorer, rows in by_scorer.items()}
    for scorer, found in draws.items():
        count = max(max(each) for each in draws.values()) + 1
        require_draws(found, count, f"{runs} (scorer={scorer}, split={split})", "make reward")
    words, reward = by_scorer.values()
    return words.assign(reward=reward["selection_preference"]).reset_index()


def keep(rows: pd.DataFrame, preference: str, alpha: float) -> pd.DataFrame:
    """Returns the candidate of the highest z of each example."""
    scores = [torch.tensor(rows[name].to_numpy()) for name in (preference, "selection_accuracy")]
    return keep_best(rows, rows["draw"].nunique(), lambda _: WeightedScores()(*scores, alpha)).sort_values("example")


def measure_selection(runs: Path) -> dict[str, Any]:
    """Returns means of what is kept, and differences; the alpha of the reward is one of equal validation accuracy."""
    validation, test = read_candidates(runs, "validation"), read_candidates(runs, "test")
    arms = {"words": ("selection_preference", 0.5)}
    wanted = keep(validation, *arms["words"])["concept_accuracy"].mean()
    reached = {alpha / 20: keep(validation, "reward", alpha / 20)["concept_accuracy"].mean() for alpha in range(20)}
    arms["reward"] = ("reward", max(alpha for alpha, accuracy in reached.items() if accuracy >= wanted - 1e-9))
    kept = {name: keep(test, *arm) for name, arm in arms.items()} | {"first candidate": test[test["draw"] == 0]}
    found: dict[str, Any] = {"alpha": {name: alpha for name, (_, alpha) in arms.items()}, "users": len(kept["words"])}
    for name, rows in kept.items():
        rows = rows.sort_values("example")
        for metric in METRICS:
            own, base = rows[metric].to_numpy(), kept["words"][metric].to_numpy()
            users = rows["user"].to_numpy()
            cell = {"mean": asdict(interval(own, users)), "minus_words": asdict(paired_difference(own, base, users))}
            found.setdefault(name, {})[metric] = cell
    return found


def to_tables(pairs: Mapping[str, Any], selection: Mapping[str, Any] | None) -> str:
    """Returns the tables of the README."""
    rows = []
    for group, arms in pairs.items():
        for arm, cells in arms.items():
            means = [f"{cells[str(count)]['right']['mean']:.3f}" for count in BEHAVIOURS]
            gain = cells["8"].get("reward_minus_it")
            rows.append([group, arm, *means, format_interval(gain, "+") if gain else ""])
    head = ["group", "by", *(f"{count} pictures" for count in BEHAVIOURS), "reward − it, 8"]
    text = to_markdown_table(head, rows, names=2)
    errors = [f"{group} {arms['reward']['8']['calibration_error']:.3f}" for group, arms in pairs.items()]
    text += f"\nCalibration error of the reward with 8 pictures: {', '.join(errors)}.\n"
    if selection:
        rows = []
        for arm in ("first candidate", "words", "reward"):
            cells = [selection[arm][name] for name in METRICS]
            texts = [(f"{cell['mean']['mean']:.3f}", format_interval(cell["minus_words"], "+")) for cell in cells]
            rows.append([arm, *(text for pair in texts for text in pair)])
        head = ["kept by", *(text for name in METRICS for text in (name, "minus words"))]
        text += f"\n{to_markdown_table(head, rows)}"
    return text


def main(options: argparse.Namespace) -> None:
    """Writes results.json and table.md, and the table into the README there."""
    data: LookData = instantiate(compose("pretrain", ["data=looks"]).data)
    rows = measure_pairs(
        data, build_arms(options.models, options.reward or options.models / "look_reward"), options.groups
    )
    pairs = summarise_pairs(rows)
    selection = measure_selection(options.runs) if options.runs.exists() else None
    origin = {"revision": (git_state() or {}).get("revision"), CONTENTS: digest_assets(*READ)}
    record = {**origin, "pairs": pairs, "selection": selection}
    table = to_tables(pairs, selection)
    write_study(options.into, STUDY, record, table)
    print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("outputs/studies") / STUDY)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    parser.add_argument("--models", type=Path, default=Path("assets"), help="folder of generator and scorer")
    parser.add_argument("--reward", type=Path, help="folder of the reward, where it is another one")
    parser.add_argument("--groups", type=int, default=10, help="groups of sixteen users, of each kind")
    main(parser.parse_args())
