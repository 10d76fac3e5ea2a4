"""Measures the personal reward on users whose looks its training never met, into experiments/reward.

python -m experiments.reward.run --groups 10

Pairs: sixteen users of four artists under four finishes each like one look; which of two pictures of held-out drawings
do they prefer? Rivals are hard: the same artist under another finish, or another artist under the same finish.
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
from rich.progress import track
from torch import Tensor
from torch.nn.functional import normalize

from pmg.configuration.compose import compose
from pmg.configuration.instantiate import instantiate
from pmg.evaluation.statistics import interval, paired_difference
from pmg.looks.drawings import GROUPS, LookData
from pmg.looks.models.personal_reward import PersonalReward
from pmg.looks.models.scorer import LookScorer
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.looks.stages.reward import hard_rivals
from pmg.models.image_passes import fit_size
from pmg.models.loading.weight_sources import load_frozen
from pmg.reporting.study_pages import CONTENTS, digest_assets, format_interval, to_markdown_table, write_study
from pmg.runs.provenance import git_state
from pmg.seeding import stable_number

STUDY = "reward"
READ = ("drawings", "look_generator", "look_scorer", "look_reward", "look_judge", "lpips")
BEHAVIOURS = (1, 2, 4, 8, 12)
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
class Rater:
    """What is read of pictures `(B, 3, H, W)`, as `(B, F)`, and how it rates candidates `(U, F)`, as `(U, U)`."""

    read: Callable[[Tensor], Tensor]
    rate: Callable[[Tensor, Tensor], Tensor]


def build_raters(models: Path, rewards: Path) -> dict[str, Rater]:
    """Returns the reward, and what is simpler."""
    cfg = compose("train", ["scorer=looks", f"paths.models_dir={models}"])
    scorer: LookScorer = instantiate(cfg.scorer)
    reward = load_frozen(PersonalReward, str(rewards))
    codec, captioner = instantiate(cfg.generator.codec), instantiate(cfg.captioner)
    style: StyleEncoder = load_frozen(StyleEncoder, str(models / "look_generator" / "style_encoder"))

    def personal(histories: Tensor, candidates: Tensor) -> Tensor:
        """Returns logits of the reward."""
        known = torch.ones(histories.shape[:2], dtype=torch.bool)
        return reward(candidates.expand(len(histories), -1, -1), histories, known, known)

    def taste(pictures: Tensor) -> Tensor:
        """Returns the vectors that the reward compares, of the scorer's features."""
        return reward.embed(scorer.encoder(fit_size(pictures, scorer.config.size)))

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
        "reward": Rater(taste, personal),
        "cosine of mean_style": Rater(lambda pictures: style.read(codec.encode, pictures[:, None]).flatten(1), cosine),
        "cosine of the scorer's style": Rater(lambda pictures: scorer(pictures)[1], cosine),
        "counting": Rater(count, cosine),
        "popularity": Rater(taste, popularity),
    }


@torch.no_grad()
def measure_pairs(data: LookData, methods: Mapping[str, Rater], groups: int) -> pd.DataFrame:
    """Returns a row by user, method and number of behaviours: share of hard pairs right, ties half; margins."""
    hard, rows = hard_rivals(SIDE, SIDE), []
    for group in GROUPS:
        for number in track(range(groups), description=group):
            histories, following = draw_group(data, group, number)
            users = range(SIDE * len(data.unseen_artists) if group == "unseen_artist" else SIDE**2)
            for name, method in methods.items():
                read, candidates = (
                    method.read(histories.flatten(0, 1)).unflatten(0, (SIDE**2, -1)),
                    method.read(following),
                )
                for behaviours in BEHAVIOURS:
                    scores = method.rate(read[:, -behaviours:], candidates)
                    margins = scores.diagonal()[:, None] - scores
                    for user in users:
                        own = margins[user][hard[user]]
                        right = float((own > 0).float().mean() + (own == 0).float().mean() / 2)
                        rows.append((group, f"{group} {number}", user, name, behaviours, right, own.tolist()))
    return pd.DataFrame(rows, columns=["group", "cluster", "user", "method", "behaviours", "right", "margins"])


def calibration_error(margins: Sequence[float]) -> float:
    """Returns the expected calibration error of P(own preferred) = sigmoid(margin), in ten bins, of either order."""
    given = torch.tensor(margins).sigmoid()
    said, true = torch.cat([given, 1 - given]), torch.cat([torch.ones_like(given), torch.zeros_like(given)])
    places = (said * 10).long().clamp(max=9)
    bins = [places == number for number in range(10) if (places == number).any()]
    return float(sum((said[some].mean() - true[some].mean()).abs() * some.sum() for some in bins) / len(said))


def summarise_pairs(rows: pd.DataFrame) -> dict[str, Any]:
    """Returns means with intervals by group, method and behaviours, and differences of the reward to the others."""
    found: dict[str, Any] = {}
    for (group, method, behaviours), part in rows.groupby(["group", "method", "behaviours"], sort=False):
        clusters, right = part["cluster"].to_numpy(), part["right"].to_numpy()
        own = rows[(rows["group"] == group) & (rows["method"] == "reward") & (rows["behaviours"] == behaviours)]
        cell = {"right": asdict(interval(right, clusters)), "users": len(part)}
        if method == "reward":
            cell["calibration_error"] = calibration_error([each for row in part["margins"] for each in row])
        else:
            cell["reward_minus_it"] = asdict(paired_difference(own["right"].to_numpy(), right, clusters))
        found.setdefault(group, {}).setdefault(method, {})[str(behaviours)] = cell
    return found


def to_table(pairs: Mapping[str, Any]) -> str:
    """Returns the table of the README."""
    rows = []
    for group, methods in pairs.items():
        for method, cells in methods.items():
            means = [f"{cells[str(count)]['right']['mean']:.3f}" for count in BEHAVIOURS]
            gain = cells["8"].get("reward_minus_it")
            rows.append([group, method, *means, format_interval(gain, "+") if gain else ""])
    head = ["group", "by", *(f"{count} pictures" for count in BEHAVIOURS), "reward − it, 8"]
    text = to_markdown_table(head, rows, names=2)
    errors = [f"{group} {methods['reward']['8']['calibration_error']:.3f}" for group, methods in pairs.items()]
    return f"{text}\nCalibration error of the reward with 8 pictures: {', '.join(errors)}.\n"


def main(options: argparse.Namespace) -> None:
    """Writes results.json and table.md, and the table into the README there."""
    data: LookData = instantiate(compose("pretrain", ["data=looks"]).data)
    rows = measure_pairs(
        data, build_raters(options.models, options.reward or options.models / "look_reward"), options.groups
    )
    pairs = summarise_pairs(rows)
    origin = {"revision": (git_state() or {}).get("revision"), CONTENTS: digest_assets(*READ)}
    record = {**origin, "pairs": pairs}
    table = to_table(pairs)
    write_study(options.into, STUDY, record, table)
    print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    parser.add_argument("--models", type=Path, default=Path("assets"), help="folder of generator and scorer")
    parser.add_argument("--reward", type=Path, help="folder of the reward, where it is another one")
    parser.add_argument("--groups", type=int, default=10, help="groups of sixteen users, of each kind")
    main(parser.parse_args())
