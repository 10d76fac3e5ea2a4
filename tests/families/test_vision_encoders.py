"""Histories of pictures through the public commands: trained, generated with, exported and loaded again."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from checkpoints import write_gemma3, write_qwen2_vl, write_qwen3_vl, write_qwen25_vl, write_smolvlm
from commands import FEW
from pmg import PersonalizedPipeline
from pmg.api.call_arguments import with_pictures
from pmg.commands.estimate import empty_models
from pmg.commands.export import body as export
from pmg.commands.generate import body as generate
from pmg.commands.train import body as train
from pmg.configuration.instantiate import instantiate, instantiate_by_name
from pmg.domain import PmgError
from pmg.orchestration.run import execute
from pmg.seeding import stable_number
from pmg.training.memory_forecast import estimate_training

FAMILIES = {
    "smolvlm": write_smolvlm,
    "qwen2_vl": write_qwen2_vl,
    "qwen25_vl": write_qwen25_vl,
    "qwen3_vl": write_qwen3_vl,
    "gemma3": write_gemma3,
}
SHORT = [
    "text_encoder=tiny", "scorer=tiny", "generator=tiny", "method=pmg_paper", "dtype=float32",
    "language_model.dtype=float32",
    "split_sizes={train: 4, validation: 2, test: 2}", "objective.users_per_step=2", "objective.batches.draws=2",
    "sampling.steps=2", "sheet_users=2", "trainer.max_steps=1", "trainer.val_check_interval=1", "train_run=a",
    "paths.cache_dir=cache", "paths.output_dir=out", *FEW,
    "language_model.tokens_per_picture=4",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", [pytest.param("smolvlm", marks=pytest.mark.ci), *sorted({*FAMILIES} - {"smolvlm"})])
def test_histories_of_pictures(family, compose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = FAMILIES[family](tmp_path / family)
    shared = [*SHORT, f"language_model={family}", f"language_model.source={source}"]
    execute(compose("train", *shared, "run_dir=a"), "train", train)
    execute(compose("generate", *shared, "run_dir=b"), "generate", generate)
    exported = ["train_run=a", "folder=p", "sampling=default", "sampling.steps=2", "dtype=float32"]
    execute(compose("export", *exported, "run_dir=e"), "export", export)
    records = [json.loads(line) for line in (tmp_path / "b" / "records.jsonl").read_text().splitlines()]
    record = next(row for row in records if row["method"] == "pmg_paper" and row["control"] == "own")
    data = instantiate(compose("generate", *shared).data)
    example = next(e for e in data.examples("test", 2, 1) if e.id == record["example"])
    pipe = PersonalizedPipeline.from_pretrained(tmp_path / "p", "cpu", str(tmp_path / "other"))
    history = with_pictures(example.liked, data.images)
    blank = [{**one, "image": Image.new("RGB", (64, 64))} for one in history]
    seed = stable_number("noise", 0, example.id) % 2**62
    requests = [replace(pipe.read(some, example.target), seed=seed) for some in (history, blank)]
    made = np.asarray(Image.open(tmp_path / "b" / record["image"])).astype(int)
    same, other = (abs(np.asarray(image).astype(int) - made).mean() for image in pipe.draw(requests).images)
    assert list(requests[0].keywords.words) == record["preference_keywords"]
    assert same < min(3, other / 3)
    broken = [{**history[0], "image": cut_off(history[0]["image"])}]
    with pytest.raises(PmgError, match=rf"the image of item '{example.liked[0].title}' can't be read") as caught:
        pipe.read(broken, example.target)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_is_forecast_with_the_weights_of_both_encoders(family, compose, tmp_path):
    source = FAMILIES[family](tmp_path)
    models = [f"language_model={family}", f"language_model.source={source}", "generator=tiny"]
    cfg = compose("estimate", *SHORT, *models)
    language_model, generator, weights, sizes = empty_models(cfg)
    kept = load_file(Path(source, "model.safetensors"))
    assert weights["language model"] == pytest.approx(sum(tensor.nbytes for tensor in kept.values()), rel=0.01)
    terms = instantiate_by_name(cfg.objective.module.terms)
    assert estimate_training(language_model, generator, weights, sizes, terms).device > sum(weights.values())


def cut_off(picture):
    """A picture whose file ends in the middle."""
    file = BytesIO()
    picture.resize((300, 300)).save(file, "JPEG")
    return Image.open(BytesIO(file.getvalue()[:-600]))
