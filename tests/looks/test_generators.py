"""Generators of other families on looks, at toy size, through training, generation and evaluation."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel
from pmg_janus.embedded import build_janus
from pmg_janus.tokenizer import build_tokenizer

from looks import FEW_TOPICS
from pmg.configuration.plugins import component_targets
from pmg.installation import find_assets
from pmg.looks.models.style_encoder import StyleEncoder

WIDTH = 384  # of the text encoder


def write_style_encoder(folder):
    """The style encoder of a generator, with the autoencoder whose latents it reads."""
    torch.manual_seed(0)
    StyleEncoder(16, 16, 4, WIDTH, 2, 4).save_pretrained(folder / "style_encoder")
    shutil.copytree(f"{find_assets()}/look_generator/vae", folder / "vae")


def write_unet(folder):
    write_style_encoder(folder)
    UNet2DConditionModel(
        sample_size=8, in_channels=16, out_channels=16, block_out_channels=(16, 16), layers_per_block=1,
        attention_head_dim=(1, 1), cross_attention_dim=WIDTH, norm_num_groups=4, class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * WIDTH, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).save_pretrained(folder / "unet")  # fmt: skip
    return f"generator.denoiser.folder={folder}/unet"


def write_janus(folder):
    write_style_encoder(folder)
    build_tokenizer(32, 8, 8, 32, (1, 1, 1, 1), 1).save_pretrained(folder / "tokenizer")
    build_janus(str(folder / "tokenizer"), WIDTH, 1, 6, 64).save_pretrained(folder / "janus")
    return f"generator.folder={folder}/janus"


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "write"), [("families", write_unet), ("families_janus", write_janus)])
def test_every_method_works_with_every_family(pmg_here, tmp_path, experiment, write):
    topics = ",".join(FEW_TOPICS)
    done = pmg_here(
        "study", f"experiment={experiment}", "hydra.mode=RUN", write(tmp_path / "model"), "run_dir=run", "seed=0",
        f"data.topics=[{topics}]", "data.users.targets=1", "split_sizes={train: 8, validation: 3, test: 3}",
        "targets={train: 1, validation: 1, test: 1}", "objective.users_per_step=4", "trainer.max_steps=2",
        "trainer.val_check_interval=1", "sheet_users=3", "preference_encoder.copies=true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for method in ("none", "keywords", "soft", "pmg_paper", "mean_style", "oracle"):
        assert results["methods"][method]["lpips_truth"]["n"] == 3
    assert results["config"]["name"] in ("looks", "janus_looks")
    whole, part = (json.loads((tmp_path / "run" / name / "metrics.json").read_text()) for name in (".", "generate"))
    assert whole["ledger"]["denoiser_evaluations"] == part["ledger"]["denoiser_evaluations"] > 0


def test_exported_pipelines_may_have_them():
    assert "DiffusionGenerator" in set(component_targets()["generator"])
    assert "UNetDenoiser" in component_targets()["denoiser"]
