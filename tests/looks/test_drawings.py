"""Drawings by artist, held-out cells, values of finishes, and looks to choose from."""

from __future__ import annotations

import random

import pytest
import torch

from looks import SHARES
from pmg.domain import PmgError
from pmg.installation import find_assets
from pmg.looks.drawings import CANDIDATES, REFERENCES, LookChoice, LookData
from pmg.looks.finish_space import FinishSpace
from pmg.looks.finish_targets import SIZE, finish_errors, finish_values
from pmg.looks.finishes import Finish

SPACE = FinishSpace(**SHARES, unseen_hues=[[80, 120], [240, 280]], unseen_pairs=[["dark", "pixels"]])
FOLDER = f"{find_assets()}/drawings"


@pytest.fixture(scope="module")
def data():
    return LookData(FOLDER, ["food-fruit", "animal-mammal"], SPACE, ["twemoji", "noto-line"], 0)


def test_splits_cover_the_drawings_and_share_none(data):
    parts = [set(data.rows(split).tolist()) for split in ("train", "validation", "test", "unseen_artists")]
    assert sum(map(len, parts)) == len(data.drawings) == len(set.union(*parts))
    assert all(parts)


def test_validation_and_test_share_no_concept(data):
    concepts = [{data.drawings.items[row].concept for row in data.rows(split)} for split in ("validation", "test")]
    assert not concepts[0] & concepts[1]
    assert {data.drawings.artists[row] for row in data.rows("unseen_artists")} == {"twemoji", "noto-line"}


def test_cells_do_not_move_with_the_topics(data):
    fewer = LookData(FOLDER, ["food-fruit"], SPACE, ["twemoji", "noto-line"], 0)
    split = {item.id: data.splits[row] for row, item in enumerate(data.drawings.items)}
    for row, item in enumerate(fewer.drawings.items):
        assert fewer.splits[row] == split[item.id]


def test_unknown_artists_are_named():
    with pytest.raises(PmgError, match=r"unseen_artists.*rembrandt"):
        LookData(FOLDER, ["food-fruit"], SPACE, ["rembrandt"], 0)


def test_training_pictures_vary_and_repeat_with_the_seed(data):
    source = data.picture_source("train")
    rows = torch.zeros(3, dtype=torch.long)
    first, again = (source.draw(rows, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert first.shape == (3, 3, 64, 64)
    assert first.min() >= -1
    assert first.max() <= 1


def test_true_values_have_no_error_and_masked_ones_do_not_count():
    finishes = [Finish(hue=350, outline=3.0), Finish(duotone=1.0, surface="pixels", degree=0.4), Finish()]
    values, traces = finish_values(finishes, [True, True, False])
    assert values.shape == traces.shape == (3, SIZE)
    assert finish_errors(values, values, traces).tolist() == [0, 0, 0]
    wrong = torch.where(traces, values, values + 0.5)
    assert finish_errors(wrong, values, traces).tolist() == [0, 0, 0]


def test_hue_errors_are_circular():
    values, traces = finish_values([Finish(hue=350)], [True])
    read, _ = finish_values([Finish(hue=10)], [True])
    count = 7  # parameters that leave a trace: hue, saturation, lightness, contrast, duotone, outline, ground, surface
    assert float(finish_errors(read, values, traces)[0]) == pytest.approx(20 / 180 / (count + 1), abs=1e-5)


def test_the_look_comes_first_and_its_concept_is_never_shown(data):
    choice, rng = LookChoice(data, 0.02), random.Random(0)
    look = ("noto", SPACE.sample(rng))
    looks = choice.candidates(look, rng)
    assert looks[0] == look
    assert len(looks) == CANDIDATES
    assert sum(artist == "noto" for artist, _ in looks) >= 4
    assert sum(finish == look[1] for _, finish in looks) == 4
    shown = choice.references(looks, data.drawings.items[0].concept, rng)
    assert shown.shape == (CANDIDATES * REFERENCES, 3, 64, 64)
