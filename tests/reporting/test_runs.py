from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from pmg.paths import natural_key
from pmg.records.storage import read_records
from pmg.reporting.artifacts import gather, read_curves
from pmg.reporting.runs import find_runs, read_runs
from pmg.reporting.samples import ReferenceReader, build_grid
from runs import record, write_curve, write_records, write_rows, write_run


def write_study(folder, seed=0):
    """A study with the part that generated."""
    write_run(folder, "study", seed=seed, config={"generate_run": f"{folder}/generate"})
    write_run(folder / "generate", "generate", seed=seed, config={"run_dir": f"{folder}/generate"})
    return folder


def test_a_part_is_no_run_however_often_its_folder_is_named(tmp_path):
    one = write_study(tmp_path / "sweep" / "items=12")
    two = write_study(tmp_path / "sweep" / "items=2")
    assert find_runs([tmp_path, one, one / "generate"]) == [two, one]
    runs = read_runs([tmp_path])
    assert [run.name for run in runs] == ["items=2", "items=12"]
    assert [part.name for part in runs[1].parts] == ["items=12/generate"]
    assert runs[1].cost == {"seconds": 2.0, "denoiser_evaluations": 10, "ram_mib": 100.0}


def test_names_are_sorted_by_the_numbers_in_them():
    names = ["alpha=0.25", "alpha=0.5", "alpha=1.0,seed=2", "alpha=1.0,seed=10", "beta"]
    assert sorted([*names[2:], *names[:2]], key=natural_key) == names


def test_runs_that_did_not_end_well_are_kept_with_the_reason(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", status="failed", error="PmgError: no\nlight")
    write_run(tmp_path / "c", status="interrupted", error="KeyboardInterrupt: ")
    write_run(tmp_path / "d", status="running")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "metrics.json").write_text('{"command": ')
    (write_run(tmp_path / "f") / "config.yaml").write_text("seed: [")
    facts = json.loads((write_run(tmp_path / "g") / "metrics.json").read_text())
    del facts["identity"]
    (tmp_path / "g" / "metrics.json").write_text(json.dumps(facts))
    problems = {run.name: (run.status, run.problem) for run in read_runs([tmp_path])}
    assert problems["a"] == ("completed", "")
    assert problems["b"] == ("failed", "PmgError: no light")
    assert "interrupted" in problems["c"][1]
    assert "killed" in problems["d"][1]
    assert [problems[name][0] for name in "efg"] == ["damaged"] * 3
    assert "metrics.json" in problems["e"][1]
    assert f"'identity'. Remove {tmp_path}/g and run the same pmg-train command again" in problems["g"][1]


@pytest.mark.parametrize("absolute", [True, False])
def test_results_elsewhere_are_found_after_all_was_moved(tmp_path, absolute):
    root = tmp_path / "old" if absolute else "outputs"
    config = {"run_dir": f"{root}/demo/evaluate", "results_dir": f"{root}/demo"}
    write_run(tmp_path / "new" / "outputs" / "demo" / "evaluate", "evaluate", config=config)
    write_rows(tmp_path / "new" / "outputs" / "demo", [0.1, 0.3])
    runs = read_runs([tmp_path / "new"])
    assert set(gather(runs).rows[0]["method"]) == {"none", "pmg_paper"}


def test_a_resumed_curve_is_one_curve(tmp_path):
    run = write_run(tmp_path / "a")
    write_curve(run, [1, 2, 3, 4], version=2)
    write_curve(run, [3, 4, 5], version=10)  # after the checkpoint of step 2
    curve = read_curves(read_runs([run])[0])
    assert curve["step"].tolist() == [1, 2, 3, 4, 5]
    assert (curve["val/denoise"] > 10).tolist() == [False, False, True, True, True]


def test_generated_images_count_once_where_one_of_the_runs_judged_them(tmp_path):
    records = [record(f"u{n}", [(0.2, 0.4), (0.3, 0.2)]) for n in range(3)]
    write_records(write_run(tmp_path / "generate", "generate"), records)
    evaluate = write_run(tmp_path / "evaluate", "evaluate", config={"generate_run": f"{tmp_path}/generate"})
    write_rows(evaluate, [0.1, 0.2, 0.3])
    both = gather(read_runs([tmp_path]))
    assert (set(both.rows), set(both.records)) == ({0}, {1})
    alone = gather(read_runs([tmp_path / "generate"]))
    assert alone.rows[0]["selection_accuracy"].tolist() == pytest.approx([0.4] * 3)
    judged = gather(read_runs([evaluate]))  # its samples are those that it judged
    assert set(judged.records) == {0}
    shutil.rmtree(tmp_path / "generate")
    assert not gather(read_runs([evaluate])).records


def test_a_picture_that_was_changed_is_not_shown(tmp_path):
    write_records(tmp_path, [record("u", [(0.2, 0.4)])])
    (made,) = read_records(tmp_path)

    def shown():
        return build_grid("", tmp_path, [made], 1, ReferenceReader()).rows[0].samples["pmg_paper"].image

    assert shown().startswith("data:image/webp")
    Image.new("RGB", (16, 16), "red").save(tmp_path / made.image)
    assert shown() == ""


def test_damaged_results_are_named_and_cost_no_other_run(tmp_path):
    write_rows(write_run(tmp_path / "a", "evaluate"), [0.1])
    (write_run(tmp_path / "b", "evaluate") / "rows.parquet").write_text("nothing")
    write_run(tmp_path / "c", "evaluate")
    found = gather(read_runs([tmp_path]))
    assert set(found.rows) == {0}
    assert set(found.problems) == {1, 2}
    assert "results.json can't be read (FileNotFoundError)" in found.problems[2]
