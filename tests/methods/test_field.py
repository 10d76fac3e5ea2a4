"""The benchmark: ranks against cases worked by hand, submissions that are added, tampered ones that are refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from pmg.commands import report
from pmg.configuration.identity import hash_images
from pmg.domain import PmgError
from pmg.evaluation.metric_interface import MetricInfo
from pmg.evaluation.results import ResultBuilder, write_results
from pmg.methods.field.benchmark import MEASURES, Benchmark, Result, read_all, read_benchmark
from pmg.methods.field.command import run
from pmg.methods.field.page import build_channel, rank_methods, rank_rows
from pmg.methods.field.submission import CHANNEL
from pmg.records.storage import Candidate, Record, RecordWriter
from pmg.runs.content import digest_file
from pmg.seeding import stable_number

CELLS = [(channel, seed) for channel in ("pictures", "split") for seed in (0, 1)]
USERS = [f"test-{number}" for number in range(6)]
SETTINGS = {
    "data.looks.users.test": 6, "data.folder.content": "d" * 64, "split": "test", "split_sizes.test": 6,
    "targets.test": 1, "sampling.steps": 4, "generator.folder.content": "9" * 64,
    "metrics.look_accuracy.judge.folder.content": "a" * 64, "metrics.lpips_truth.perceptual.folder.content": "b" * 64,
}  # fmt: skip
OF_METHOD = {
    "method.mine.soft_tokens": "mine", "preference.mine._target_": "my_sources.Mine", "preference.mine.run.seed": 0,
}  # fmt: skip


def write_study(
    folder, channel, seed, *, users=USERS, candidates=1, settings=SETTINGS, groups=("met", "unseen_artist"),
    missing=False,
):  # fmt: skip
    """Writes what pmg-study leaves of one channel and seed, by the writers that it uses."""
    rng = np.random.default_rng(stable_number(channel, seed))
    metrics = {key: value for key, value in settings.items() if key.startswith("metrics.")}
    identity = {"seed": seed, "data.channel": channel, **OF_METHOD, **settings}
    identity = {key: value for key, value in identity.items() if key not in metrics}
    hashes = {"config": hash_images(identity)}
    candidate = Candidate(1.0, 1.0, None, 0.5, 0.0)
    writer, rows = RecordWriter(folder / "generate"), []
    for method in ("none", "mine"):
        writer.add(
            torch.from_numpy(rng.uniform(-1, 1, (len(users), 3, 8, 8))).float(),
            [
                Record(f"{user}-0", user, method, "own", user, seed, (candidate,) * candidates, hashes=hashes)
                for user in users
            ],
        )
        rows += [
            {
                "example": f"{user}-0", "user": user, "group": groups[place % 2], "method": method,
                "control": "own", "seed": seed, **{name: rng.uniform() for name in MEASURES},
            }
            for place, user in enumerate(users)
        ]  # fmt: skip
    records = digest_file(folder / "generate" / "records.jsonl")
    frame, infos = pd.DataFrame(rows), [MetricInfo(name, name) for name in MEASURES]
    if missing:
        frame.loc[frame.index[-1], "finish_error"] = np.nan
    write_results(folder, {**ResultBuilder(infos).build(frame), "records": records}, frame)
    facts = {"status": "completed", "git": {"revision": "r" * 40}, "hardware": {"cores": 2}}
    evaluated = {**metrics, **{f"generate_run.{key}": value for key, value in identity.items()}}
    made = {
        "generate": (identity, {"records.jsonl": records}),
        "evaluate": (evaluated, {"../results.json": digest_file(folder / "results.json")}),
    }
    for part, (about, files) in made.items():
        content = {**facts, "identity": about, "command": part, "made": files}
        write_json(folder / part / "metrics.json", content)


def write_json(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Runs of two methods on all channels and seeds, and a benchmark that was defined by them."""
    base = tmp_path_factory.mktemp("field")
    for channel, seed in CELLS:
        write_study(base / "runs" / f"channel={channel},seed={seed}", channel, seed)
    run(["--define", "3", "--add", str(base / "runs"), "--method", "none", "--folder", str(base / "field")])
    return base


