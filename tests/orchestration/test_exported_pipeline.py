"""``pmg-generate pipeline=FOLDER``: an exported pipeline on a data set that its encoder was not trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from pipelines import write_pipeline
from pmg.api.exported_tokens import ExportedTokens
from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.orchestration.exported_pipeline import take_pipeline_parts
from pmg.records.storage import read_images, read_records
from pmg.runs.run_folder import identify
from shops import write_shop

SMALL = ["split_sizes.test=3", "sampling.steps=2", "balance.weights.preference=[1.0]", "sheet_users=1", "logger=none"]


def test_words_of_the_command_line_remain(tmp_path, compose):
    own = ["scenario=items", "decoding=generate", "captioner=metadata"]
    cfg = compose("generate", f"pipeline={write_pipeline(tmp_path)}", *own)
    take_pipeline_parts(cfg, "generate", own)
    assert cfg.scenario.name == "items"
    assert cfg.captioner.template == ""  # the scenario's
    assert cfg.decoding._target_.endswith(".Generate")
    assert cfg.scorer.folder.endswith("frozen/0-scorer")


@pytest.mark.parametrize(
    ("command", "overrides", "message"),
    [
        ("generate", ["generator=sd15"], r"generator=sd15: pipeline=.* has its own"),
        ("generate", ["language_model.source=x"], "language_model.source=x: pipeline="),
        ("generate", ["train_run=outputs/a"], "train_run=outputs/a: pipeline="),
        ("study", [], "pmg-study trains its own encoder"),
    ],
)
def test_contradictions_are_refused(tmp_path, compose, command, overrides, message):
    cfg = compose(command, f"pipeline={write_pipeline(tmp_path)}")
    with pytest.raises(PmgError, match=message):
        take_pipeline_parts(cfg, command, overrides)


def test_folders_without_a_pipeline_are_refused(compose, tmp_path):
    with pytest.raises(PmgError, match="holds no pipeline"):
        take_pipeline_parts(compose("generate", f"pipeline={tmp_path}"), "generate", [])
    with pytest.raises(PmgError, match="is missing: export the pipeline again"):
        _ = ExportedTokens(str(tmp_path)).identity


@pytest.mark.slow
def test_a_pipeline_generates_for_a_catalogue_of_ones_own(tmp_path, pmg_here):
    write_shop(tmp_path)
    write_pipeline(tmp_path / "pipeline")
    done = pmg_here(
        "prepare", "data=own_files", "source.read.items=shop/items.csv", "source.read.interactions=shop/chosen.csv",
        "source.pictures.size=64", "source.max_missing_pictures=0.1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = ["experiment=real_users", "pipeline=pipeline", "scenario=items", *SMALL, "run_dir=made"]
    done = pmg_here("generate", *run)
    assert done.returncode == 0, done.stderr[-2000:]
    records = read_records("made")
    assert {record.method for record in records} == {"none", "keywords", "soft", "pmg_paper"}
    images = read_images("made", records)
    own = [row for row, record in enumerate(records) if record.control == "own"]
    by_key = {(records[row].example, records[row].method): images[row] for row in own}
    examples = {example for example, _ in by_key}
    assert all(not torch.equal(by_key[one, "none"], by_key[one, "soft"]) for one in examples)
    again = pmg_here("generate", *run)
    assert again.returncode == 0
    assert json.loads((tmp_path / "made" / "metrics.json").read_text())["ledger"]["denoiser_evaluations"] == 0
    done = pmg_here("evaluate", "experiment=real_users", "generate_run=made", "results_dir=results", "logger=none")
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"soft", "pmg_paper"} <= set(json.loads((tmp_path / "results" / "results.json").read_text())["methods"])


def test_another_encoder_in_the_same_folder_is_another_run(compose, tmp_path):
    folder = write_pipeline(tmp_path)
    first = identify(compose("generate", f"pipeline={folder}"), "generate")
    weights = Path(folder) / "preference_encoder" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(bytes(reversed(weights.read_bytes())))
    second = identify(compose("generate", f"pipeline={folder}"), "generate")
    assert {key for key in first if first[key] != second[key]} == {"pipeline.weights"}


def test_an_export_takes_the_sampling_that_its_trainings_generator_brings(compose, tmp_path):
    OmegaConf.save({}, tmp_path / "config.yaml")
    (tmp_path / "metrics.json").write_text(
        json.dumps({"command": "train", "status": "completed", "choices": {"generator": "lcm"}})
    )
    cfg, named = (compose("export", f"train_run={tmp_path}", *own) for own in ([], ["sampling.steps=3"]))
    expected = compose("generate", "generator=lcm").sampling
    assert cfg.sampling != expected
    take_pipeline_parts(cfg, "export", [])
    assert cfg.sampling == expected
    take_pipeline_parts(named, "export", ["sampling.steps=3"])
    assert (named.sampling.steps, named.sampling.guidance) == (3, expected.guidance)
    with pytest.raises(PmgError, match="is not a run folder"):
        take_pipeline_parts(compose("export", f"train_run={tmp_path / 'none'}"), "export", [])


def test_words_of_an_exported_reader_are_its_own(tmp_path, compose):
    folder = write_pipeline(tmp_path, reading=True)
    cfg = compose("generate", f"pipeline={folder}", "preference.read.least=0.3")
    take_pipeline_parts(cfg, "generate", [])
    for name in ("soft", "read"):
        source = instantiate(cfg.preference[name])
        assert source.pipeline == str(folder)
        assert not source.requires.contexts
    assert source.least == 0.3


def test_a_single_key_of_a_pipelines_scenario_leaves_the_others(tmp_path, compose):
    given = ["scenario.max_items=3"]
    cfg = compose("generate", f"pipeline={write_pipeline(tmp_path)}", *given)
    take_pipeline_parts(cfg, "generate", given)
    assert (cfg.scenario.name, cfg.scenario.max_items) == ("stickers", 3)
    assert cfg.captioner.template.startswith("pack {pack}")
