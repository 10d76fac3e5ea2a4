"""What a config names is part of its run: data sets and weights by their content."""

from __future__ import annotations

import json
import os

import pytest
from omegaconf import OmegaConf

from pmg.domain import PmgError
from pmg.runs import content
from pmg.runs.content import check_made, digest_content, digest_path, names_content, refuse_changed, select_content
from pmg.runs.run_folder import (
    RunRecord,
    completed_metrics,
    identify,
    read_finished,
    refuse_other,
    replace_folders,
)


@pytest.fixture(autouse=True)
def no_memo(monkeypatch):
    monkeypatch.setattr(content, "_known", {})


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "models" / "unet"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"1234")
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_is_its_names_and_contents(weights, tmp_path):
    first = digest_path(weights)
    (weights / "__pycache__").mkdir()
    for name in ("README.md", ".DS_Store", "__pycache__/model.pyc"):
        (weights / name).write_text("no weights")
    os.utime(weights / "weights.safetensors", (0, 0))
    assert digest_path(weights) == first == digest_path(weights.rename(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere" / "weights.safetensors").write_bytes(b"1235")
    assert digest_path(tmp_path / "elsewhere") != first
    assert digest_path(tmp_path / "nothing") is None


def test_files_are_read_once_until_they_change(weights, tmp_path, monkeypatch):
    cache, reads = tmp_path / "cache", []
    cache.mkdir()
    read = content.hashlib.file_digest
    monkeypatch.setattr(content.hashlib, "file_digest", lambda file, kind: reads.append(file.name) or read(file, kind))
    digests = digest_content({"generator.folder": str(weights)}, str(cache))
    content._known.clear()  # as in another process
    assert digest_content({"generator.folder": str(weights)}, str(cache)) == digests
    assert len(reads) == 2
    (weights / "weights.safetensors").write_bytes(b"4321")
    assert digest_content({"generator.folder": str(weights)}, str(cache)) != digests
    assert len(reads) == 3
    (cache / "digests.json").write_text("damaged")
    content._known.clear()
    assert digest_content({"generator.folder": str(weights)}, str(cache)).keys() == digests.keys()


def test_files_behind_links_count(weights, tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "unet").symlink_to(weights)
    first = digest_path(tmp_path / "pipeline")
    (weights / "weights.safetensors").write_bytes(b"tuned")
    assert digest_path(tmp_path / "pipeline") != first


def test_keys_that_name_what_is_read():
    assert all(map(names_content, ("data.folder", "generator.denoiser.folder", "stage.start", "stage.trunk.folder")))
    assert not any(
        map(names_content, ("stage.folder", "stage.pool.folder", "run_dir", "paths.cache_dir", "scenario.name"))
    )


@pytest.mark.parametrize("command", ["train", "generate"])
def test_a_run_on_other_weights_or_data_is_another_run(compose, weights, tmp_path, command):
    cfg = compose(command, f"+generator.folder={weights}", f"+data.source={tmp_path / 'models'}")
    first = identify(cfg, command)
    assert set(select_content(first)) >= {"generator.folder.content", "data.source.content"}
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.json").write_text(json.dumps({"command": command, "status": "completed", "identity": first}))
    assert refuse_other(run, command, identify(cfg, command))
    (weights / "weights.safetensors").write_bytes(b"scaled by half")
    with pytest.raises(PmgError, match=r"holds a run of other values: .*generator\.folder\.content"):
        refuse_other(run, command, identify(cfg, command))


def test_the_commands_own_folder_is_none_of_its_inputs(compose, tmp_path):
    (tmp_path / "run" / "made").mkdir(parents=True)
    (tmp_path / "run" / "made" / "a").write_text("a")
    cfg = compose("train", f"run_dir={tmp_path}/run", "+data.source=${run_dir}/made")
    assert "data.source.content" not in identify(cfg, "train")
    cfg = compose("train", f"run_dir={tmp_path}/run", f"+data.source={tmp_path}/run/made")
    assert "data.source.content" in identify(cfg, "train")  # data that lie in the run folder


def test_a_file_of_another_run_is_refused(tmp_path):
    (tmp_path / "weights").write_bytes(b"mine")
    made = {"made": {"weights": digest_path(tmp_path / "weights")}, "command": "train"}
    assert check_made(tmp_path, made, "weights") == made["made"]["weights"]
    (tmp_path / "weights").write_bytes(b"yours")
    with pytest.raises(PmgError, match="weights is not what this run made: it is damaged, or another run's"):
        check_made(tmp_path, made, "weights")
    (tmp_path / "weights").unlink()
    with pytest.raises(PmgError, match=r"weights is missing. Run pmg-train again in another run_dir"):
        check_made(tmp_path, made, "weights")


def test_files_that_changed_since_a_run_read_them_are_named(weights):
    config = {group: {"folder": str(weights)} for group in ("data", "generator")}
    identity = digest_content({f"{group}.folder": str(weights) for group in config})
    metrics = {"command": "generate", "identity": identity}
    refuse_changed("run", config, metrics)
    (weights / "config.json").write_text("[]")
    refuse_changed("run", config, metrics, "scorer")
    with pytest.raises(PmgError, match=r"^run was made .* now: data\.folder \([^,]*unet\); run pmg-generate"):
        refuse_changed("run", config, metrics, "data")


def test_the_innermost_of_several_folders_is_replaced():
    node = {"a": ["/x/y/z", "/x/yz", "/x", "x/y", 3]}
    found = replace_folders(node, {"/x": "<outer>", "/x/y": "<inner>"})
    assert found == {"a": ["<inner>/z", "<outer>/yz", "<outer>", "x/y", 3]}


def test_a_config_that_was_changed_is_refused(tmp_path):
    record = RunRecord("seed: 0\n", tmp_path, {"command": "train", "identity": {}}, None)
    record.begin()
    record.write("completed", {})
    assert read_finished(tmp_path, "train")[0].seed == 0
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(PmgError, match=r"config\.yaml was changed; run `pmg-train` again"):
        read_finished(tmp_path, "train")
    (tmp_path / "config.yaml").write_text("seed: [")
    with pytest.raises(PmgError, match="is damaged"):
        read_finished(tmp_path, "train")


@pytest.mark.parametrize("text", ["[]", '"train"', "{", '{"command": "train", "identity": {}}'])
def test_a_run_without_its_facts_is_damaged(tmp_path, text):
    RunRecord("seed: 0\n", tmp_path, {"command": "train", "identity": {}}, None).begin()
    (tmp_path / "metrics.json").write_text(text)
    for read in (lambda: read_finished(tmp_path, "train"), lambda: refuse_other(tmp_path, "train", {})):
        with pytest.raises(PmgError, match=r"metrics\.json is damaged"):
            read()
    assert completed_metrics(OmegaConf.create({"run_dir": str(tmp_path)}), "train") is None
