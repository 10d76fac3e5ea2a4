"""The study of channels: its tables, in closed form."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch


@pytest.fixture
def study(scripts):
    from experiments.channels import run

    return run


@pytest.fixture
def users(scripts):
    from experiments.channels import users

    return users


@pytest.fixture
def tables(scripts):
    from experiments.channels import tables

    return tables


def test_ridge_regressions_recover_a_linear_map_and_shrink_with_the_penalty(study):
    draws = torch.Generator().manual_seed(0)
    inputs, weights = torch.randn(50, 4, generator=draws), torch.randn(4, 3, generator=draws)
    outputs = inputs @ weights + 1
    exact, strong = study.fit_ridges(inputs, outputs, [1e-6, 1e9])
    torch.testing.assert_close(exact(inputs), outputs, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(strong(inputs), outputs.mean(0).expand(50, 3), rtol=1e-3, atol=1e-3)


def test_runs_of_one_encoder_count_as_one_and_pairs_are_of_the_first(tables):
    users = [f"user{number}" for number in range(40)]
    part = {
        "users": users,
        "open": {"ridge": [0.8] * 40, "encoder=reader,seed=0": [0.5] * 40, "encoder=reader,seed=1": [0.7] * 40},
        "found": {"ridge": [0.5] * 40, "encoder=reader,seed=0": [1.0] * 20 + [math.nan] * 20},
        "macro F1": {"ridge": 0.25, "encoder=reader,seed=0": 0.5, "encoder=reader,seed=1": 0.7},
        "calibration": {"encoder=reader,seed=0": 0.04},
    }
    found = {"channels": {"pictures": part, "split": part}, "runs": ["encoder=reader,seed=0", "encoder=reader,seed=1"]}
    rows = [line.strip("| ").split(" | ") for line in tables.reader_table(found, "open").splitlines()]
    assert rows[2:4] == [["ridge", *["0.20 [0.20, 0.20]"] * 2], ["reader", *["0.40 [0.40, 0.40]"] * 2]]
    assert rows[4] == ["reader - ridge", *["+0.20 [+0.20, +0.20], p < .001"] * 2]
    table = tables.reader_table(found, "found")
    assert "| reader | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] | 0.60 | 0.04 |" in table
    assert "| ridge | 0.50 [0.50, 0.50] | 0.50 [0.50, 0.50] | 0.25 |  |" in table


def test_pictures_are_compared_user_by_user(tables):
    rows = [
        {"user": f"user{number}", "seed": seed, "method": method, "control": control, "lpips_truth": 0.3 + gain,
         "style_accuracy": 0.5, "concept_accuracy": 1.0, "finish_error": 0.1}
        for number in range(20)
        for seed in (0, 1)
        for method, gain in (("soft", 0.0), ("stored", 0.1))
        for control in ("own", "mismatched")
    ]  # fmt: skip
    table = tables.drawn_table(pd.DataFrame(rows))
    assert "| reader | 40 | 0.300 | 0.500 | 1.000 | 0.100 |" in table
    assert "| reader - ridge |  | \N{MINUS SIGN}0.100 [\N{MINUS SIGN}0.100, \N{MINUS SIGN}0.100], p < .001 |" in table


def test_a_minimal_pair_is_understood_where_both_messages_are(users):
    pair = users.MinimalPair("user", "pairs", ("red", "blue"), ("red, not blue", "blue, not red"))
    options = ["red", "blue", "green"]
    for scores, right, ordered in (
        ([[2.0, 1, 3], [1.0, 2, 0]], 1.0, 1.0),
        ([[2.0, 1, 0], [2.0, 1, 0]], 0.0, 0.0),  # as without order
        ([[3.0, 1, 0], [2.0, 1, 0]], 0.0, 1.0),
        ([[1.0, 2, 0], [2.0, 1, 0]], 0.0, 0.0),
    ):
        found = users.judge_pairs([pair], options, torch.tensor(scores))
        assert found == {"both right": [right], "ordered": [ordered]}


def test_macro_f1_counts_named_options_of_what_users_spoke_of(users):
    class Two(users.World):
        @property
        def users(self):
            return [[SimpleNamespace(labels={"said_likes": words})] for words in ("red, flat", "red", "blue")]

        def options(self):
            return [["red", "blue"], ["flat", "dots"]]

    scores = torch.tensor([[2.0, 1, 0, 1], [1, 2, 0, 1], [1, 2, 0, 1]])  # red dots; blue; blue
    # red: found once of two, never wrongly, 2/3; blue: once of one, once wrongly, 2/3; flat: not found
    assert Two("test", "split").macro_f1(scores) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert Two("test", "split").found(scores) == [0.5, 0.0, 1.0]


def test_an_endpoint_has_to_beat_every_control_after_holms_correction(tables):
    def users(shift):
        return [shift + 0.01 * (number % 3) for number in range(40)]

    names = [f"user{number}" for number in range(40)]
    part = {
        "users": names,
        "found": {"ridge": users(0.2), "encoder=reader,seed=0": users(0.7), "sentences": users(0.6)},
    }
    found = {"channels": {"conflict": part, "messages": part}, "runs": ["encoder=reader,seed=0"]}
    methods = {"soft": 0.3, "stored": 0.4, "matched": 0.29, "read": 0.5, "counting": 0.6}
    rows = [
        {
            "user": user,
            "method": method,
            "control": "own",
            "channel": channel,
            "lpips_truth": value,
            "style_accuracy": 0.0,
        }
        for user, wobble in zip(names, users(0.0), strict=True)
        for method, mean in methods.items()
        for channel, value in (("split", mean + wobble), ("pictures", mean))
    ]
    people_table = ("popularity | +0.04 [+0.02, +0.06], p < 0.001", "counting | +0.01 [-0.02, +0.04], p = 0.4")
    real = "\n".join(f"| reader - {row} |" for row in people_table)
    first, style, words, _, keywords, *people = tables.find_endpoints(found, pd.DataFrame(rows), real)
    assert (first.control, first.difference, first.right) == (
        "mean_style and stated words",
        "+0.010 [+0.010, +0.010]",
        False,
    )
    assert (style.p, style.right) == (1.0, False)
    assert (words.control, words.right) == ("sentences", True)
    assert (keywords.difference, keywords.right) == ("-0.100 [-0.100, -0.100]", True)
    table = tables.endpoints_table([words, *people]).splitlines()
    assert [line.split(" | ")[-2:] for line in table[2:]] == [
        ["0.0006", "yes |"],
        ["0.0020", "yes |"],
        ["0.4000", "no |"],
    ]


def test_new_rows_replace_those_of_their_channel_method_and_seed(tables):
    methods = [("split", "soft", 0), ("split", "soft", 1), ("split", "none", 0), ("words", "soft", 0)]
    rows = pd.DataFrame(methods, columns=tables.ARM).assign(lpips_truth=0.3)
    both = tables.replace_rows(rows, rows[:1].assign(lpips_truth=0.2))
    assert both.sort_index()["lpips_truth"].tolist() == pytest.approx([0.2, 0.3, 0.3, 0.3])
    assert tables.replace_rows(rows, rows[:1].assign(seed=2))["seed"].tolist() == [0, 1, 0, 0, 2]


def test_the_second_judges_columns_are_added_to_the_rows_of_the_same_pictures(tables, tmp_path):
    keys = ["example", "user", "method", "control", "seed"]
    pictures = [(f"u{user}-0", f"u{user}", method, "own", 0) for user in range(3) for method in ("soft", "none")]
    rows = pd.DataFrame(pictures, columns=keys).assign(channel="split", lpips_truth=0.3, finish_error=0.1)
    rows = rows.assign(style_accuracy=1.0, concept_accuracy=1.0)
    folder = tmp_path / "channel=split,seed=0"
    folder.mkdir()
    seen = pd.DataFrame(pictures[::-2], columns=keys).assign(**dict.fromkeys(tables.SECOND, 0.0))
    seen.assign(style_accuracy_second=[1.0, 0.0, 1.0]).to_parquet(folder / "rows.parquet")
    both = tables.add_second_judge(rows, [folder])
    assert both[rows.columns].equals(rows)
    assert both["style_accuracy_second"].dropna().tolist() == [1.0, 0.0, 1.0]
    assert tables.add_second_judge(both, [folder]).equals(both)
    table = tables.drawn_table(both).splitlines()
    assert table[0].endswith("| style, second judge | concept, second judge | finish error, second judge |")
    shown = {line.split(" | ")[0]: line.split(" | ")[6] for line in table[2:]}
    assert shown == {"| none": "0.667", "| reader": "", "| reader - none": ""}  # of two, one wasn't judged
