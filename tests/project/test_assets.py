"""What ships in assets/: intact, small enough, half precision, documented."""

from __future__ import annotations

import json
import re
import runpy
from hashlib import sha256

import torch
from safetensors.torch import load_file

from pmg.api.serialization import INDEX


def weights(root):
    return sorted((root / "assets").rglob("*.safetensors"))


def test_every_file_has_its_checksum(root):
    lines = (root / "assets" / "checksums.sha256").read_text().splitlines()
    listed = {name.removeprefix("./"): digest for digest, name in (line.split("  ") for line in lines)}
    for name, digest in listed.items():
        assert sha256((root / "assets" / name).read_bytes()).hexdigest() == digest, name
    assert {str(path.relative_to(root / "assets")) for path in weights(root)} <= set(listed)


def test_weights_are_half_precision_safetensors_of_at_most_90_mb(root):
    sizes = {path: path.stat().st_size for path in weights(root)}
    assert sum(size for path, size in sizes.items() if not {"lpips", "pipeline"} & set(path.parts)) <= 90e6
    for path in weights(root):
        floats = {tensor.dtype for tensor in load_file(path).values() if tensor.is_floating_point()}
        assert floats == {torch.float16}, path
    assert not [path for kind in ("*.ckpt", "*.pt", "*.bin", "*.pkl") for path in (root / "assets").rglob(kind)]


def test_no_config_tells_of_the_machine_that_trained(root):
    for path in (root / "assets").rglob("*.json"):
        assert '": "/' not in path.read_text(), path


def test_every_trained_model_has_a_card_with_its_quality(root):
    for folder in (
        "look_generator/vae",
        "look_generator/large_decoder",
        "look_generator/unet",
        "look_generator/start_unet",
        "look_generator/token_editor",
        "look_judge",
        "look_judge_alexnet",
        "look_scorer",
        "look_reward",
    ):
        card = (root / "assets" / folder / "README.md").read_text()
        assert "Measured on held-out drawings" in card
        assert "license:" in card


def test_the_shipped_pipeline_has_a_card_that_tells_its_training(root):
    card = (root / "assets" / "pipeline" / "README.md").read_text()
    assert re.search(r"\| trained parameters \| [\d,]+ \|", card)
    assert "license: cc-by-sa-4.0" in card


def test_the_shipped_pipeline_says_what_todays_configs_say(root):
    index = json.loads((root / "assets" / "pipeline" / INDEX).read_text())
    renewed = runpy.run_path(str(root / ".ci" / "shipped_pipeline.py"))["renew"](index)
    assert renewed == index, "run python .ci/shipped_pipeline.py, and write its checksum"


def test_every_model_with_weights_names_its_licence(root):
    for group in ("language_model", "generator", "text_encoder", "scorer"):
        for path in (root / "conf" / group).glob("*.yaml"):
            text = path.read_text()
            any_or_none = {
                "hub",
                "shared",
                "tiny",
                "stable_diffusion",
                "tiny_sd3",
                "janus_looks",
                "looks_transformer",
                "looks_large",
            }
            assert ("\n# Licence: " in text) == (path.stem not in any_or_none), path
