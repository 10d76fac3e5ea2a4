"""Questions packed into one sequence: which token sees which, what predicts an option, and padding."""

from __future__ import annotations

import pytest
import torch

from pmg.domain import PmgError
from pmg.models.language.option_scoring import BatchedOptionTree, Question, pack_options

TOKENS = {"is": [1, 2], "has": [3], " a": [4], " bc": [5, 6], " d": [7]}
QUESTIONS = (Question("is", (" a", " bc")), Question("has", (" d", " bc")))


def test_layout_of_two_questions():
    tree = pack_options(QUESTIONS, TOKENS.__getitem__)
    # an option's last token is not in the sequence: is₁ is₂ b | has b
    assert tree.tokens.tolist() == [1, 2, 5, 3, 5]
    assert tree.steps.tolist() == [0, 1, 2, 0, 1]
    assert tree.counts == (2, 2)
    assert tree.targets.T.tolist() == [[0, 1, 4], [1, 1, 5], [1, 2, 6], [2, 3, 7], [3, 3, 5], [3, 4, 6]]
    assert tree.visible.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]


def test_options_of_one_question_do_not_see_each_other():
    tree = pack_options([Question("has", (" bc", " bc"))], TOKENS.__getitem__)
    assert tree.visible.int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]


def test_scores_of_padded_trees_are_sums_of_log_probabilities():
    trees = [pack_options(QUESTIONS, TOKENS.__getitem__), pack_options(QUESTIONS[1:], TOKENS.__getitem__)]
    grove = BatchedOptionTree.from_trees(trees)
    assert grove.tokens[1].tolist() == [3, 5, 0, 0, 0]
    assert not grove.visible[1, 2:].any()
    logits = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(0))
    expected = logits.log_softmax(-1)
    for rows_at_once in (1, 2, 1024):
        scores = grove.score(logits, lambda states: states, rows_at_once)
        assert scores[0, 1] == pytest.approx(float(expected[0, 1, 5] + expected[0, 2, 6]), abs=1e-5)
        assert scores[0, 2] == pytest.approx(float(expected[0, 3, 7]), abs=1e-5)
        assert scores[1, 1] == pytest.approx(float(expected[1, 0, 5] + expected[1, 1, 6]), abs=1e-5)
        assert scores[1, 2:].tolist() == [0, 0]


def test_no_question_is_refused():
    with pytest.raises(PmgError, match="at least one question"):
        pack_options([], TOKENS.__getitem__)
