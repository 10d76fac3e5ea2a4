"""Which users a config takes."""

from __future__ import annotations

import pytest

from pmg.domain import PmgError
from pmg.orchestration.builders import build_examples
from pmg.runs.finished_training import read_signature
from pmg.runs.run_folder import WEIGHTS
from runs import write_trained

SIZES = "split_sizes={train: 20, validation: 10, test: 10}"


def tastes(cfg, emoji, split):
    return {example.labels["taste"] for example in build_examples(cfg, emoji, split)}


def test_hidden_tastes_are_met_in_the_test_alone(compose, emoji):
    cfg = compose("train", SIZES, "unseen=[thick_outline,hand_noto]")
    everything = {taste.name for taste in emoji.tastes}
    assert tastes(cfg, emoji, "train") == tastes(cfg, emoji, "validation") == everything - set(cfg.unseen)
    assert tastes(cfg, emoji, "test") == everything


def test_unknown_and_all_tastes_are_refused(compose, emoji):
    with pytest.raises(PmgError, match=r"unseen: no taste 'thick_outlin'; did you mean 'thick_outline'\?"):
        build_examples(compose("train", SIZES, "unseen=[thick_outlin]"), emoji, "train")
    names = ",".join(taste.name for taste in emoji.tastes)
    with pytest.raises(PmgError, match="unseen leaves no users in the split 'train'"):
        build_examples(compose("train", SIZES, f"unseen=[{names}]"), emoji, "train")


def test_latest_behaviours_are_kept(compose, emoji):
    whole = build_examples(compose("train", SIZES), emoji, "test")
    short = build_examples(compose("train", SIZES, "history_items.test=2"), emoji, "test")
    assert [example.history for example in short] == [example.history[-2:] for example in whole]


@pytest.mark.parametrize("key", ["split_sizes", "targets", "history_items"])
def test_counts_below_one_are_refused(compose, emoji, key):
    with pytest.raises(PmgError, match=rf"{key}\.train must be at least 1, got 0"):
        build_examples(compose("train", f"{key}.train=0"), emoji, "train")


def test_damaged_encoder_is_refused(compose, tmp_path):
    run = write_trained(tmp_path, compose("train"))
    assert len(read_signature(run)) == 64
    (tmp_path / "encoder" / WEIGHTS).write_bytes(b"weighty")
    with pytest.raises(PmgError, match="is damaged or not complete"):
        read_signature(tmp_path)
    (tmp_path / "encoder" / WEIGHTS).unlink()
    with pytest.raises(PmgError, match="is damaged or not complete"):
        read_signature(tmp_path)