@pytest.fixture
def field(finished, tmp_path):
    """A copy of them that may be changed."""
    return SimpleNamespace(**{name: shutil.copytree(finished / name, tmp_path / name) for name in ("runs", "field")})


def add(field, *more):
    return run(["--add", str(field.runs), *more, "--folder", str(field.field)])


def test_ranks_by_hand():
    assert rank_rows(np.array([[0.3, 0.1, 0.3, 0.2]])).tolist() == [[3, 1, 3, 2]]
    near = np.array([0.1, 0.3, 0.1, 0.3])
    found = rank_methods({"far": near + 1, "a": near, "same": near}, lower_is_better=True)
    assert list(found) == ["a", "same", "far"]
    assert [(each.rank, each.best, each.worst, each.firsts) for each in found.values()] == [
        (1, 1, 1, 1.0), (1, 1, 1, 1.0), (3, 3, 3, 0.0),
    ]  # fmt: skip
    assert found["a"].behind is None
    assert (found["same"].behind.low, found["same"].behind.high) == (0, 0)
    assert found["far"].behind.mean == pytest.approx(1)
    assert rank_methods({"far": near + 1, "a": near}, lower_is_better=False)["far"].rank == 1


def result(method, **cells):
    """A result with one value for all measures and users of a cell."""
    cells = {f"{channel}/0": dict.fromkeys(MEASURES, [value] * 4) for channel, value in cells.items()}
    about = {"benchmark": "", "version": 1, "settings": {}, "trained": False, "revision": None, "machine": {}}
    return Result(method=method, cells=cells, sources={}, **about)


def test_the_way_to_the_oracle_begins_at_the_baseline():
    world = {"channels": ("split",), "seeds": (0,), "candidates": 1, "settings": {}}
    benchmark = Benchmark(version=1, groups=dict.fromkeys("abcd", "met"), **world)
    values = {"none": 0.4, "mine": 0.25, "oracle": 0.2}
    table = build_channel("split", benchmark, {name: result(name, split=value) for name, value in values.items()})
    column = table.header.index("way to the oracle ↑")
    assert {row[0].text: row[column].text for row in table.rows} == {"none": "0.00", "mine": "0.75", "oracle": "1.00"}


def test_new_cells_take_the_place_of_earlier_ones():
    joined = result("mine", split=0.1).beside(result("mine", split=0.2, pictures=0.3))
    assert {cell: values["lpips_truth"][0] for cell, values in joined.cells.items()} == {
        "split/0": 0.1, "pictures/0": 0.3,
    }  # fmt: skip
    assert joined.digest == joined.compute_digest()


def test_methods_that_resamples_rank_either_way_share_the_ranks():
    apart = rank_methods({"a": np.array([0.0, 1.0] * 20), "b": np.array([1.0, 0.0] * 20)}, lower_is_better=True)
    assert {(each.best, each.worst) for each in apart.values()} == {(1, 2)}
    assert sum(each.firsts for each in apart.values()) >= 1
    assert apart["b"].behind.low < 0 < apart["b"].behind.high
    noisy = np.random.default_rng(0).normal(0.5, 0.3, 150)
    ranked = rank_methods({"a": noisy, "b": noisy + 0.01, "c": 0.02 + noisy[::-1]}, lower_is_better=True)
    assert (ranked["a"].rank, ranked["b"].rank) == (1, 2)
    assert ranked["b"].behind.low == pytest.approx(0.01)  # a constant lead shows beside a method that varies
    assert ranked["c"].behind.low < 0


def test_a_submission_is_added_and_the_page_is_made_of_result_files_alone(field):
    page = add(field, "--method", "mine")
    results = read_all(field.field, read_benchmark(field.field))
    assert list(results) == ["mine", "none"]
    mine = results["mine"]
    rows = pd.read_parquet(field.runs / "channel=split,seed=1" / "rows.parquet")
    rows = rows[rows["method"] == "mine"].sort_values("example")
    assert mine.cells["split/1"]["lpips_truth"] == pytest.approx(rows["lpips_truth"].tolist(), abs=1e-4)
    assert (mine.trained, results["none"].trained) == (True, False)
    assert mine.settings == {
        "method.mine.soft_tokens": "mine",
        "preference.mine._target_": "my_sources.Mine",
        "sampling.steps": 4,
    }
    text = Path(page).read_text()
    assert "## pictures: 6 users, seeds 0, 1" in text
    shutil.rmtree(field.runs)
    assert Path(run(["--folder", str(field.field)])).read_text() == text


