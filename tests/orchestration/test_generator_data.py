"""A generator that was trained on other pictures is named before a run begins."""

from __future__ import annotations

import pytest

from pmg.evaluation.model_card import read_steps, read_trained_on, write_model_card
from pmg.orchestration.builders import warn_of_other_pictures

CARD = {"title": "Denoiser", "text": "Small.", "data": "Pictures.", "license": "cc0-1.0"}


@pytest.mark.parametrize("trained_on", ["shop", None])
def test_cards_record_the_data_set(tmp_path, trained_on):
    (tmp_path / "unet").mkdir()
    write_model_card(tmp_path / "unet", CARD, {}, {}, trained_on=trained_on)
    assert read_trained_on(tmp_path) == read_trained_on(tmp_path / "unet") == ({trained_on} if trained_on else set())


def test_data_without_pictures_are_not_warned_of(compose, caplog):
    from pmg.configuration.instantiate import instantiate

    cfg = compose("generate", "experiment=chat_stickers")
    data = instantiate(cfg.data)
    warn_of_other_pictures(cfg.generator, "chats", data, data.examples("test"))
    assert not caplog.messages


def test_a_card_counts_the_steps_of_earlier_runs_too(tmp_path):
    assert read_steps(tmp_path) == 0
    write_model_card(tmp_path, CARD, {"loss": 0.5}, {"steps": 300, "steps before": 1200, "batch size": 64})
    assert read_steps(tmp_path) == 1500
