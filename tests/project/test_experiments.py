"""Reports of studies, from runs of known rows."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pmg.configuration.compose import compose
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.metric_interface import describe
from pmg.evaluation.metrics.lpips import LpipsToTruth
from pmg.looks.metrics import LookAccuracy

ROOT = Path(__file__).resolve().parents[2]
SHOWN = [*LookAccuracy.outputs[:2], *LpipsToTruth.outputs]


@pytest.fixture
def studies(scripts):
    """The module experiments/report.py."""
    import report

    return report


def write_run(folder, config, lpips, seed=0):
    """A finished run of six users, two of each taste; `lpips` by taste, pmg's; the others' is 0.5."""
    rows = [
        {"example": f"u{user}-0", "user": f"u{user}", "kind": "describable", "taste": taste, "method": method,
         "control": "own", "seed": seed, "style_accuracy": 1.0, "concept_accuracy": float(user % 2),
         "lpips_truth": lpips[taste] if method == "pmg_paper" else 0.5}
        for user, taste in enumerate(["flat", "ink", "clay"] * 2)
        for method in ("none", "soft", "pmg_paper")
    ]  # fmt: skip
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(folder / "rows.parquet")
    cost = {"train": {"seconds": {"train": 20.0}}}
    sizes = {"trainer": {"max_steps": 10}, "objective": {"users_per_step": 4, "batches": {"draws": 2}}}
    described = {"metrics": describe(SHOWN), "comparison": Comparison().as_dict(), "groups": {"kind": {}}}
    results = {**described, "revision": "abc", "cost": cost, "config": {"seed": seed, **sizes, **config}}
    (folder / "results.json").write_text(json.dumps(results))


def keep_methods(runs, *methods):
    """Leaves rows of some methods alone in all runs of a folder."""
    for path in runs.glob("*/rows.parquet"):
        rows = pd.read_parquet(path)
        rows[rows["method"].isin(methods)].to_parquet(path)


def test_runs_of_another_method_stand_beside_what_is_recorded(studies, tmp_path):
    same = dict.fromkeys(("flat", "ink", "clay"), 0.2)
    for runs in ("first", "further", "whole"):
        for items in (1, 12):
            write_run(tmp_path / runs / f"items={items}", {"history_items": {"test": items}}, same)
            rows = pd.read_parquet(tmp_path / runs / f"items={items}" / "rows.parquet")
            rows.assign(look="round").to_parquet(tmp_path / runs / f"items={items}" / "rows.parquet")
    keep_methods(tmp_path / "first", "none", "pmg_paper")
    keep_methods(tmp_path / "further", "soft")
    studies.report("history", tmp_path / "first", tmp_path / "into")
    studies.report("history", tmp_path / "further", tmp_path / "into", add=True)
    studies.report("history", tmp_path / "whole", tmp_path / "wanted")
    added, wanted = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("into", "wanted"))
    assert added["users"] == wanted["users"]
    assert len(added["runs"]) == 4
    rows = pd.read_parquet(tmp_path / "further" / "items=1" / "rows.parquet")
    rows.assign(look="square").to_parquet(tmp_path / "further" / "items=1" / "rows.parquet")
    with pytest.raises(SystemExit, match=r"has recorded other pictures .* example u0-0, user u0, look square"):
        studies.report("history", tmp_path / "further", tmp_path / "into", add=True)


def test_variants_stand_in_the_order_of_their_values_and_are_compared_in_pairs(studies, tmp_path):
    for items, lpips in ((12, 0.2), (2, 0.4), (1, 0.5)):
        config = {"history_items": {"test": items}}
        write_run(tmp_path / "runs" / f"items={items}", config, dict.fromkeys(("flat", "ink", "clay"), lpips))
    studies.report("history", tmp_path / "runs", tmp_path / "into")
    results = json.loads((tmp_path / "into" / "results.json").read_text())
    (group,) = results["users"].values()
    assert list(group["variants"]) == ["items = 1", "items = 2", "items = 12"]
    found = group["paired"]["pmg_paper: items = 2 \N{MINUS SIGN} items = 12"]["lpips_truth"]
    assert found["mean"] == pytest.approx(0.2) == found["low"] == found["high"]
    assert not results["speed"]  # the encoders are other runs'
    table = (tmp_path / "into" / "table.md").read_text()
    assert "| pmg_paper: items = 2 \N{MINUS SIGN} items = 12 |" in table
    assert "| items = 2: pmg_paper \N{MINUS SIGN} soft |" in table
    assert "pmg_paper \N{MINUS SIGN} none" not in table
    assert (tmp_path / "into" / "figure.png").stat().st_size > 1000


def test_variants_that_train_have_their_speed(studies, tmp_path):
    for name in ("denoise", "align"):
        write_run(tmp_path / "runs" / name, {"name": name}, dict.fromkeys(("flat", "ink", "clay"), 0.3))
    studies.report("optimise", tmp_path / "runs", tmp_path / "into")
    results = json.loads((tmp_path / "into" / "results.json").read_text())
    assert results["speed"] == {name: [10 * 4 * 2 / 20.0] for name in ("objective = align", "objective = denoise")}


@pytest.mark.ci
@pytest.mark.slow
def test_users_whose_clicks_are_mixed_have_tables_of_their_own(studies, tmp_path, monkeypatch):
    study = studies.Study({"channel": "data.channel"}, ("none", "pmg_paper"), base="channel = pictures", by="mixed")
    monkeypatch.setitem(studies.STUDIES, "channels", study)
    for channel, lpips in (("split", 0.4), ("pictures", 0.2)):
        tastes = {"flat": lpips, "ink": 0.3, "clay": 0.3}
        write_run(tmp_path / "runs" / channel, {"data": {"channel": channel}}, tastes)
        path = tmp_path / "runs" / channel / "rows.parquet"
        rows = pd.read_parquet(path)
        rows = rows.assign(mixed=rows["taste"].map({"flat": "yes"}).fillna("no"))
        rows.assign(concept_accuracy=rows["concept_accuracy"].where(rows["mixed"] != "yes")).to_parquet(path)
    studies.report("channels", tmp_path / "runs", tmp_path / "into")
    users = json.loads((tmp_path / "into" / "results.json").read_text())["users"]
    pair = "pmg_paper: channel = split \N{MINUS SIGN} channel = pictures"
    means = {title: group["paired"][pair]["lpips_truth"]["mean"] for title, group in users.items()}
    assert means == {
        "All users": pytest.approx(0.2 / 3),
        "Users with mixed = yes": pytest.approx(0.2),
        "Users with mixed = no": pytest.approx(0.0),
    }
    assert "concept_accuracy" not in users["Users with mixed = yes"]["paired"][pair]  # no value of any user


def test_families_have_the_cost_of_their_generators(studies, tmp_path):
    model, runs = tmp_path / "models" / "transformer", tmp_path / "studies" / "families"
    model.mkdir(parents=True)
    card = "| steps | 100 |\n| steps before | 50 |\n| GFLOP a step | 70.00 |\n"
    (model / "README.md").write_text(card)
    generators = {
        "looks": {"denoiser": {"folder": "<assets_dir>/none"}},
        "looks_transformer": {"denoiser": {"folder": "<output_dir>/models/transformer"}},
        "janus_looks": {"folder": "<assets_dir>/none"},
    }
    for name, generator in generators.items():
        for seed in (0, 1):
            folder = runs / f"{name}{seed}"
            own = {"name": name, "generator": generator}
            write_run(folder, own, dict.fromkeys(("flat", "ink", "clay"), 0.3), seed)
            results = json.loads((folder / "results.json").read_text())
            made = {"seconds": {"generate": 10.0 + seed}, "images": 42, "denoiser_evaluations": 84}
            results["cost"]["generate"] = made
            (folder / "results.json").write_text(json.dumps(results))
            rows = pd.read_parquet(folder / "rows.parquet")
            others = rows[rows["method"] == "pmg_paper"].assign(control="mismatched", lpips_truth=0.4)
            pd.concat([rows, others]).to_parquet(folder / "rows.parquet")
    studies.report("families", runs, tmp_path / "into")
    results = json.loads((tmp_path / "into" / "results.json").read_text())
    gained = results["users"]["All users"]["variants"]["generator = janus_looks"]["own_minus_mismatched"]
    assert gained["pmg_paper"]["lpips_truth"]["mean"] == pytest.approx(-0.1)
    found = results["generators"]["generator = looks_transformer"]
    assert found == {"seconds": 0.25, "evaluations": 2.0, "operations": 150 * 70e9}
    table = (tmp_path / "into" / "table.md").read_text()
    assert "own minus another user's preference" in table
    assert "| generator = looks_transformer | 0.250 | 2 | 0.01 |" in table
    assert "| generator = looks | 0.250 | 2 | not recorded |" in table


def test_seeds_of_a_study_without_factors_are_one_table(studies, tmp_path):
    for seed in (0, 1):
        config = {"generate_run": f"{ROOT}/outputs/generate"}
        write_run(tmp_path / "runs" / f"seed={seed}", config, dict.fromkeys(("flat", "ink", "clay"), 0.3), seed)
    studies.report("components", tmp_path / "runs", tmp_path / "into")
    results = json.loads((tmp_path / "into" / "results.json").read_text())
    assert results["arms"]["pmg_paper"]["lpips_truth"] == {"mean": 0.3, "low": 0.3, "high": 0.3, "n": 6, "seeds": 2}
    assert [run["config"]["generate_run"] for run in results["runs"]] == ["outputs/generate"] * 2


def test_folder_without_finished_runs_is_one_clear_line(studies, tmp_path):
    with pytest.raises(SystemExit, match="no finished run; run the study first"):
        studies.report("history", tmp_path, tmp_path / "into")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "paper", "demo_smoke", "look_chats", "real_users", "shop"])
def test_a_study_has_folders_of_its_own_and_single_commands_find_each_other(name):
    study = compose("study", [f"experiment={name}", "run_dir=sweep/0"])
    assert (study.train_run, study.generate_run, study.results_dir) == ("sweep/0/train", "sweep/0/generate", "sweep/0")
    train, generate, evaluate = (compose(verb, [f"experiment={name}"]) for verb in ("train", "generate", "evaluate"))
    assert (generate.train_run, evaluate.generate_run) == (train.run_dir, generate.run_dir)


def test_variants_of_other_seeds_are_one_clear_line(studies, tmp_path):
    for items, seeds in ((1, (0, 1, 2)), (12, (0, 2))):
        for seed in seeds:
            config = {"history_items": {"test": items}}
            write_run(tmp_path / f"{items},{seed}", config, dict.fromkeys(("flat", "ink", "clay"), 0.3), seed)
    with pytest.raises(SystemExit, match=r"has no finished run of seed 1 of items = 12; run the study again"):
        studies.report("history", tmp_path, tmp_path / "into")
    assert not (tmp_path / "into").exists()
