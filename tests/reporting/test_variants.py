from __future__ import annotations

from pathlib import Path

import pytest

from pmg.reporting.runs import RunFolder, read_runs
from pmg.reporting.variants import find_factors, order
from runs import write_run


def run(seed=0, command="train", **config):
    return RunFolder(
        Path(f"{seed}"), f"{seed}", command, "completed", seed, {k.replace("__", "."): v for k, v in config.items()}
    )


def test_seed_places_and_what_all_share_are_no_factors(tmp_path):
    for s in (0, 1):
        for lr in (1, 2):
            config = {
                "name": f"n{s}",
                "logger.csv": s,
                "trainer.default_root_dir": f"{s}",
                "objective.lr": lr,
                "data": 1,
            }
            write_run(tmp_path / f"{s}{lr}", seed=s, config=config)
    runs = read_runs([tmp_path])
    assert find_factors(runs).chosen == ("objective.lr",)
    assert find_factors(runs[:1]).varied == ()


def test_a_key_that_says_the_same_is_named_once():
    runs = [run(alpha=a, rule__alpha=a, encoder__source=f"s{a}") for a in (0.0, 0.5)]
    found = find_factors(runs)
    assert found.varied == ("alpha", "rule.alpha", "encoder.source")
    assert found.chosen == ("alpha",)
    assert found.same == {"alpha": ("rule.alpha", "encoder.source")}


def test_an_option_of_the_command_line_stands_for_its_values(tmp_path):
    for name, tokens in (("small", 2), ("large", 8)):
        config = {"preference_encoder.soft_tokens": tokens}
        write_run(tmp_path / name, config=config, overrides=[f"preference_encoder={name}", "seed=1"])
    found = find_factors(read_runs([tmp_path]))
    assert found.same == {"preference_encoder": ("preference_encoder.soft_tokens",)}


def test_two_numbers_that_differ_in_every_run_are_two_factors():
    runs = [run(lr=lr, decay=decay) for lr, decay in ((0.1, 3), (0.2, 1), (0.3, 2))]
    assert find_factors(runs).chosen == ("lr", "decay")


def test_a_key_that_some_runs_of_a_command_lack_is_a_factor_but_not_one_of_another_command():
    runs = [run(lr=1, terms__contrast=1), run(lr=1), run(command="pretrain", stage__size=3)]
    assert find_factors(runs).chosen == ("terms.contrast",)


def test_an_encoder_a_seed_is_no_factor_but_several_encoders_are(tmp_path):
    def write(name, seed, steps):
        trained = {"seed": seed, "weights": name, "trainer.max_steps": steps}
        encoder = {f"preference.soft.run.{key}": value for key, value in trained.items()}
        write_run(tmp_path / name, "study", seed=seed, identity={"seed": seed, **encoder})

    for seed in (0, 1):
        write(str(seed), seed, 100)
    assert find_factors(read_runs([tmp_path])).chosen == ()
    write("long", 0, 900)
    assert find_factors(read_runs([tmp_path])).chosen == ("trainer.max_steps",)


def test_training_facts_of_an_evaluation_are_those_of_the_training_that_was_used(tmp_path):
    for steps in (100, 900):
        identity = {"seed": 0, "generate_run.seed": 0, "generate_run.preference.soft.run.trainer.max_steps": steps}
        config = {"trainer.max_steps": 1000}  # what the command composed
        write_run(tmp_path / str(steps), "evaluate", config=config, identity=identity)
    runs = read_runs([tmp_path])
    assert find_factors(runs).chosen == ("trainer.max_steps",)
    assert [run.config["trainer.max_steps"] for run in runs] == [100, 900]


@pytest.mark.parametrize("values", [("a" * 60 + "x" + "b" * 60, "a" * 60 + "y" + "b" * 60), (["one", "two"], [])])
def test_values_that_differ_look_different(values):
    runs = [run(key=value) for value in values]
    factors = find_factors(runs)
    one, two = (factors.values(each) for each in runs)
    assert one != two
    assert max(map(len, (*one, *two))) <= 50


def test_values_are_sorted_as_numbers_before_texts():
    assert sorted([("late",), ("10",), ("9",), ("a10",), ("a9",)], key=order) == [
        ("9",),
        ("10",),
        ("a9",),
        ("a10",),
        ("late",),
    ]