def test_what_was_computed_elsewhere_for_each_channel_is_a_training(field):
    for channel, seed in CELLS:
        file = {"preference.stored.file": f"{channel}.safetensors", "preference.stored.file.content": channel * 9}
        settings = SETTINGS | {"method.mine.soft_tokens": "stored"} | file
        write_study(field.runs / f"channel={channel},seed={seed}", channel, seed, settings=settings)
    add(field, "--method", "none", "mine")
    results = read_all(field.field, read_benchmark(field.field))
    assert [results[name].trained for name in ("mine", "none")] == [True, False]
    assert not [key for key in results["mine"].settings if "file" in key]


def test_a_method_may_leave_out_a_channel_that_it_cant_read(field):
    add(field, "--method", "none")
    for folder in field.runs.glob("channel=split,*"):
        shutil.rmtree(folder)
    page = Path(add(field, "--method", "mine")).read_text()
    tables = dict(zip(("before", "pictures", "split", "groups"), page.split("\n## "), strict=True))
    assert [("| mine |" in tables[name], "| none |" in tables[name]) for name in ("pictures", "split")] == [
        (True, True), (False, True),
    ]  # fmt: skip
    add(field, "--method", "none")  # its other channel stays
    assert read_all(field.field, read_benchmark(field.field))["none"].has("split")
    for folder in field.runs.glob("channel=pictures,*"):
        shutil.rmtree(folder)
    write_study(field.runs / "channel=split,seed=0", "split", 0)
    write_study(field.runs / "channel=split,seed=1", "split", 1)
    add(field, "--method", "mine")
    joined = read_all(field.field, read_benchmark(field.field))["mine"]
    assert set(joined.cells) == {f"{channel}/{seed}" for channel, seed in CELLS}
    assert {name.partition(" ")[0] for name in joined.sources} == set(joined.cells)
    row = next(line for line in tables["groups"].splitlines() if line.startswith("| mine |"))
    assert [cell.strip() for cell in row.split("|")[4:6]] == ["–", "–"]


def test_what_methods_take_is_shown_of_those_that_were_measured(field):
    costs = {"channel": "split", "users": 24, "machine": {"cores": 2}, "revision": None}
    write_json(
        field.field / "costs.json", costs | {"methods": {"mine": {"read": 1.5, "draw": 0.2, "memory_mib": 2345.6}}}
    )
    page = Path(add(field)).read_text()
    assert page.count("| 1.50 + 0.20 | 2,346 |") == 2
    write_json(field.field / "costs.json", costs | {"methods": {"mine": {"read": "quick"}}})
    with pytest.raises(PmgError, match=r"costs\.json can't be read"):
        add(field)


def test_all_methods_of_runs_are_added_by_default(field):
    add(field)
    assert sorted(path.stem for path in (field.field / "results").glob("*.json")) == ["mine", "none"]


def rewrite(field, *cells, **changes):
    """Makes the runs of cells anew, as somebody would who ran another config; without any, all of them."""
    for channel, seed in cells or CELLS:
        folder = field.runs / f"channel={channel},seed={seed}"
        shutil.rmtree(folder)
        write_study(folder, channel, seed, **changes)


def with_settings(**changes):
    return {"settings": {**SETTINGS, **{name.replace("__", "."): value for name, value in changes.items()}}}


