"""The generator of looks names the pictures that it was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmg.domain import Example, Interaction
from pmg.evaluation.model_card import read_trained_on
from pmg.orchestration.builders import warn_of_other_pictures


def test_shipped_generators_have_their_data_set(root):
    assert read_trained_on(root / "assets" / "look_generator" / "vae") == {"looks"}


@pytest.mark.parametrize(("generator", "data", "lines"), [("looks", "own_files", 1), ("looks", "looks", 0),
                                                          ("sd15", "own_files", 0)])  # fmt: skip
def test_another_data_set_is_warned_of(compose, looks, caplog, generator, data, lines):
    examples = looks.examples("test", 2)
    warn_of_other_pictures(compose("train", f"generator={generator}").generator, data, looks, examples)
    assert len(caplog.messages) == lines
    if lines:
        assert "trained on pictures of looks, not of data=own_files" in caplog.text
        assert "pmg-pretrain data=own_files" in caplog.text


def test_users_who_talk_about_looks_have_the_pictures_of_looks(compose, caplog):
    from pmg.configuration.instantiate import instantiate

    cfg = compose("generate", "data=look_chats", "generator=looks", "data.looks.topics=[food-fruit]")
    data = instantiate(cfg.data)
    example = Example("a", "a", (Interaction(data.looks.drawings.items[0]),), data.looks.drawings.items[1], ())
    warn_of_other_pictures(cfg.generator, "look_chats", data, [example])
    assert not caplog.messages


@pytest.mark.parametrize(("stage", "place"), [("look_judge", "."), ("look_unet", "unet")])
def test_a_stage_finds_the_card_of_the_model_that_it_trains_further(compose, stage, place):
    cfg = compose("pretrain", f"stage={stage}", "data=looks")
    assert Path(cfg.card.folder).relative_to(cfg.stage.folder) == Path(place)
