"""A command that continues a run takes over what that run was composed by."""

from __future__ import annotations

import pytest

from pmg.orchestration.inheritance import find_inherited, is_inherited
from pmg.orchestration.launcher import continue_run
from runs import write_run

TRAINED = [
    "experiment=real_users", "generator=tiny", "data.seed=3", "trainer.max_steps=9", "run_dir=a", "device=cpu",
    "split_sizes.test=4",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A folder whose training was composed by `TRAINED`."""
    write_run(tmp_path / "train", "train", overrides=TRAINED)
    return tmp_path


@pytest.mark.parametrize("named", ["work_dir={}", "train_run={}/train"])
def test_values_that_decide_a_result_and_that_the_command_reads(folder, named):
    own = [named.format(folder)]
    assert find_inherited("generate", own) == [
        "experiment=real_users", "generator=tiny", "data.seed=3", "split_sizes.test=4"
    ]  # fmt: skip
    assert find_inherited("export", own) == ["experiment=real_users"]
    assert find_inherited("train", own) == []


def test_own_values_replace_inherited_ones_and_those_below_them(folder):
    own = [f"work_dir={folder}", "data=own_files", "generator=looks"]
    assert find_inherited("generate", own) == ["experiment=real_users", "split_sizes.test=4"]


@pytest.mark.parametrize(
    "own",
    [["work_dir={}", "experiment=paper"], ["work_dir={},b"], ["work_dir={}x"], ["work_dir=${{name}}"], ["seed="]],
)
def test_nothing_is_inherited_from_another_experiment_a_sweep_or_no_run(folder, own):
    assert find_inherited("generate", [text.format(folder) for text in own]) == []


@pytest.mark.parametrize(
    "override",
    ["data={_target_: theirs.run}", "+data._target_=theirs.run", "generator=theirs", "plugins=[theirs]",
     "shard.index=0", "experiment=../../theirs", "paths.cache_dir=/", "hydra.run.dir=/", "hydra/launcher=theirs",
     "seed=1,2", "seed=="],
)  # fmt: skip
def test_a_strangers_folder_names_no_class_plug_in_or_folder(override):
    assert not is_inherited("generate", override)


def test_the_command_line_stays_in_order(folder):
    given = ["--config-dir", "mine", f"work_dir={folder}", "-m", "seed=1,2"]
    inherited = ["experiment=real_users", "generator=tiny", "data.seed=3", "split_sizes.test=4"]
    assert continue_run("generate", given) == ["--config-dir", "mine", *inherited, *given[2:]]
    assert continue_run("generate", given[2:3]) == [*inherited, "hydra.mode=RUN", given[2]]
    assert continue_run("generate", ["--help"]) == ["--help"]
