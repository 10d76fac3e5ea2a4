"""Every value of a config is compared with its range before anything is loaded, in one line."""

from __future__ import annotations

from typing import Literal

import pytest

from pmg.configuration.instantiate import check_targets, register_configs
from pmg.configuration.ranges import Count, Fraction, Seed, argument_hints, describe, find_problems
from pmg.data.image_shards import Packing
from pmg.data.interactions import InteractionData
from pmg.data.windowing import Windows
from pmg.domain import PmgError

CHOICES = ["run_dir=x", "objective=contrast", "decoding=generate"]


@pytest.fixture(scope="module")
def shipped_study():
    """`pmg-study`'s config, to be changed by each test and put back."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    register_configs()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("pmg.conf", version_base="1.3"):
        yield hydra.compose("study", CHOICES)
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("seed", -1, "a whole number of at least 0 and at most 4294967295, or null"),
        ("seed", 2**32, "a whole number of at least 0 and at most 4294967295, or null"),
        ("split_sizes.train", 0, "a whole number of at least 1, or null"),
        ("history_items.test", -3, "a whole number of at least 1, or null"),
        ("sheet_users", 0, "a whole number of at least 1"),
        ("shard.count", 0, "a whole number of at least 1"),
        ("objective.users_per_step", 2.5, "a whole number of at least 1"),
        ("objective.batches.draws", "many", "a whole number of at least 1"),
        ("objective.batches.drop.soft", 2, "a mapping whose values are each a number of at least 0 and at most 1"),
        ("optimizer.lr", float("nan"), "a finite number"),
        ("optimizer.lr", float("inf"), "a finite number"),
        ("optimizer.lr", 0, "a number of more than 0"),
        ("objective.module.ema_decay", 1.0, "a number of at least 0 and less than 1, or null"),
        ("objective.module.ema_decay", None, None),
        ("objective.module.terms.contrast.margin", -0.1, "a number of at least 0"),
        ("balance.alpha", 1.5, "a number of at least 0 and at most 1"),
        ("balance.weights.preference", [0.5, "x"], "a list of which each is a number of at least 0"),
        ("sampling.steps", True, "a whole number of at least 1"),
        ("sampling.guidance", -1, "a number of at least 0"),
        ("decoding.temperature", 0, "a number of more than 0"),
        ("scenario.max_items", 0, "a whole number of at least 1"),
        ("data.seed", -1, "a whole number of at least 0"),
        ("preference_encoder.soft_tokens", "2", "a whole number of at least 1"),
        ("text_encoder.max_length", 0, "a whole number of at least 1"),
        ("trainer.max_steps", 0, "a whole number of at least 1"),
        ("trainer.max_steps", 1e3, "a whole number of at least 1"),
        ("trainer.devices", 0, "a whole number of at least 1, or -1, or a list"),
        ("trainer.limit_val_batches", 1.5, "a whole number of at least 0, or a number of at least 0 and at most 1"),
        ("trainer.fast_dev_run", 1.5, "true or false, or a whole number of at least 0"),
    ],
)
def test_a_value_out_of_its_range_is_named_with_what_is_allowed(shipped_study, key, value, allowed):
    from omegaconf import OmegaConf

    cfg = shipped_study.copy()
    OmegaConf.set_struct(cfg, False)
    OmegaConf.update(cfg, key, value)
    if allowed is None:
        check_targets(cfg)
        return
    with pytest.raises(PmgError) as caught:
        check_targets(cfg)
    message = str(caught.value)
    shown = "null" if value is None else "true" if value is True else value
    assert f"{key} must be {allowed}" in message or f"{key.rpartition('.')[0]} must be {allowed}" in message
    assert str(shown) in message
    assert "\n" not in message


def test_types_are_described_in_words():
    assert describe(Count | Literal["auto", -1] | None) == "a whole number of at least 1, or auto or -1, or null"
    assert describe(dict[str, Fraction]) == "a mapping whose values are each a number of at least 0 and at most 1"


def scale(
    image: str,
    factor: Fraction,
    names: list[str],
    times: Count | None = None,
    tokenizer: Unknown = None,  # noqa: F821
) -> None:
    """A function of pmg, in the eyes of `argument_hints`."""


def test_arguments_that_hold_no_plain_value_have_no_range():
    hints = argument_hints("pmg.scale", scale)
    assert set(hints) == {"image", "factor", "names", "times"}
    node = {"factor": {"_target_": "pmg.x"}, "names": ["a", 1], "times": "???", "tokenizer": 3}
    assert find_problems("here", node, hints) == ["here.names must be a list of which each is a text, got ['a', 1]"]


def test_a_seed_is_what_every_generator_takes():
    assert find_problems("", {"seed": 2**32 - 1}, {"seed": Seed}) == []
    assert find_problems("", {"seed": 2**32}, {"seed": Seed})


def test_how_pictures_and_windows_are_cut_is_checked():
    pictures = argument_hints("pmg.data.image_shards.Packing", Packing)
    assert find_problems("source.pictures", {"fit": "crup", "size": 0}, pictures) == [
        "source.pictures.fit must be crop or pad, got crup",
        "source.pictures.size must be a whole number of at least 1 and at most 8192, got 0",
    ]
    data = argument_hints("pmg.data.interactions.InteractionData", InteractionData)
    assert find_problems("data", {"split_by": "usr"}, data) == ["data.split_by must be user or time or item, got usr"]
    windows = argument_hints("pmg.data.windowing.Windows", Windows)
    assert len(find_problems("data.windows", dict.fromkeys(("history", "targets", "stride"), 0), windows)) == 3
