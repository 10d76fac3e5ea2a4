"""The examples of docs/extending*.md run as they are written."""

from __future__ import annotations

import json
import re
import shlex
import sys

import pytest
import torch

import pmg
from looks import FEW_TOPICS
from plugins import write_examples
from pmg.configuration import targets
from pmg.domain import Item
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.image_evaluation import compute
from pmg.evaluation.metric_builders import build_metrics
from pmg.evaluation.references import ReferenceReader
from pmg.generation.selection import pick
from pmg.preferences.captioning import caption_items
from pmg.preferences.scenarios import Attribute
from pmg.records.storage import Candidate, Record


@pytest.fixture
def examples(root, tmp_path, monkeypatch):
    """The current folder holds the files of the document's first section."""
    text = "\n".join(path.read_text() for path in sorted((root / "docs").glob("extending*.md")))
    write_examples(text, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(targets, "_allowed", {})
    yield text
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_module_in_the_current_folder_decodes_keywords(examples):
    (snippet,) = re.findall(r"```python\n(import pmg\n.*?)```", examples, re.DOTALL)
    names: dict = {}
    exec(snippet, names)
    assert names["data"].examples("test", 2, 1)
    scenario = pmg.instantiate(names["cfg"].scenario)
    (keywords,) = names["decoding"](None, range(1), scenario.attributes)
    firsts = {option for attribute in scenario.attributes.values() for option in attribute.options[:2]}
    assert set(keywords.words) <= firsts
    assert keywords.words
    (all_of_one,) = type(names["decoding"])(5)(None, range(1), {"few": Attribute("", ("one", "two"))})
    assert all_of_one.words == ("one", "two")


def test_a_reader_of_wishes_of_ones_own_is_chosen_by_its_name(examples):
    (command,) = re.findall(r"^    pmg-generate (plugins=\[my_wishes\] .*)$", examples, re.MULTILINE)
    words = [word for word in shlex.split(command) if word not in ("--config-dir", "conf")]
    cfg = pmg.compose("generate", ["hydra.searchpath=[file://conf]", *words])
    source = pmg.instantiate(cfg.preference.spoken)
    scenario = pmg.instantiate(cfg.scenario)
    said = [["A pale pink ground with halftone dots."], ["lovely"], []]
    asked, none, silent = source.wishes(said, scenario.attributes, None)
    assert asked.allowed == {"ground": ("pale pink ground",), "colour": ("pink",), "surface": ("halftone dots",)}
    assert none.note.endswith("try: dark blue ground")
    assert silent == type(silent)()


def test_a_captioner_of_one_file_is_built_from_its_config(examples):
    (command,) = re.findall(r"^    pmg-train (plugins=\[my_captions\] .*)$", examples, re.MULTILINE)
    captioner = pmg.instantiate(pmg.compose("train", command.split()).captioner)
    items = [Item("1", "1", "a very red apple"), Item("2", "2", "dog")]
    assert caption_items(captioner, items) == {"1": "a very red", "2": "dog"}


def test_a_combination_of_one_file_chooses_among_candidates(examples):
    (command,) = re.findall(r"^    pmg-generate (plugins=\[my_balance\] .*)$", examples, re.MULTILINE)
    combination = pmg.instantiate(pmg.compose("generate", command.split()).balance.combination)
    d_p, d_t = torch.tensor([[0.9, 0.2, 0.4], [0.1, 0.9, 0.5]]), torch.tensor([[0.5, 0.7, 0.6], [0.5, 0.1, 0.3]])
    assert pick(combination(d_p, d_t, 0.5)).tolist() == [2, 0]


def test_a_metric_of_one_file_is_a_column_of_the_results(examples, shop):
    (command,) = re.findall(r"^    pmg-evaluate (plugins=\[colours\] .*)$", examples, re.MULTILINE)
    metrics = build_metrics(pmg.compose("evaluate", command.split()).metrics)
    assert [info.title for info in metrics.outputs][-2:] == ["SSIM to truth", "colour to truth"]
    some = shop.examples("test", 3, 1)
    reader = ReferenceReader(shop.images, metrics.inputs, Comparison())
    record = Record("", "", "none", "own", "", 0, (Candidate(1.0, 1.0, None, 0.5, 0.1),))
    references = reader.read(some, {example.id: [record] for example in some})
    images = torch.stack([truth[0] for truth in references.truths]).flip(0)
    (column,) = compute(metrics.per_image[-1:], images, references).values()
    assert column[1] == pytest.approx(0, abs=1e-6)
    assert column[0] == pytest.approx(
        float((images[0].mean((1, 2)) - references.truths[0].mean((2, 3))).norm(dim=1).min())
    )


@pytest.mark.slow
def test_a_dataset_of_one_file_trains_generates_and_is_evaluated(examples, pmg_here, tmp_path):
    few = "{train: 6, validation: 3, test: 3}"
    small = [
        "language_model=tiny", "generator=tiny", "text_encoder=tiny", "scorer=tiny", f"data.users={few}",
        f"split_sizes={few}", "objective.users_per_step=3", "sampling.steps=2", "sheet_users=3", "trainer.max_steps=2",
        "trainer.val_check_interval=1", "paths.output_dir=out",
    ]  # fmt: skip
    for verb, options in re.findall(r"^    pmg-(\w+) (plugins=\[shapes\] .*)$", examples, re.MULTILINE):
        done = pmg_here(verb, *options.split(), *(small if verb != "evaluate" else ["results_dir=results"]))
        assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert results["methods"]["pmg_paper"]["lpips_truth"]["n"] == 3


@pytest.mark.slow
def test_a_denoiser_of_ones_own_is_trained_and_then_draws(examples, pmg_here, tmp_path):
    lines = re.findall(r"^    pmg-(pretrain|train) (plugins=\[my_denoiser\] .*)$", examples, re.MULTILINE)
    (_, pretrain), (_, train) = lines
    topics = f"data.topics=[{','.join(FEW_TOPICS)}]"
    done = pmg_here(
        "pretrain", *pretrain.split(), topics, "stage.pool.looks=4", "stage.pool.held_out_looks=2",
        "stage.batch_size=4", "trainer.max_steps=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    made = tmp_path / "outputs" / "models" / "look_generator"
    assert {path.name for path in made.iterdir()} == {"convolutions", "style_encoder", "vae"}
    tiny = (
        topics, "data.users.targets=1", "split_sizes={train: 8, validation: 3, test: 3}", "objective.users_per_step=4",
        "targets={train: 1, validation: 1, test: 1}", "trainer.max_steps=2", "trainer.val_check_interval=1",
    )  # fmt: skip
    done = pmg_here("train", *shlex.split(train), *tiny, "run_dir=trained")
    assert done.returncode == 0, done.stderr[-3000:]
    draw = (*shlex.split(train), *tiny[:3], "train_run=trained", "run_dir=drawn", "method=[none,mean_style,pmg_paper]")
    cfg = pmg.compose("generate", list(draw))
    assert str(cfg.preference.mean_style.folder) == "outputs/models/look_generator/style_encoder"  # its own
    done = pmg_here("generate", *draw)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "drawn" / "images" / "pmg_paper" / "own").glob("*.png"))) == 3
