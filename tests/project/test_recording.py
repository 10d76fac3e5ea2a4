"""What experiments/record.py writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = "# study\n\n<!-- study-table -->\nold\n<!-- end of study-table -->\n"


@pytest.fixture
def recording(scripts, monkeypatch, tmp_path):
    """The module experiments/record.py, whose studies are in a folder of the test."""
    import record

    monkeypatch.setattr(record, "HERE", tmp_path / "experiments")
    (tmp_path / "experiments" / "study").mkdir(parents=True)
    (tmp_path / "experiments" / "study" / "README.md").write_text(PAGE)
    return record


def write_run(folder):
    """Results of a finished run."""
    folder.mkdir()
    for name in ("results.json", "rows.parquet"):
        (folder / name).write_text("{}")
    (folder / "table.md").write_text("| new |\n")
    return folder


def test_results_are_copied_and_the_page_is_filled(recording, tmp_path):
    recording.record(write_run(tmp_path / "run"), "study")
    folder = tmp_path / "experiments" / "study"
    assert {path.name for path in folder.iterdir()} == {"README.md", "results.json", "rows.parquet", "table.md"}
    assert (folder / "README.md").read_text() == PAGE.replace("old", "| new |")


def test_a_study_that_does_not_exist_is_refused_and_no_folder_is_made(recording, tmp_path):
    with pytest.raises(SystemExit, match=r"studdy has no README\.md"):
        recording.record(write_run(tmp_path / "run"), "studdy")
    assert not (tmp_path / "experiments" / "studdy").exists()


@pytest.mark.parametrize("missing", ["rows.parquet", "table.md"])
def test_a_run_without_results_is_refused_before_anything_is_copied(recording, tmp_path, missing):
    (write_run(tmp_path / "run") / missing).unlink()
    with pytest.raises(SystemExit, match=f"has no {missing}; run the study first"):
        recording.record(tmp_path / "run", "study")
    assert {path.name for path in (tmp_path / "experiments" / "study").iterdir()} == {"README.md"}


def test_a_page_without_markers_is_refused_before_anything_is_copied(recording, tmp_path):
    page = tmp_path / "experiments" / "study" / "README.md"
    page.write_text("# study\n")
    with pytest.raises(SystemExit, match="no markers for the table of 'study'"):
        recording.record(write_run(tmp_path / "run"), "study")
    assert [path.name for path in page.parent.iterdir()] == ["README.md"]


def test_results_table_and_page_of_a_study_are_written_together(recording, tmp_path):
    folder = tmp_path / "experiments" / "study"
    recording.write_study(folder, "study", {"a": 1}, "| new |\n")
    assert json.loads((folder / "results.json").read_text()) == {"a": 1}
    assert (folder / "table.md").read_text() in (folder / "README.md").read_text()
    recording.write_study(tmp_path / "trial", "study", {}, "")
    assert {path.name for path in (tmp_path / "trial").iterdir()} == {"results.json", "table.md"}


def test_numbers_in_tables_have_true_minus_signs(recording):
    shown = recording.show({"mean": -0.25, "low": -0.5, "high": 0.125}, "+")
    assert shown == "\N{MINUS SIGN}0.250 [\N{MINUS SIGN}0.500, +0.125]"
    assert recording.markdown(["a", "b", "c"], [["x", "y", shown]], 2).splitlines()[1:] == [
        "|---|---|---:|", f"| x | y | {shown} |",
    ]  # fmt: skip
