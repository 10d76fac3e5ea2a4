from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pmg.evaluation.metrics.distribution import Kid
from pmg.evaluation.statistics import interval
from pmg.evaluation.table_rendering import to_markdown
from pmg.reporting.artifacts import gather
from pmg.reporting.figure_selection import alpha_curves
from pmg.reporting.figures import ALPHAS
from pmg.reporting.runs import read_runs
from pmg.reporting.summary import _plain, drop_repeats, effects, group, summary_tables, tidy
from pmg.reporting.variants import find_factors
from runs import METRICS, record, write_results, write_rows, write_run

VALUES = {(2, 0): [0.1, 0.3, 0.4], (2, 1): [0.2, 0.5, 0.1], (10, 0): [0.6, 0.6, 0.7], (10, 1): [0.5, 0.4, 0.9]}


@pytest.fixture
def found(tmp_path):
    """Four evaluations and two trainings, of which one failed: runs, factors, artifacts, groups."""
    for (items, seed), values in VALUES.items():
        folder = write_run(tmp_path / f"items={items},seed={seed}", "evaluate", seed=seed, config={"items": items})
        write_rows(folder, values, seed)
    for seed, loss in enumerate((0.1, 0.2, 0.3)):
        write_run(tmp_path / f"train-{seed}", seed=seed, config={"items": 2}, metrics={"val/denoise": loss})
    write_run(tmp_path / "train-bad", status="failed", error="ValueError: no", config={"items": [1, 2]})
    runs = read_runs([tmp_path])
    factors, artifacts = find_factors(runs), gather(runs)
    return runs, factors, artifacts, group(runs, factors, artifacts)


def test_groups_pool_seeds_and_average_users_first(found):
    *_, groups = found
    assert [each.values for each in groups] == [("2",), ("10",)]
    pooled = np.array([*VALUES[2, 0], *VALUES[2, 1]])
    expected = interval(pooled, np.array(["u0", "u1", "u2"] * 2))
    measured = groups[0].methods["pmg_paper"]["lpips_truth"]
    assert [measured[name] for name in ("mean", "low", "high")] == pytest.approx(
        [expected.mean, expected.low, expected.high]
    )
    assert (measured["n"], measured["runs"]) == (3, 2)


def test_scalars_have_students_interval_over_runs(found):
    *_, groups = found
    loss = groups[0].scalars["val/denoise"]
    assert loss["mean"] == pytest.approx(0.2)
    assert loss["high"] - loss["mean"] == pytest.approx(4.302653 * 0.1 / np.sqrt(3))
    assert not groups[1].scalars


def test_the_best_competing_mean_is_bold_and_a_failed_run_counts_nowhere(found):
    _, factors, artifacts, groups = found
    judged, trained = summary_tables(groups, factors, artifacts)
    assert judged.header[:3] == ("method", "items", "runs")
    lines = to_markdown([judged], "").splitlines()
    assert next(line for line in lines if "**0.267" in line).startswith("| pmg_paper | 2 | 2 |")
    assert len(trained.rows) == 1
    assert trained.rows[0][2].text == "3"
    assert trained.rows[0][3].text.startswith("0.20000 [")


def test_the_best_is_on_top_and_what_is_the_same_everywhere_comes_once(found):
    _, factors, artifacts, groups = found
    judged, _ = summary_tables(groups, factors, artifacts)
    rows = [tuple(cell.text for cell in row[:3]) for row in judged.rows]
    assert rows == [("pmg_paper", "2", "2"), ("pmg_paper", "10", "2"), ("none", "all", "2")]
    groups[1].methods["none"] = {"lpips_truth": dict.fromkeys(("mean", "low", "high"), 0.05) | {"n": 3, "runs": 1}}
    judged, _ = summary_tables(groups, factors, artifacts)
    assert {row[1].text for row in judged.rows if row[0].text == "none"} == {"10", "2"}  # both, since they differ


def test_the_truth_is_never_the_best(found):
    _, factors, artifacts, groups = found
    nothing = dict.fromkeys(("mean", "low", "high"), 0.0) | {"n": 3, "runs": 1}
    groups[0].methods["truth"] = {"lpips_truth": nothing}
    judged, _ = summary_tables(groups, factors, artifacts)
    assert [row[0].text for row in judged.rows if any(cell.best for cell in row)] == ["pmg_paper", "pmg_paper"]


