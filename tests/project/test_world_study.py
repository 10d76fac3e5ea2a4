"""What experiments/world/compare.py says of two folders of experiments/world/run.py, and what it refuses."""

from __future__ import annotations

import pandas as pd
import pytest


@pytest.fixture
def study(scripts):
    """The module experiments/world/compare.py."""
    from experiments.world import compare

    return compare


def write_rows(study, folder, questions, lpips, artist):
    """Rows of one method of the group `met`: a question each, whose other metrics are 0."""
    folder.mkdir()
    columns = dict.fromkeys(study.METRICS, 0.0) | {"lpips_truth": lpips, "artist": artist}
    asked = {"question": questions, "drawing": [7, 7, 9], "line_art": [True, True, False]}
    pd.DataFrame({"method": "oracle_4_steps"} | asked | columns).to_parquet(folder / "rows-met.parquet")
    return folder


def test_a_drawing_that_was_asked_for_twice_counts_once(study, tmp_path, capsys):
    nan = float("nan")
    first = write_rows(study, tmp_path / "first", [1, 2, 3], [0.5, 0.3, 0.2], [1.0, nan, 1.0])
    second = write_rows(study, tmp_path / "second", [1, 2, 3], [0.4, 0.2, 0.5], [0.0, 1.0, nan])
    study.main([str(first), str(second)])
    head, _, *rows = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.strip().splitlines())
    cells = {row[1]: dict(zip(head, row, strict=True)) for row in rows}
    means = {kind: row["LPIPS to truth"].split()[0] for kind, row in cells.items()}
    assert means == {"all": "−0.100", "line art": "+0.100", "colour": "−0.300"}
    assert {kind: row["number"] for kind, row in cells.items()} == {"all": "2", "line art": "1", "colour": "1"}
    artists = {kind: row["artist, where the finish is right"].split()[0] for kind, row in cells.items()}
    assert artists == {"all": "+1.000", "line art": "+1.000", "colour": "–"}


def test_other_questions_and_missing_methods_are_refused(study, tmp_path):
    values = [0.5, 0.3, 0.2]
    first = write_rows(study, tmp_path / "first", [1, 2, 3], values, values)
    second = write_rows(study, tmp_path / "second", [1, 2, 4], values, values)
    with pytest.raises(SystemExit, match="other questions: run both with one --split and --count"):
        study.main([str(first), str(second)])
    with pytest.raises(SystemExit, match="has no method oracle; it has oracle_4_steps"):
        study.main([str(first), str(first), "--method", "oracle"])
    with pytest.raises(SystemExit, match="no group in common"):
        study.main([str(first), str(tmp_path)])
