"""Two config groups leave the laptop: checkpoints in the publishers' layout through the public commands."""

from __future__ import annotations

import json

import pytest
import transformers as tf
from safetensors.torch import load_file

from checkpoints import LLAMA, write_clip, write_language_model, write_sd15, write_sdxl

QWEN = tf.Qwen2Config(**{**LLAMA.to_dict(), "model_type": "qwen2", "tie_word_embeddings": True})
CHAT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<end>{% endfor %}<|assistant|>"
SHORT = [
    "encoder=hub", "generator=stable_diffusion", "scorer=clip", "method=[none,keywords,soft,pmg]",
    "split_sizes={train: 8, validation: 4, test: 6}", "objective.users_per_step=4", "objective.batches.draws=2",
    "sampling.steps=2", "sheet_users=4", "trainer.max_steps=2", "trainer.val_check_interval=1",
    "train_run=a", "generate_run=b", "paths.cache_dir=cache", "paths.output_dir=out",
]  # fmt: skip


@pytest.fixture
def road(pmg, tmp_path):
    """Trains, generates and evaluates with given checkpoints."""

    def run(language_model, generator, *extra):
        sources = [
            f"encoder.language_model.source={language_model}", f"generator.source={generator}",
            f"scorer.source={write_clip(tmp_path / 'clip')}",
        ]  # fmt: skip
        for verb, folder in (("train", "a"), ("generate", "b"), ("evaluate", "c")):
            done = pmg(verb, *SHORT, *sources, f"run_dir={folder}", *extra)
            assert done.returncode == 0, done.stderr[-3000:]
        return json.loads((tmp_path / "c" / "results.json").read_text())

    return run


def test_llama_and_stable_diffusion(road, tmp_path):
    results = road(write_language_model(tmp_path / "llama"), write_sd15(tmp_path / "sd"))
    assert {"none", "keywords", "soft", "pmg", "truth"} <= set(results["arms"])
    weights = load_file(tmp_path / "a" / "encoder" / "diffusion_pytorch_model.safetensors")
    assert weights["map.weight"].shape == (32, 32)  # from the language model's width to the text encoder's


@pytest.mark.slow
def test_qwen_in_its_chat_template_and_sdxl(road, tmp_path):
    """Two text encoders, 48 wide together; images of 96 pixels against drawings of 64."""
    results = road(
        write_language_model(tmp_path / "qwen", QWEN, CHAT), write_sdxl(tmp_path / "xl"), "generator.size=96"
    )
    assert results["arms"]["pmg"]["lpips_truth"]["n"] == 6
    weights = load_file(tmp_path / "a" / "encoder" / "diffusion_pytorch_model.safetensors")
    assert weights["map.weight"].shape == (48, 32)
