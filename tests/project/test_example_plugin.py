"""The plug-in package of examples/plugin: installed by pip, and run through the commands and a sweep."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys

import pytest
import torch

import pmg as public
from exports import NO_PREFERENCE
from plugins import write_metadata
from pmg import PersonalizedPipeline, PmgError
from pmg.api.export import name_encoder, to_index, write_index
from pmg.api.serialization import PARTS, SECTIONS
from pmg.configuration import targets
from pmg.configuration.instantiate import to_plain
from pmg.generation.alpha import ConfidentAlpha
from pmg.models.preference.preference_encoder import PreferenceEncoder

TINY = [
    "language_model._target_=pmg.models.tiny_models.tiny_language_model",
    *(f"~language_model.{key}" for key in ("source", "dtype", "cache_dir")),
    "text_encoder=tiny", "generator=example_flow", "scorer=tiny", "data.size=32",
    "split_sizes={train: 4, validation: 2, test: 3}", "objective.users_per_step=2", "objective.batches.draws=1",
    "trainer.max_steps=1", "trainer.val_check_interval=1", "sampling.steps=1", "sheet_users=2", "logger=none",
]  # fmt: skip


@pytest.fixture(scope="module")
def source(root):
    return root / "examples" / "plugin"


@pytest.fixture(scope="module")
def site(source, tmp_path_factory):
    """A folder that pip installed the package into, from a copy, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(source, folder / "source", ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-compile", "--target", folder / "site"]
    command = [sys.executable, "-m", "pip", "install", *options, folder / "source"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def importable(source, monkeypatch, tmp_path):
    """Puts the package on this process's path with the metadata that pip would write; it is forgotten afterwards."""
    write_metadata(tmp_path, "pmg_plugin_example")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(source / "src")
    yield from forgotten(monkeypatch)


@pytest.fixture
def installed(site, monkeypatch):
    """Puts the package that pip installed on this process's path; it is forgotten afterwards."""
    monkeypatch.syspath_prepend(site)
    yield from forgotten(monkeypatch)


def forgotten(monkeypatch):
    """Yields, then removes the package from what is imported and allowed."""
    monkeypatch.setattr(targets, "_allowed", {})
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "pmg_plugin_example"]:
        del sys.modules[name]


def test_files_are_short_and_each_has_an_option(source):
    package = source / "src" / "pmg_plugin_example"
    configs = "".join(path.read_text() for path in package.rglob("*.yaml"))
    for path in package.glob("*.py"):
        assert len([line for line in path.read_text().splitlines() if line]) < 40, path
        assert path.stem == "__init__" or f"_target_: pmg_plugin_example.{path.stem}." in configs


def test_scores_of_the_decoder_are_log_probabilities_of_likely_options(importable):
    from pmg_plugin_example.decoder import LikelyOptions

    scores = torch.tensor([0.6, 0.3, 0.1]).log() - 5  # of whole answers: not normalised over the options
    keywords = LikelyOptions(threshold=0.25)._select(("red", "blue", "green"), scores)
    assert keywords.words == ("red", "blue")
    assert keywords.scores == pytest.approx((math.log(0.6), math.log(0.3)))
    assert ConfidentAlpha(1.0)(keywords, 3) == pytest.approx(0.45)


@pytest.mark.parametrize("command", ["train", "generate", "evaluate"])
def test_options_compose_together(importable, command):
    cfg = public.compose(command, ["experiment=plugin_example"])
    assert cfg.name == "plugin_example"


def test_a_pipeline_with_a_component_of_the_plugin_is_exported_and_loaded_by_who_trusts_it(importable, tmp_path):
    node = {"_target_": "pmg_plugin_example.decoder.LikelyOptions", "threshold": 0.1}
    targets.allow_plugin("pmg_plugin_example")
    cfg = public.compose(
        "study",
        [
            "scenario=items",
            "captioner=metadata",
            "language_model=tiny",
            "preference_encoder=text",
            "text_encoder=tiny",
            "generator=tiny",
            "scorer=tiny",
        ],
    )
    parts = {name: to_plain(cfg[name]) for name in (*PARTS, *SECTIONS)}
    write_index(tmp_path, to_index(parts | {"decoding": node}) | name_encoder(PreferenceEncoder) | NO_PREFERENCE)
    encoder = PreferenceEncoder(llm_width=32, llm_layers=2, kv_heads=2, head_dim=8, text_width=32)
    encoder.save_pretrained(tmp_path / "preference_encoder")
    with pytest.raises(PmgError, match=r"with trust=\['pmg_plugin_example'\]"):
        PersonalizedPipeline.from_pretrained(tmp_path, "cpu")
    pipeline = PersonalizedPipeline.from_pretrained(tmp_path, "cpu", trust=["pmg_plugin_example"])
    request = pipeline.read(["a red cup", "a red hat"], "a ball")
    assert type(request).__name__ == "Request"


@pytest.mark.ci
@pytest.mark.slow
def test_a_sweep_trains_and_images_are_generated_and_evaluated(pmg_here, installed, tmp_path):
    given = ["experiment=plugin_example", *TINY]
    commands = {
        "train": ["-m", "decoding.threshold=0.1,0.3", "run_dir=sweep"],
        "generate": ["train_run=sweep/0", "decoding.threshold=0.1"],
        "evaluate": ["train_run=sweep/0", "decoding.threshold=0.1"],
    }
    for verb, more in commands.items():
        done = pmg_here(verb, *more, *given)
        assert done.returncode == 0, done.stderr[-2000:]
    for job in "01":
        measured = json.loads((tmp_path / "sweep" / job / "metrics.json").read_text())
        assert (measured["status"], measured["metrics"]["train/norm"] > 0) == ("completed", True)
    results = json.loads((tmp_path / "outputs" / "plugin_example" / "results.json").read_text())
    assert results["methods"]["example_latest"]["colourfulness"]["mean"] >= 0
    assert results["metrics"]["colourfulness"]["higher_is_better"] is False
    records = (tmp_path / "outputs" / "plugin_example" / "generate" / "records.jsonl").read_text().splitlines()
    assert {"pmg_paper", "example_latest"} < {json.loads(line)["method"] for line in records}
