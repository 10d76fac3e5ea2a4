"""What decides a result: every value of every command is classed, and a folder keeps to what it was begun with."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from pmg.configuration.identity import decides_result, find_differences, format_differences, hash_images
from pmg.domain import PmgError
from pmg.orchestration.run import execute
from pmg.records.storage import refuse_mixtures
from pmg.runs.process_state import RunFailedError
from pmg.runs.run_folder import TRAINED, completed_metrics, identify, refuse_other, resolve_dtype
from runs import record, snapshot, write_run
from runs import run_config as config

UNUSED_BY_TRAINING = [
    "split_sizes.test=7", "scorer=tiny", "trainer.log_every_n_steps=3", "trainer.accelerator=cpu",
    "trainer.val_check_interval=7", "trainer.deterministic=true", "trainer.num_sanity_val_steps=1", "device=cpu",
    "compile=true", "callbacks.checkpoint.every_s=1", "~callbacks.progress", "work_dir=x",
    "keep_contexts=false", "targets.test=2", "logger=none", "paths.cache_dir=x", "name=x",
]  # fmt: skip


def test_a_key_that_no_schema_has_decides_the_result(compose):
    cfg = compose("train", "+trainer.limit_train_batches=3")
    assert decides_result("train", "trainer.limit_train_batches")
    assert identify(cfg, "train")["trainer.limit_train_batches"] == 3


def test_values_that_training_does_not_use_are_no_part_of_its_identity(compose):
    assert identify(compose("train", *UNUSED_BY_TRAINING), "train") == identify(compose("train"), "train")


DECIDING = {
    "seed=1": "seed", "data.seed=1": "data.seed", "trainer.max_steps=3": "trainer.max_steps",
    "trainer.precision=64-true": "trainer.precision", "split_sizes.train=7": "split_sizes.train",
    "objective.users_per_step=3": "objective.users_per_step",
    "preference_encoder.soft_tokens=3": "preference_encoder.soft_tokens",
    "trainer.gradient_clip_val=2": "trainer.gradient_clip_val", "history_items.train=3": "history_items.train",
    "~callbacks.seed": "callbacks.seed.seed", "captioner=tagger": "captioner._target_",
}  # fmt: skip


def test_values_that_decide_a_training_are_part_of_its_identity(compose):
    differ = find_differences(
        "train", identify(compose("train"), "train"), identify(compose("train", *DECIDING), "train")
    )
    assert set(DECIDING.values()) <= set(differ)


def test_scorer_decides_a_training_that_looks_through_it(compose):
    plain, tiny = (compose("train", "captioner=tagger", f"scorer={name}") for name in ("clip", "tiny"))
    assert identify(plain, "train") != identify(tiny, "train")


def test_encoders_decide_images_by_their_weights(compose, tmp_path):
    for name, weights in (("a", "1"), ("b", "2")):
        write_run(tmp_path / name, identity={"seed": 0}, made={TRAINED: weights})
    first, other = (identify(compose("generate", f"train_run={tmp_path / name}"), "generate") for name in "ab")
    assert find_differences("generate", first, other) == {"preference.soft.run.weights": ("1", "2")}
    unused = [
        identify(compose("generate", f"train_run={tmp_path / name}", "method=none"), "generate") for name in "ab"
    ]
    assert unused[0] == unused[1]


@pytest.mark.parametrize(("schedule", "steps", "allowed"), [
    ("constant", 200, True), ("constant", 50, False), ("one_cycle", 200, False)],
)  # fmt: skip
def test_a_longer_training_goes_on_where_the_learning_rate_does_not_depend_on_its_length(schedule, steps, allowed):
    old, new = (
        {"trainer.max_steps": n, "lr_scheduler._target_": f"pmg.training.optim.{schedule}"} for n in (100, steps)
    )
    assert (find_differences("train", old, new) == {}) is allowed


def test_methods_may_join_a_generation_and_not_change():
    old = {"method.none.keywords": "x", "method.pmg.keywords": "keywords"}
    assert not find_differences("generate", old, {"method.none.keywords": "x", "method.soft.soft_tokens": "soft"})
    assert find_differences("generate", old, {"method.pmg.keywords": "truth"}) == {
        "method.pmg.keywords": ("keywords", "truth")
    }


def test_refusal_names_keys_with_old_and_new_value():
    old, new = {"seed": 0, "a.b": [1]}, {"seed": 1, "c": "x"}
    told = format_differences(find_differences("train", old, new))
    assert told == 'seed: 0 -> 1, a.b: [1] -> null, c: null -> "x"'
    assert format_differences({str(n): (n, 0) for n in range(8)}).endswith("5: 5 -> 0, and 2 more")


@pytest.mark.parametrize(
    ("change", "told"), [({"seed": 1}, "seed: 0 -> 1"), ({"seed": 0, "data": {"x": 1}}, "data.x: null -> 1")]
)
def test_refused_command_leaves_a_finished_run_as_it_was(tmp_path, capsys, change, told):
    execute(config(tmp_path), "train", lambda cfg, run: 0.5)
    before = snapshot(tmp_path)
    with pytest.raises(RunFailedError):
        execute(config(tmp_path, **change), "train", lambda cfg, run: pytest.fail("the body must not start"))
    assert snapshot(tmp_path) == before
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert told in line
    assert "Name a new run_dir" in line
    assert f"init_from={tmp_path}" in line


def test_a_value_out_of_its_range_is_refused_as_such_by_a_finished_run(tmp_path, capsys, compose):
    cfg = compose("evaluate", "sheet_users=4")
    execute(cfg, "evaluate", lambda cfg, run: 0.5)
    before = snapshot(tmp_path)
    with pytest.raises(RunFailedError):
        execute(compose("evaluate", "sheet_users=0"), "evaluate", lambda cfg, run: pytest.fail("must not start"))
    assert snapshot(tmp_path) == before
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "error: config: sheet_users must be a whole number of at least 1, got 0"


@pytest.mark.parametrize("error", [PmgError("there is no such file"), ValueError("a fault"), KeyboardInterrupt()])
def test_a_finished_run_stays_finished_when_the_same_command_fails(tmp_path, error):
    execute(config(tmp_path), "pretrain", lambda cfg, run: 0.5)
    before = snapshot(tmp_path)

    def body(cfg, run):
        raise error

    with pytest.raises(RunFailedError):
        execute(config(tmp_path, device="cuda:9"), "pretrain", body)
    after = snapshot(tmp_path)
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed <= ({"pretrain.log"} if isinstance(error, ValueError) else set())
    assert completed_metrics(config(tmp_path), "pretrain")


def test_an_unfinished_run_is_left_as_it_was_until_its_body_begins(tmp_path):
    def body(cfg, run):
        if cfg.device == "begin":
            run.begin()
        raise PmgError("refused")

    (tmp_path / "checkpoints").mkdir(parents=True)
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"state")
    write_run(tmp_path, status="interrupted", identity={"seed": 0})
    before = snapshot(tmp_path)
    with pytest.raises(RunFailedError):
        execute(config(tmp_path, device="cpu"), "train", body)
    assert snapshot(tmp_path) == before
    with pytest.raises(RunFailedError):
        execute(config(tmp_path, device="begin"), "train", body)
    assert json.loads((tmp_path / "metrics.json").read_text())["status"] == "failed"


def test_a_run_that_left_nothing_gives_its_folder_to_another(tmp_path):
    write_run(tmp_path, status="failed", identity={"seed": 0})
    assert refuse_other(tmp_path, "train", {"seed": 1})["status"] == "failed"
    (tmp_path / "records.jsonl").write_text("{}\n")
    with pytest.raises(PmgError, match="seed: 0 -> 1"):
        refuse_other(tmp_path, "train", {"seed": 1})


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_users_of_other_splits_are_no_part_of_a_generations_identity(compose, split):
    same = identify(compose("generate", f"split={split}"), "generate")
    for other in ("train", "validation", "test"):
        for change in (f"split_sizes.{other}=3", f"targets.{other}=2", f"history_items.{other}=3"):
            changed = identify(compose("generate", f"split={split}", change), "generate")
            assert (changed == same) == (other != split), change


def test_records_of_two_ways_are_refused(tmp_path):
    records = [replace(record(f"u{n}", [(0.2, 0.4)]), hashes={"config": "a", "method": "m"}) for n in range(2)]
    refuse_mixtures(tmp_path, records, "a")
    with pytest.raises(PmgError, match="made in different ways"):
        refuse_mixtures(tmp_path, records, "b")
    other = replace(records[1], hashes={"config": "a", "method": "n"})
    with pytest.raises(PmgError, match="made in different ways"):
        refuse_mixtures(tmp_path, [records[0], other], "a")


def test_seed_and_scorer_decide_every_image_and_methods_only_theirs(compose):
    def made_by(*overrides):
        return hash_images(identify(compose("generate", *overrides), "generate"))

    assert made_by("method=none", "shard.count=2", "sheet_users=3") == made_by()
    assert len({made_by(), made_by("seed=1"), made_by("scorer=clip")}) == 3


@pytest.mark.parametrize(
    ("options", "gpu", "precision"),
    [
        (["trainer=ddp"], True, "bf16-mixed"),
        (["trainer=ddp"], False, "32-true"),
        (["trainer=ddp", "dtype=float32"], True, "32-true"),
        (["trainer=multi_node"], True, "bf16-mixed"),
        (["trainer=gpu"], True, "bf16-mixed"),
        (["trainer=gpu"], None, "bf16-mixed"),
        (["trainer=cpu"], True, "32-true"),
        (["trainer=ddp"], None, "32-true"),
    ],
)
def test_precision_is_that_of_the_device_that_trains(compose, monkeypatch, options, gpu, precision):
    """On a processor without bfloat16, beside a GPU with it (True), without it (False), and without a GPU (None)."""
    monkeypatch.setattr("pmg.configuration.precision.has_bfloat16", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu is not None)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: gpu)
    cfg = compose("train", *options)
    assert cfg.trainer.precision == precision  # before a run, as in a forecast of memory
    resolve_dtype(cfg)
    assert cfg.trainer.precision == precision


@pytest.mark.parametrize("command", ["train", "generate", "keywords", "pretrain"])
def test_identity_is_equal_on_every_processor(compose, monkeypatch, command):
    found = []
    for has in (True, False):
        monkeypatch.setattr("pmg.configuration.precision.has_bfloat16", lambda has=has: has)
        found.append(identify(compose(command), command))
    assert found[0] == found[1]
    assert any("<dtype>" in str(value) for value in found[0].values())


def test_a_run_keeps_its_floating_point_type_on_another_processor(tmp_path, compose, monkeypatch, capsys):
    def body(cfg, run):
        types.append((cfg.language_model.dtype, cfg.trainer.precision))

    types: list = []
    limited = "trainer.max_time=00:00:10:00"  # a completed run goes on
    for has in (True, False):
        monkeypatch.setattr("pmg.configuration.precision.has_bfloat16", lambda has=has: has)
        execute(compose("train", "logger=none", limited), "train", body)
    assert types == [("bfloat16", "bf16-mixed")] * 2
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["dtype"] == "bfloat16"
    with pytest.raises(RunFailedError):
        execute(compose("train", "logger=none", limited, "dtype=float32"), "train", body)
    assert 'dtype: "bfloat16" -> "float32"' in capsys.readouterr().err
    assert completed_metrics(compose("train", "logger=none", limited), "train")
    assert not completed_metrics(compose("train", "logger=none", limited, "dtype=float32"), "train")


@pytest.mark.parametrize("command", ["train", "generate"])
def test_a_config_can_be_sent_to_another_process(compose, command):
    """Ranks and shards are started with it; its type is found by name."""
    cfg = compose(command)
    again = pickle.loads(pickle.dumps(cfg))
    assert again == cfg
    assert OmegaConf.get_type(again) is OmegaConf.get_type(cfg)