OTHER_CONFIGS = {
    "other users": ({"users": [*USERS[:5], "test-99"]}, r"its rows are not of the benchmark's users, e\.g\. test-5-0"),
    "fewer users": ({"users": USERS[:4]}, "its rows are not of the benchmark's users"),
    "other groups": ({"groups": ("unseen_artist", "met")}, "of group unseen_artist, in the benchmark of met"),
    "more candidates": ({"candidates": 4}, "4 candidates of test-0-0; at most 1"),
    "a measure without a value": ({"missing": True}, "no finish_error of some example"),
    "another judge": (
        with_settings(metrics__look_accuracy__judge__folder__content="c" * 64), "judge.folder.content is 'ccc",
    ),
    "another data set": (with_settings(data__folder__content="e" * 64), "data.folder.content is 'eee"),
    "another split": (with_settings(split="validation"), "split is 'validation', and version 3"),
    "another generator": (with_settings(generator__folder__content="f" * 64), "generator.folder.content is 'fff"),
    "more steps": (with_settings(sampling__steps=50), "sampling.steps is 50"),
    "a judge that selects": (with_settings(scorer__folder__content="a" * 64), "scorer.folder.content is a model that"),
        "a dial that differs": (
        with_settings(preference__mine__words=9), "method mine: preference.mine.words differs between",
    ),
    "a judge in a training": (
        with_settings(preference__mine__run__scorer__folder__content="b" * 64), "is a model that judges; no training",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), OTHER_CONFIGS.values(), ids=OTHER_CONFIGS)
def test_runs_of_another_config_are_refused(field, changes, message):
    rewrite(field, ("split", 1), **changes)
    with pytest.raises(PmgError, match=message) as refusal:
        add(field, "--method", "mine")
    assert "\n" not in str(refusal.value)
    assert not (field.field / "results" / "mine.json").exists()


def edit_rows(folder):
    rows = pd.read_parquet(folder / "rows.parquet")
    rows["lpips_truth"] *= 0.5
    rows.to_parquet(folder / "rows.parquet", index=False)


def edit_rows_and_results(folder):
    """Writes better rows with new digests, as pmg-evaluate would."""
    results, rows = json.loads((folder / "results.json").read_text()), pd.read_parquet(folder / "rows.parquet")
    results.pop("digest")
    write_results(folder, results, rows.assign(lpips_truth=0.1))


def swap_pictures(folder):
    mine = folder / "generate" / "images" / "mine" / "own"
    first, second, *_ = sorted(mine.glob("*.png"))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def edit_records(folder):
    path = folder / "generate" / "records.jsonl"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))


def relabel(folder):
    """Passes one run off as that of another channel."""
    edit(folder / "generate" / "metrics.json", lambda content: content["identity"].update({CHANNEL: "pictures"}))
    other = {f"generate_run.{CHANNEL}": "pictures"}
    edit(folder / "evaluate" / "metrics.json", lambda content: content["identity"].update(other))


def judge_otherwise(folder):
    """Takes the evaluation of another generation."""
    other = {"generate_run.sampling.scales.soft": 9.0}
    edit(folder / "evaluate" / "metrics.json", lambda content: content["identity"].update(other))


EDITED = {
    "another channel": (relabel, "was made by another config than the run's"),
    "another evaluation": (judge_otherwise, "is of other images than"),
    "edited rows": (edit_rows, "holds other rows than the results.json"),
    "edited results": (
        lambda folder: edit(folder / "results.json", lambda content: content.update(cost={"x": 1})),
        "was changed after it was written",
    ),
    "edited rows and results": (edit_rows_and_results, "results.json is not what this run made"),
    "swapped pictures": (swap_pictures, "is not the picture that was made"),
    "edited records": (edit_records, "records.jsonl is not what this run made"),
    "unfinished": (
        lambda folder: edit(folder / "evaluate" / "metrics.json", lambda content: content.update(status="failed")),
        "is not the folder of a finished run",
    ),
    "a missing seed": (shutil.rmtree, "no run of split/1; of its channels a submission has one of each"),
    "a seed twice": (
        lambda folder: shutil.copytree(folder, folder.with_name("again")), "two runs of split/1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tamper", "message"), EDITED.values(), ids=EDITED)
def test_edited_runs_are_refused(field, tamper, message):
    tamper(field.runs / "channel=split,seed=1")
    with pytest.raises(PmgError, match=message) as refusal:
        add(field, "--method", "mine")
    assert "\n" not in str(refusal.value)


