"""What experiments/accuracy/selection/run.py computes."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(scripts):
    """The module experiments/accuracy/selection/run.py."""
    from experiments.accuracy.selection import run

    return run


@pytest.fixture
def rows():
    """Eight draws of six examples of three users; d_t falls as LPIPS rises, d_p is noise at another scale.

    The concept is right where LPIPS is low, the style everywhere.
    """
    torch.manual_seed(0)
    lpips = torch.rand(48)
    return pd.DataFrame(
        {
            "user": [f"u{place // 16}" for place in range(48)], "example": [f"e{place // 8}" for place in range(48)],
            "draw": list(range(8)) * 6, "lpips_truth": lpips, "selection_accuracy": 0.9 - 0.1 * lpips,
            "selection_preference": -0.2 - 0.01 * torch.rand(48), "concept_accuracy": (lpips < 0.3).float(),
            "style_accuracy": 1.0,
        }
    )  # fmt: skip


def test_one_candidate_is_kept_as_it_is(study, rows):
    kept = study.keep_best(rows, 1, lambda rows: -torch.tensor(rows["lpips_truth"].to_numpy()))
    assert sorted(kept.index) == sorted(rows.index)


@pytest.mark.parametrize(("count", "kept"), [(2, 24), (4, 12), (8, 6)])
def test_the_best_possible_choice_keeps_the_lowest_of_each_part(study, rows, count, kept):
    found = study.keep_best(rows, count, study.rules(study.calibrate(rows), {})["best possible"])
    lowest = rows.assign(part=rows["draw"] // count).groupby(["example", "part"])["lpips_truth"].min()
    assert sorted(found["lpips_truth"]) == sorted(lowest)
    assert len(found) == kept


def test_alpha_follows_what_validation_users_gain_by(study, rows):
    """Where the score of accuracy finds concepts all weight belongs to it, where that of preference does, to that."""
    calibration = study.calibrate(rows)
    alpha = study.find_alpha(rows, calibration, "calibrated z")
    chosen = study.rules(calibration, {"calibrated z": alpha, "z": 0.5})
    best = study.keep_best(rows, 4, chosen["best possible"])["concept_accuracy"].mean()
    assert study.keep_best(rows, 4, chosen["calibrated z"])["concept_accuracy"].mean() == pytest.approx(best)
    assert alpha < 0.5
    swapped = {"selection_accuracy": "selection_preference", "selection_preference": "selection_accuracy"}
    rows = rows.rename(columns=swapped)
    assert study.find_alpha(rows, study.calibrate(rows), "calibrated z") > 0.5


def test_gains_are_paired_with_one_candidate(study, rows):
    found = study.measure(rows, ["lpips_truth"], study.rules(study.calibrate(rows), {"z": 0.5, "calibrated z": 0.0}))
    assert found["z"]["1"]["lpips_truth"]["difference"]["mean"] == pytest.approx(0.0)
    gains = [found["best possible"][str(count)]["lpips_truth"]["difference"]["mean"] for count in (2, 4, 8)]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] < 0


def write_runs(rows, runs, names, draws):
    """A run for each draw: the draw is its seed."""
    for draw in draws:
        folder = runs / names.format(draw)
        folder.mkdir(parents=True)
        own = rows[rows["draw"] == draw].drop(columns="draw")
        own = own.assign(method="pmg_paper" if names.startswith("split") else "mean_style", control="own", seed=draw)
        own.to_parquet(folder / "rows.parquet")
        (folder / "results.json").write_text(json.dumps({"config": {"seed": draw}}))


def test_a_draw_that_is_missing_is_named(study, rows, tmp_path):
    write_runs(rows, tmp_path, "split=test,seed={}", (0, 1, 3))
    with pytest.raises(SystemExit, match=r"\(split=test\) has no finished run of seed 2; run again: pmg-study"):
        study.read_candidates(tmp_path, "test")
    write_runs(rows, tmp_path, "split=test,seed={}", (2,))
    assert sorted(study.read_candidates(tmp_path, "test")[0]["draw"].unique()) == [0, 1, 2, 3]
