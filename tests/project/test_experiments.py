"""Reports of studies, from runs of known rows."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pmg.configuration.compose import compose
from pmg.domain import PmgError
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.metric_interface import describe
from pmg.evaluation.metrics.lpips import LpipsToTruth
from pmg.looks.metrics import LookAccuracy
from pmg.reporting.studies import StudyTable, UserGroups, read_study
from pmg.reporting.study_report import report_study, split_users, write_table

ROOT = Path(__file__).resolve().parents[2]
SHOWN = [*LookAccuracy.outputs[:2], *LpipsToTruth.outputs]


def spec_of(study, table):
    """The table of a study in experiments/."""
    return read_study(study, ROOT / "experiments").tables[table]


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


def test_variants_stand_in_the_order_of_their_values_and_are_compared_in_pairs(tmp_path):
    for items, lpips in ((12, 0.2), (2, 0.4), (1, 0.5)):
        config = {"history_items": {"test": items}}
        write_run(tmp_path / "runs" / f"items={items}", config, dict.fromkeys(("flat", "ink", "clay"), lpips))
    write_table("history", spec_of("ablations", "history"), tmp_path / "runs", tmp_path / "into")
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


def test_variants_that_train_have_their_speed(tmp_path):
    for name in ("denoise", "align"):
        write_run(tmp_path / "runs" / name, {"name": name}, dict.fromkeys(("flat", "ink", "clay"), 0.3))
    write_table("optimise", spec_of("optimise", "optimise"), tmp_path / "runs", tmp_path / "into")
    results = json.loads((tmp_path / "into" / "results.json").read_text())
    assert results["speed"] == {name: [10 * 4 * 2 / 20.0] for name in ("objective = align", "objective = denoise")}


@pytest.mark.ci
@pytest.mark.slow
def test_users_whose_clicks_are_mixed_have_tables_of_their_own(tmp_path):
    spec = StudyTable({"channel": "data.channel"}, ["none", "pmg_paper"], "channel = pictures", by=UserGroups("mixed"))
    for channel, lpips in (("split", 0.4), ("pictures", 0.2)):
        tastes = {"flat": lpips, "ink": 0.3, "clay": 0.3}
        write_run(tmp_path / "runs" / channel, {"data": {"channel": channel}}, tastes)
        path = tmp_path / "runs" / channel / "rows.parquet"
        rows = pd.read_parquet(path)
        rows = rows.assign(mixed=rows["taste"].map({"flat": "yes"}).fillna("no"))
        rows.assign(concept_accuracy=rows["concept_accuracy"].where(rows["mixed"] != "yes")).to_parquet(path)
    write_table("channels", spec, tmp_path / "runs", tmp_path / "into")
    users = json.loads((tmp_path / "into" / "results.json").read_text())["users"]
    pair = "pmg_paper: channel = split \N{MINUS SIGN} channel = pictures"
    means = {title: group["paired"][pair]["lpips_truth"]["mean"] for title, group in users.items()}
    assert means == {
        "All users": pytest.approx(0.2 / 3),
        "Users with mixed = yes": pytest.approx(0.2),
        "Users with mixed = no": pytest.approx(0.0),
    }
    assert "concept_accuracy" not in users["Users with mixed = yes"]["paired"][pair]  # no value of any user


def test_families_have_the_cost_of_their_generators(tmp_path):
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
    write_table("families", spec_of("families", "families"), runs, tmp_path / "into")
    results = json.loads((tmp_path / "into" / "results.json").read_text())
    gained = results["users"]["All users"]["variants"]["generator = janus_looks"]["own_minus_mismatched"]
    assert gained["pmg_paper"]["lpips_truth"]["mean"] == pytest.approx(-0.1)
    found = results["generators"]["generator = looks_transformer"]
    assert found == {"seconds": 0.25, "evaluations": 2.0, "operations": 150 * 70e9}
    table = (tmp_path / "into" / "table.md").read_text()
    assert "own minus another user's preference" in table
    assert "| generator = looks_transformer | 0.250 | 2 | 0.01 |" in table
    assert "| generator = looks | 0.250 | 2 | not recorded |" in table


def test_seeds_of_a_study_without_factors_are_one_table(tmp_path):
    for seed in (0, 1):
        config = {"generate_run": f"{Path.cwd()}/outputs/generate"}
        write_run(tmp_path / "runs" / f"seed={seed}", config, dict.fromkeys(("flat", "ink", "clay"), 0.3), seed)
    write_table("components", spec_of("components", "components"), tmp_path / "runs", tmp_path / "into")
    results = json.loads((tmp_path / "into" / "results.json").read_text())
    assert results["methods"]["pmg_paper"]["lpips_truth"] == {"mean": 0.3, "low": 0.3, "high": 0.3, "n": 6, "seeds": 2}
    assert [run["config"]["generate_run"] for run in results["runs"]] == ["outputs/generate"] * 2


def test_folder_without_finished_runs_is_one_clear_line(tmp_path):
    with pytest.raises(PmgError, match=r"no finished run\. Run the study first"):
        write_table("history", spec_of("ablations", "history"), tmp_path, tmp_path / "into")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "paper", "demo_smoke", "look_chats", "real_users", "shop"])
def test_a_study_has_folders_of_its_own_and_single_commands_find_each_other(name):
    study = compose("study", [f"experiment={name}", "run_dir=sweep/0"])
    assert (study.train_run, study.generate_run, study.results_dir) == ("sweep/0/train", "sweep/0/generate", "sweep/0")
    train, generate, evaluate = (compose(verb, [f"experiment={name}"]) for verb in ("train", "generate", "evaluate"))
    assert (generate.train_run, evaluate.generate_run) == (train.run_dir, generate.run_dir)


def test_variants_of_other_seeds_are_one_clear_line(tmp_path):
    for items, seeds in ((1, (0, 1, 2)), (12, (0, 2))):
        for seed in seeds:
            config = {"history_items": {"test": items}}
            write_run(tmp_path / f"{items},{seed}", config, dict.fromkeys(("flat", "ink", "clay"), 0.3), seed)
    with pytest.raises(PmgError, match=r"has no finished run of seed 1 of items = 12\. Run the study again"):
        write_table("history", spec_of("ablations", "history"), tmp_path, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_users_are_grouped_by_patterns_that_leave_nobody_out():
    """Of the study of drawings to start from: users whose artist draws lines alone, and others."""
    looks = ["noto-line", "noto-line:ink", "noto", "openmoji", "openmoji-black:flat"]
    parts = split_users(pd.DataFrame({"look": looks}), spec_of("accuracy", "starts").by)
    assert {title: list(part["look"]) for title, part in parts.items()} == {
        "All users": looks,
        "Users with line art": ["noto-line", "noto-line:ink", "openmoji-black:flat"],
        "Users with colour": ["noto", "openmoji"],
    }


def test_what_runs_read_is_recorded_by_its_place(tmp_path):
    folder = tmp_path / "runs" / "seed=0"
    write_run(folder, {}, dict.fromkeys(("flat", "ink", "clay"), 0.3))
    (folder / "generate").mkdir()
    identity = {"generator.folder": "<assets_dir>/unet", "generator.folder.content": "abc", "seed": 0}
    (folder / "generate" / "metrics.json").write_text(json.dumps({"identity": identity}))
    write_table("components", StudyTable(), tmp_path / "runs", tmp_path / "into")
    (run,) = json.loads((tmp_path / "into" / "results.json").read_text())["runs"]
    assert run["content"] == {"<assets_dir>/unet": "abc"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("*/study.yaml")), ids=lambda path: path.parent.name
)
def test_a_study_has_a_page_and_each_table_its_recorded_results(path):
    name, study = path.parent.name, read_study(path.parent.name, ROOT / "experiments")
    page = (path.parent / "README.md").read_text()
    for table, spec in study.tables.items():
        recorded = path.parent if table == name else path.parent / table
        results = json.loads((recorded / "results.json").read_text())
        methods = set(pd.read_parquet(recorded / "rows.parquet")["method"])
        assert set(spec.methods) <= methods
        if spec.factors:
            (first, *_) = results["users"].values()
            wanted = {label for pair in spec.pairs for label in pair.variants} | ({spec.base} - {""})
            assert wanted <= first["variants"].keys()
        assert f"<!-- {table}-table -->" in page or f"{table}/table.md" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question: a\ncommands: []\ntabels: {}\n", "tabels"),
        ("question: a\ncommands: [{run: a, hours: b}]\n", "hours"),
    ],
)
def test_a_wrong_key_or_value_of_a_study_is_one_clear_line(tmp_path, text, message):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.yaml").write_text(text)
    with pytest.raises(PmgError, match=rf"study\.yaml: .*(?s:{message}|'b').*"):
        read_study("mine", tmp_path)


def test_an_unknown_study_is_refused_with_those_that_exist():
    with pytest.raises(PmgError, match=r"unknown study: 'tokens'\. Name one of ablations, accuracy"):
        report_study("tokens", ROOT, ROOT)
