"""Results from rows: their form, numbers, files and tables."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from pmg.domain import PmgError
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.image_evaluation import SELECTION_SCORES
from pmg.evaluation.metric_interface import MetricInfo, describe
from pmg.evaluation.result_tables import ResultTables
from pmg.evaluation.results import ResultBuilder, read_results, read_rows, write_results
from pmg.evaluation.table_rendering import print_table, to_markdown

METRICS = [
    MetricInfo("style_accuracy", "style accuracy"),
    MetricInfo("lpips_truth", "LPIPS to truth", higher_is_better=False, range=(0.0, None)),
    MetricInfo("ssim_truth", "SSIM to truth"),
    *SELECTION_SCORES,
]
BUILDER = ResultBuilder(METRICS, groups=["kind"])

LPIPS = {"none": 0.40, "keywords": 0.38, "pmg_paper": 0.32, "oracle": 0.30, "vae_reconstruction": 0.05, "truth": 0.0}
STYLE = {"none": 0.1, "keywords": 0.4, "pmg_paper": 0.9, "oracle": 0.95, "vae_reconstruction": 1.0, "truth": 1.0}


def row(number, method, control, rng):
    off = 0.2 if control == "mismatched" else 0.0
    selected = method in ("keywords", "pmg_paper")
    return {
        "example": f"e{number}",
        "user": f"u{number // 2}",
        "kind": "describable" if number % 4 < 2 else "indescribable",
        "method": method,
        "control": control,
        "seed": 0,
        "style_accuracy": float(rng.random() < STYLE[method] - 3 * off),
        "lpips_truth": LPIPS[method] + off + 0.1 * (number % 5),
        "selection_preference": 0.3 if selected else np.nan,
    }


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    methods = [(method, "own") for method in LPIPS] + [("pmg_paper", "mismatched")]
    return pd.DataFrame([row(number, *method, rng) for number in range(80) for method in methods])


@pytest.fixture(scope="module")
def results(rows):
    return BUILDER.build(rows) | {"revision": "abc", "config": {"seed": 0}, "cost": {"seconds": 1.0}}


def test_results_have_all_sections(results):
    assert set(results) == {
        "metrics", "comparison", "methods", "paired", "control", "groups", "gap_closed", "cost", "revision", "config",
    }  # fmt: skip
    assert results["metrics"]["lpips_truth"]["range"] == (0.0, None)
    assert list(results["methods"]) == ["none", "keywords", "pmg_paper", "oracle", "vae_reconstruction", "truth"]
    assert set(results["methods"]["pmg_paper"]["lpips_truth"]) == {"mean", "low", "high", "n", "seeds"}
    assert set(results["paired"]["pmg_paper-none"]["lpips_truth"]) == {"mean", "low", "high", "p"}
    assert set(results["control"]["pmg_paper"]["lpips_truth"]) == {"own", "mismatched", "p"}
    assert set(results["groups"]["kind"]) == {"describable", "indescribable"}
    assert set(results["groups"]["kind"]["describable"]) == {"methods", "paired", "control"}
    assert (results["revision"], results["config"], results["cost"]) == ("abc", {"seed": 0}, {"seconds": 1.0})


def test_figures_are_those_of_the_rows(results):
    pmg = results["methods"]["pmg_paper"]["lpips_truth"]
    assert pmg["mean"] == pytest.approx(0.52)
    assert (pmg["n"], pmg["seeds"]) == (40, 1)
    assert results["groups"]["kind"]["describable"]["methods"]["pmg_paper"]["lpips_truth"]["n"] == 20
    difference = results["paired"]["pmg_paper-none"]["lpips_truth"]
    assert [difference[key] for key in ("mean", "low", "high")] == pytest.approx([-0.08] * 3)
    assert difference["p"] < 0.001
    control = results["control"]["pmg_paper"]["lpips_truth"]
    assert (control["own"], control["mismatched"]) == pytest.approx((0.52, 0.72))
    assert control["p"] < 0.001


def test_pairs_are_against_none_and_of_pmg_against_all(results):
    assert list(results["paired"]) == [
        "keywords-none",
        "pmg_paper-none",
        "oracle-none",
        "pmg_paper-keywords",
        "pmg_paper-oracle",
    ]


def test_gap_closed(results):
    gap = results["gap_closed"]["lpips_truth"]
    assert set(gap) == {"keywords", "pmg_paper"}
    assert gap["pmg_paper"]["mean"] == pytest.approx(0.8)
    assert gap["keywords"]["mean"] == pytest.approx(0.2)


def test_without_a_gap_none_is_closed(rows):
    methods = rows[rows["method"].isin(["none", "pmg_paper", "oracle"])]
    flat = methods.assign(lpips_truth=0.5)
    assert BUILDER.build(flat)["gap_closed"] == {"lpips_truth": {}}
    fewer = methods[methods["method"] != "oracle"]
    assert BUILDER.build(fewer)["gap_closed"] == {"lpips_truth": {}}


def test_what_was_not_measured_is_left_out(results):
    assert "selection_preference" not in results["methods"]["none"]
    assert "ssim_truth" not in results["methods"]["pmg_paper"]
    assert "selection_preference" not in results["paired"]["pmg_paper-none"]


def markdown(results):
    tables = ResultTables.of(results)
    return to_markdown(tables.build(results), tables.footnote)


def test_files_round_trip(tmp_path, results, rows):
    write_results(tmp_path, results, rows)
    read = read_results(tmp_path / "results.json")
    assert {name: read[name] for name in results} == json.loads(json.dumps(results))
    pd.testing.assert_frame_equal(read_rows(tmp_path, read["rows"]), rows)
    assert (tmp_path / "table.md").read_text() == markdown(results)


def test_results_that_were_changed_are_refused(tmp_path, results, rows):
    write_results(tmp_path, results, rows)
    path = tmp_path / "results.json"
    read = read_results(path)
    path.write_text(path.read_text().replace('"mean": 0.', '"mean": 9.'))
    with pytest.raises(PmgError, match=r"results\.json was changed after it was written"):
        read_results(path)
    path.write_text("{}")
    with pytest.raises(PmgError, match=r"results\.json lacks comparison, metrics"):
        read_results(path)
    path.write_text('{"metrics": {}, "comparison": {}}')
    with pytest.raises(PmgError, match=r"results\.json lacks config, methods"):
        read_results(path, "config", "methods")
    rows[::-1].to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(PmgError, match=r"rows\.parquet holds other rows"):
        read_rows(tmp_path, read["rows"])


def test_markdown_marks_the_best_and_the_selection_scores(results):
    text = markdown(results)
    header, _, *lines = text.split("\n\n")[1].splitlines()
    assert header == "| method | style accuracy ↑ | LPIPS to truth ↓ | d_p † |"
    bold = [line for line in lines if "**" in line]
    assert len(bold) == 1
    assert bold[0].startswith("| pmg_paper |")
    assert "**0.520 [" in bold[0]
    assert not bold[0].rstrip(" |").endswith("**")  # no selection score is a best one
    assert "† used for selection, not evidence" in text
    widths = {line.count("|") for line in [header, *lines]}
    assert len(widths) == 1


def print_headline(results):
    console = Console(width=80, file=io.StringIO())
    print_table(*ResultTables.of(results).headline(results), console)
    return console.file.getvalue().splitlines()


def test_console_shows_one_line_a_method_in_80_columns(results):
    title, header, _, *lines, note, last = print_headline(results)
    assert title == "All users (n = 40)"
    assert header.split() == ["method", "style", "accuracy", "↑", "LPIPS", "to", "truth", "↓"]
    assert [line.split()[0] for line in lines] == list(results["methods"])
    assert [line.split()[0] for line in lines if "*" in line] == ["pmg_paper"]
    assert f"{note}{last}".endswith("* best method, without oracle, vae_reconstruction, truth.")


def test_headline_has_the_first_metric_of_each_aspect_and_that_of_the_gap_uncut(results):
    infos = [
        MetricInfo("ssim", "SSIM"), MetricInfo("style", "style accuracy", aspect="preference"),
        MetricInfo("look", "look", aspect="preference"), MetricInfo("d_t", "d_t", aspect="accuracy", selects=True),
        MetricInfo("concept", "concept accuracy", aspect="accuracy"), MetricInfo("lpips_truth", "LPIPS to truth"),
    ]  # fmt: skip
    values = {info.name: {"mean": -0.123, "low": -0.234, "high": -0.012, "n": 9, "seeds": 1} for info in infos}
    methods = dict.fromkeys(["none", "a_method_with_a_very_long_name_of_its_own"], values)
    lines = print_headline({**results, "metrics": describe(infos), "methods": methods})
    assert "…" not in "".join(lines)
    assert max(map(len, lines)) <= 80
    table, _ = ResultTables.of({**results, "metrics": describe(infos)}).headline({"methods": methods})
    assert table.header == ("method", "style accuracy ↑", "concept accuracy ↑", "LPIPS to truth ↑")


def test_bad_rows_are_refused(rows):
    with pytest.raises(PmgError, match=r"missing \['kind'\]"):
        BUILDER.build(rows.drop(columns="kind"))
    with pytest.raises(PmgError, match="0 rows"):
        BUILDER.build(rows[:0])
    with pytest.raises(PmgError, match="the rows hold example 'e0', method 'none', twice"):
        BUILDER.build(pd.concat([rows, rows[:1]]))
    with pytest.raises(PmgError, match=r"got .'other'"):
        BUILDER.build(rows.assign(control="other"))


def test_results_need_no_groups_and_split_by_any_label(rows):
    few = rows[rows["method"].isin(["none", "pmg_paper"])]
    whole = ResultBuilder(METRICS).build(few.drop(columns="kind"))
    assert whole["groups"] == {}
    assert not [table for table in ResultTables.of(whole).build(whole) if "with" in table.title]
    alike = ResultBuilder(METRICS, groups=["kind"]).build(few[few["user"] < "u2"].assign(kind="only"))
    assert not [table for table in ResultTables.of(alike).build(alike) if "only" in table.title]
    by_half = ResultBuilder(METRICS, groups=["half"]).build(few.assign(half=few["seed"].where(few["user"] < "u2", 1)))
    assert set(by_half["groups"]["half"]) == {"0", "1"}
    titles = [table.title for table in ResultTables.of(by_half).build(by_half)]
    assert "Paired differences, half = 1" in titles


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"proposed": "pmg_papers"},
            "comparison.proposed=pmg_papers: there is no such method; did you mean 'pmg_paper'?",
        ),
        ({"gap_metric": "lpips"}, "comparison.gap_metric=lpips: there is no such metric"),
    ],
)
def test_names_of_no_method_or_metric_are_told(changes, message):
    (problem,) = Comparison(**changes).unknown({"none", "pmg_paper"}, ["lpips_truth"])
    assert message in problem
    assert not Comparison(proposed="none").unknown({"none"}, [])


def test_methods_are_compared_with_those_that_are_named(rows):
    comparison = Comparison(baseline="keywords", oracle="truth", proposed="oracle", references=("vae_reconstruction",))
    found = ResultBuilder(METRICS[:2], comparison).build(rows)
    assert list(found["methods"]) == ["keywords", "none", "pmg_paper", "oracle", "truth", "vae_reconstruction"]
    assert "pmg_paper-keywords" in found["paired"]
    assert "oracle-none" in found["paired"]
    assert set(found["gap_closed"]["lpips_truth"]) == {"none", "pmg_paper", "oracle"}
    table = ResultTables.of(json.loads(json.dumps(found))).methods("All", found["methods"])
    assert [row[0].text for row in table.rows if any(cell.best for cell in row)] == ["oracle"]


@pytest.mark.parametrize(("users", "shown"), [(1, "0.500"), (2, "0.500 [0.500, 0.500]")])
def test_a_single_user_has_no_interval(users, shown):
    values = {"mean": 0.5, "low": 0.5, "high": 0.5, "n": users, "seeds": 1}
    (row,) = ResultTables(METRICS[:1], Comparison()).methods("All", {"none": {METRICS[0].name: values}}).rows
    assert row[-1].text == shown


def test_numbers_that_round_to_zero_have_no_minus():
    values = {"mean": -1e-4, "low": -0.2, "high": -1e-5, "n": 3}
    (row,) = ResultTables(METRICS[:1], Comparison()).methods("All", {"none": {METRICS[0].name: values}}).rows
    assert row[1].text == "0.000 [−0.200, 0.000]"
