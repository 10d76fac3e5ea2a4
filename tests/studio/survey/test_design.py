"""Every rater gets balanced, blinded tasks."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from pmg.domain import PmgError
from pmg.studio.survey.design import plan_tasks
from pmg.studio.survey.materials import choose_records, render_page
from pmg.studio.survey.schema import SurveyDesignConfig
from runs import record
from surveys import METHODS, make_survey

ABCD = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def plan():
    return plan_tasks(SurveyDesignConfig(15, 20, 12, 8, 4), ABCD)


def test_pairs_and_sides_are_balanced(plan):
    shown = [task.methods for tasks in plan for task in tasks if task.kind == "pair"]
    pairs, sides, left = Counter(map(frozenset, shown)), Counter(shown), Counter(one for one, _ in shown)
    assert len(pairs) == 6
    assert max(pairs.values()) - min(pairs.values()) <= 1
    assert all(abs(sides[a, b] - sides[b, a]) <= 1 for a, b in sides)
    assert max(left.values()) - min(left.values()) <= 6
    for tasks in plan:
        own = Counter(frozenset(task.methods) for task in tasks if task.kind == "pair")
        assert set(own.values()) == {2}
        assert Counter(task.methods for task in tasks if task.kind == "rating") == Counter({(m,): 2 for m in ABCD})


def test_a_rater_compares_an_item_once_and_practises_on_another(plan):
    for tasks in plan:
        items = [task.item for task in tasks if task.kind == "pair"]
        assert len(set(items)) == len(items)
        assert tasks[0].kind == "practice"
        assert [task.item for task in tasks if task.item == 14] == [14]


def test_blocks_change_places_and_checks_have_varied_answers(plan):
    kinds = [[task.kind for task in tasks if task.kind in ("pair", "rating")] for tasks in plan]
    assert [kind[0] for kind in kinds[:4]] == ["pair", "rating", "pair", "rating"]
    for tasks in plan:
        assert {task.expected for task in tasks if task.kind == "check"} == {"left", "right", "tie"}


def test_orders_follow_the_seed():
    plans = [plan_tasks(SurveyDesignConfig(9, 3, 6, 2, 2), ABCD, seed) for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]
    assert plans[0][0] != plans[0][1]


def test_names_of_methods_do_not_matter():
    settings, names = SurveyDesignConfig(15, 20, 12, 8, 4), {"a": "left", "b": "sides", "c": "pair", "d": "d"}
    renamed = [[tuple(names[m] for m in task.methods) for task in tasks] for tasks in plan_tasks(settings, ABCD)]
    assert renamed == [[task.methods for task in tasks] for tasks in plan_tasks(settings, list(names.values()))]


@pytest.mark.parametrize(("items", "methods"), [(1, ABCD), (9, ["a"])])
def test_too_little_to_compare_is_refused(items, methods):
    with pytest.raises(PmgError, match="Generate more"):
        plan_tasks(SurveyDesignConfig(items), methods)


def test_one_image_of_each_method_is_shown_by_example():
    """Those of a user's own preference and the first seed, of the examples that have one of each."""
    one, two, alone = record("a", [(0.2, 0.4)], "x"), record("a", [(0.2, 0.4)], "y"), record("b", [(0.2, 0.4)], "x")
    made = [replace(two, control="mismatched"), one, two, replace(one, seed=1), alone]
    assert choose_records(made, None, 1) == {"a-0": {"x": one, "y": two}}
    assert list(choose_records(made, ["x"], 2)) == ["a-0", "b-0"]
    with pytest.raises(PmgError, match="images of every method for 1 examples"):
        choose_records(made, None, 2)
    with pytest.raises(PmgError, match=r"no images of 'z'\. It has x, y"):
        choose_records(made, ["x", "z"], 1)


def test_the_page_names_no_method_and_no_source():
    content, key = make_survey()
    assert {value["method"] for value in key["images"].values()} == set(METHODS)
    for served in (False, True):
        page = render_page(content, served)
        assert not [
            name for name in (*METHODS, "secret", "user0", "records", "/") if name in json.dumps(content["plans"])
        ]
        assert not [name for name in (*METHODS, "secret", "user0", "pmg_paper") if name in page]
        assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


def test_texts_of_data_are_escaped():
    content, _ = make_survey(evil=True)
    page = render_page(content, served=False)
    assert page.count("<script") == 2  # the content and the page's own
    assert 'onerror="' not in page
