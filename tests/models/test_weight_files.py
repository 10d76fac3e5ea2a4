"""Hostile folders of models: refused before a model of their sizes is built, in one line."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import write_language_model
from pmg.domain import PmgError
from pmg.models.language.language_model import load_language_model

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path):
    write_language_model(tmp_path)
    return tmp_path


def load(folder):
    return load_language_model(str(folder), "float32", str(folder / "cache"))


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.float8_e4m3fn, torch.int64])
def test_weights_that_are_no_floating_point_numbers_are_refused(folder, kind):
    weights = load_file(folder / WEIGHTS)
    name = sorted(weights)[0]
    save_file({**weights, name: weights[name].to(kind)}, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(PmgError, match=rf"model\.safetensors: {name} is stored as \w+, not as one of F64"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": 10**7}, "num_hidden_layers is 10000000; at most 1000"),
        ({"num_labels": 10**9}, "num_labels is 1000000000; at most 100000"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000; at most"),
        ({"nested": {"layers": [2, 10**6]}}, r"nested.layers is \[2, 1000000\]"),
        ({"blocks": [1] * 500, "layers_per_block": 900}, "up to 500 times 900 layers; at most 20000"),
        (
            {"hidden_size": 10**6, "intermediate_size": 10**6, "quantization_config": {"quant_method": "fp8"}},
            "describes [0-9]+ numbers|FP8|fp8|quantiz",
        ),
        ({"hidden_size": 10**6, "intermediate_size": 10**6}, "describes [0-9]+ numbers; its weights allow [0-9]+"),
    ],
)
def test_a_config_of_a_model_that_is_too_large_is_refused(folder, change, said):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(PmgError, match=said):
        load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 10**6}, "texts up to 1000000 times as long"),
        (
            {
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 200}] * 4,
            },
            "texts up to 1600000000 times as long",
        ),
    ],
)
def test_a_normalizer_that_lengthens_texts_too_much_is_refused(folder, change, said):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "normalizer": change}))
    with pytest.raises(PmgError, match=said):
        load(folder)


def test_a_config_of_too_many_bytes_is_refused(folder):
    with (folder / "config.json").open("r+b") as file:
        file.truncate(2**22 + 1)
    with pytest.raises(PmgError, match=r"config\.json has 4194305 bytes; at most 4194304 are read"):
        load(folder)


def test_a_tokenizer_that_backtracks_is_refused(folder):
    path = folder / "tokenizer.json"
    split = {"type": "Split", "pattern": {"Regex": "(([a-z ])+.)+[A-Z]([a-z ])+@$"}, "behavior": "Isolated"}
    changed = {**json.loads(path.read_text()), "pre_tokenizer": {**split, "invert": False}}
    path.write_text(json.dumps(changed))
    with pytest.raises(PmgError, match="the tokenizer can't split a plain sentence"):
        load(folder)


def test_a_tokenizer_of_too_many_bytes_is_refused(folder):
    with (folder / "tokenizer.json").open("r+b") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(PmgError, match=r"tokenizer.json has 67108865 bytes; at most 67108864"):
        load(folder)
