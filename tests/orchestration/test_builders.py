"""Which users a config takes."""

from __future__ import annotations

import shutil

import pytest

from pmg.domain import PmgError
from pmg.orchestration.builders import select_examples
from pmg.runs.finished_training import TrainingRun
from pmg.runs.run_folder import ENCODER, WEIGHTS
from runs import write_trained

SIZES = "split_sizes={train: 20, validation: 10, test: 8}"


def test_latest_behaviours_are_kept(compose, shop):
    whole = select_examples(shop, "test", compose("train", SIZES))
    short = select_examples(shop, "test", compose("train", SIZES, "history_items.test=2"))
    assert [example.history for example in short] == [example.history[-2:] for example in whole]


def test_damaged_encoder_is_refused(compose, tmp_path):
    run = write_trained(tmp_path / "run", compose("train"))
    assert len(TrainingRun.open(run).weights) == 64
    other = write_trained(tmp_path / "other", compose("train"))
    (other / ENCODER / WEIGHTS).write_bytes(b"others")
    shutil.copy(other / ENCODER / WEIGHTS, run / ENCODER / WEIGHTS)
    with pytest.raises(PmgError, match="is not what this run made: it is damaged, or another run's"):
        TrainingRun.open(run)
    (run / ENCODER / WEIGHTS).unlink()
    with pytest.raises(PmgError, match="is missing"):
        TrainingRun.open(run)