def test_tidy_table_has_a_row_a_metric_and_one_for_a_run_without(found, tmp_path):
    runs, factors, artifacts, _ = found
    table = tidy(runs, factors, artifacts)
    table.to_parquet(tmp_path / "table.parquet")
    read = pd.read_parquet(tmp_path / "table.parquet")
    judged = read[(read["run"] == "items=10,seed=1") & (read["method"] == "pmg_paper")].set_index("metric")
    assert judged.loc["lpips_truth", "value"] == pytest.approx(0.6)
    assert judged.loc["lpips_truth", "standard_error"] == pytest.approx(np.std([0.5, 0.4, 0.9], ddof=1) / np.sqrt(3))
    assert set(judged["items"]) == {"10"}  # texts, since one run has a list
    (bad,) = read[read["run"] == "train-bad"].to_dict("records")
    assert (bad["items"], bad["problem"]) == ("1, 2", "ValueError: no")
    assert pd.isna(bad["metric"])
    assert len(read) == 4 * 2 * 2 + 3 + 1


def test_a_factor_that_a_run_lacks_has_no_value_there():
    for values in ([["x"], None], ["x", None, "y"], [1, None, "x"]):
        plain = _plain(pd.DataFrame([{"key": value} for value in values])["key"])
        assert plain.isna().tolist() == [value is None for value in values]


def test_a_total_that_equals_its_only_term_is_left_out():
    assert drop_repeats({"train/total": [1, 2], "train/denoise": [1, 2]}) == ["train/denoise"]
    others = {"train/total": [3], "train/denoise": [1], "train/contrast": [2], "val/total": [1], "val/denoise": [2]}
    assert drop_repeats(others) == list(others)


def test_a_main_effect_averages_over_what_else_varies(tmp_path):
    for a, b in ((1, 1), (1, 2), (2, 1), (2, 2)):
        write_rows(write_run(tmp_path / f"{a}{b}", "evaluate", config={"a": a, "b": b}), [a + 10 * b] * 2)
    runs = read_runs([tmp_path])
    factors, artifacts = find_factors(runs), gather(runs)
    groups = group(runs, factors, artifacts)
    means = [
        {
            value: methods["pmg_paper"]["lpips_truth"]["mean"]
            for value, (methods, _) in effects(n, groups, runs, artifacts).items()
        }
        for n in (0, 1)
    ]
    assert means == [{"1": 16.0, "2": 17.0}, {"1": 11.5, "2": 21.5}]


def test_metrics_of_sets_have_an_interval_over_runs(tmp_path):
    for seed, value in enumerate((1.0, 3.0)):
        folder = write_run(tmp_path / f"{seed}", "evaluate", seed=seed)
        write_rows(folder, [0.1, 0.2])
        sets = {"kid_dino": {"pmg_paper": {"value": value, "std": 0.5, "n": 2}}}
        infos = [*METRICS, *Kid("dino").outputs]
        write_results(folder, infos, sets)
    runs = read_runs([tmp_path])
    factors, artifacts = find_factors(runs), gather(runs)
    (whole,) = groups = group(runs, factors, artifacts)
    found = whole.methods["pmg_paper"]["kid_dino"]
    assert (found["mean"], found["runs"]) == (2.0, 2)
    assert found["high"] - 2 == pytest.approx(12.7062)
    assert summary_tables(groups, factors, artifacts)[0].header[-1] == "KID (dino) ↓"
    table = tidy(runs, factors, artifacts).set_index("metric").loc["kid_dino"]
    assert table["value"].tolist() == [1.0, 3.0]


def test_alpha_moves_along_the_candidates():
    rng = np.random.default_rng(0)
    records = [record(f"u{n}", rng.uniform(0.1, 0.9, size=(4, 2)).tolist()) for n in range(20)]
    points = alpha_curves([*records, record("v", [(None, 0.4)] * 2, "none"), record("w", [(0.1, 0.4)], "one")])
    assert list(points) == ["pmg_paper"]
    accuracy, preference = np.array(points["pmg_paper"]).T
    assert len(accuracy) == len(ALPHAS)
    assert (np.diff(accuracy) <= 1e-9).all()
    assert (np.diff(preference) >= -1e-9).all()
    best = [max(each.accuracy for each in one.candidates) for one in records]
    assert accuracy[0] == pytest.approx(np.mean(best))
    assert preference[-1] == pytest.approx(np.mean([max(c.preference for c in one.candidates) for one in records]))