def test_edited_results_and_other_versions_are_never_mixed(field):
    add(field)
    path = field.field / "results" / "mine.json"
    kept = path.read_text()
    edit(path, lambda content: content["cells"]["split/0"]["lpips_truth"].__setitem__(0, 0.0))
    with pytest.raises(PmgError, match=r"mine\.json was changed after it was written"):
        run(["--folder", str(field.field)])
    older = Result.model_validate({**json.loads(kept), "version": 2, "benchmark": "0" * 64})
    path.write_text(older.model_copy(update={"digest": older.compute_digest()}).model_dump_json())
    with pytest.raises(PmgError, match=r"mine\.json is of version 2 .* defines another \(version 3\)"):
        run(["--folder", str(field.field)])
    path.write_text(json.dumps({**json.loads(kept), "lpips": 0.1}))
    with pytest.raises(PmgError, match=r"mine\.json can't be read: .*lpips"):
        run(["--folder", str(field.field)])


def test_a_name_is_not_taken_twice(field):
    add(field)
    rewrite(field, **with_settings(preference__mine__words=9))
    with pytest.raises(PmgError, match="has a 'mine' of other settings: rename, or --replace it"):
        add(field)
    add(field, "--replace")
    assert read_all(field.field, read_benchmark(field.field))["mine"].settings["preference.mine.words"] == 9


def test_a_new_definition_never_meets_old_results(field):
    rewrite(field, **with_settings(sampling__steps=9))
    before = (field.field / "benchmark.json").read_text()
    for version, message in ((3, "has version 3 of the benchmark, which differs"), (4, "has results of version 3")):
        with pytest.raises(PmgError, match=message):
            add(field, "--define", str(version))
        assert (field.field / "benchmark.json").read_text() == before
    shutil.rmtree(field.field / "results")
    add(field, "--define", "4")
    assert read_benchmark(field.field).version == 4


def test_upper_bounds_have_no_rank_whatever_their_name(field):
    exact = {"preference.mine._target_": "pmg.looks.style_tokens.TrueStyleTokens"}
    rewrite(field, settings={**SETTINGS, **exact})
    page = Path(add(field)).read_text()
    assert "| mine | – | – | – |" in page
    assert "| none | 1 [1–1] | 100% | – |" in page


def test_the_command_says_what_is_wrong_in_one_line(field, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["pmg-report", "field", *map(str, arguments)])
        report.main()
        return capsys.readouterr()

    assert call("--folder", field.field).out.strip().endswith("README.md")
    for arguments, message in [
        (["--folder", field.runs], "benchmark.json is missing"),
        (["--define", 1], "--replace need runs"),
        (["--method", "mine"], "--replace need runs"),
        (["--methods", "mine"], "unrecognized arguments: --methods mine; see pmg-report field --help"),
        (["--add", field.field, "--folder", field.field], "no finished run there"),
        (
            ["--add", field.runs, "--method", "mime", "--folder", field.field],
            "no such method in these runs",
        ),
    ]:
        with pytest.raises(SystemExit):
            call(*arguments)
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message.lower() in error.lower()


@pytest.mark.ci
@pytest.mark.slow
def test_the_recorded_table_is_that_of_the_recorded_results(root, tmp_path):
    recorded = shutil.copytree(root / "experiments" / "field", tmp_path / "field")
    benchmark = read_benchmark(recorded)
    results = read_all(recorded, benchmark)
    assert {"none", "mean_style", "pmg_read", "oracle"} <= set(results)
    for result in results.values():
        channels = {cell.partition("/")[0] for cell in result.cells}
        assert set(result.cells) == set(benchmark.cells_of(channels)) <= set(benchmark.cells_of(benchmark.channels))
        assert all(len(values[name]) == len(benchmark.groups) for values in result.cells.values() for name in MEASURES)
    page = (recorded / "README.md").read_text()
    run(["--folder", str(recorded)])
    assert (recorded / "README.md").read_text() == page


def test_the_benchmark_defines_every_option_of_the_world_it_is_run_in(root, compose):
    """An option that is added to the world later would have every new run refused."""
    settings = read_benchmark(root / "experiments" / "field").settings
    cfg = OmegaConf.to_container(compose("study", "experiment=field"), resolve=True)

    def flatten(node, key):
        if isinstance(node, dict):
            return {
                name: value for part, inner in node.items() for name, value in flatten(inner, f"{key}.{part}").items()
            }
        return {key: node}

    for group in ("data", "generator", "text_encoder"):
        for key, value in flatten(cfg[group], group).items():
            if key != CHANNEL and not key.endswith((".folder", ".source")):
                assert settings.get(key) == value, key
