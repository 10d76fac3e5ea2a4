"""A generator that was trained on other pictures is named before a run begins."""

from __future__ import annotations

import pytest

from pmg.evaluation.model_card import read_trained_on, write_model_card
from pmg.orchestration.generator_data import warn_of_other_pictures
from pmg.orchestration.run import Run

CARD = {"title": "Denoiser", "text": "Small.", "data": "Pictures.", "license": "cc0-1.0"}


@pytest.mark.parametrize("trained_on", ["shop", None])
def test_cards_record_the_data_set(tmp_path, trained_on):
    (tmp_path / "unet").mkdir()
    write_model_card(tmp_path / "unet", CARD, {}, {}, trained_on=trained_on)
    assert read_trained_on(tmp_path) == read_trained_on(tmp_path / "unet") == ({trained_on} if trained_on else set())


def test_shipped_generators_have_their_data_set(root):
    assert read_trained_on(root / "assets" / "generator") == {"emoji"}
    assert read_trained_on(root / "assets" / "look_generator" / "vae") == {"looks"}


@pytest.mark.parametrize(("generator", "data", "lines"), [("emoji", "own_files", 1), ("emoji", "emoji", 0),
                                                          ("sd15", "own_files", 0)])  # fmt: skip
def test_another_data_set_is_warned_of(compose, drawings, tmp_path, caplog, generator, data, lines):
    run = Run(tmp_path, "train", choices={"data": data})
    examples = drawings.examples("test", 2)
    warn_of_other_pictures(compose("train", f"generator={generator}"), run, drawings, examples)
    assert len(caplog.messages) == lines
    if lines:
        assert "trained on pictures of emoji, not of data=own_files" in caplog.text
        assert "pmg-pretrain data=own_files" in caplog.text


def test_data_without_pictures_are_not_warned_of(compose, tmp_path, caplog):
    from pmg.configuration.instantiate import instantiate

    cfg = compose("generate", "experiment=chats")
    data = instantiate(cfg.data)
    warn_of_other_pictures(cfg, Run(tmp_path, "generate", choices={"data": "chats"}), data, data.examples("test"))
    assert not caplog.messages
