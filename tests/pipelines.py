"""Tiny exported pipelines."""

from __future__ import annotations

import json

import torch

from pmg.generation.serialization import INDEX
from pmg.models.loading.tiny_models import tiny_scorer
from pmg.models.preference.preference_encoder import PreferenceEncoder

TINY = {
    "language_model": {"_class_name": "TinyLanguageModel"},
    "text_encoder": {"_class_name": "TinyTextEncoder"},
    "generator": {"_class_name": "TinyGenerator", "text_encoder": {"_class_name": "TinyTextEncoder"}},
    "scorer": {"_class_name": "Scorer", "folder": "<here>/frozen/0-scorer"},
    "sampling": {"steps": 2, "scales": {"_class_name": "Scales", "target": 2.0, "keywords": 2.0, "soft": 2.0}},
}


def write_pipeline(root, folder):
    """Writes a pipeline in the scenario of the shipped one, with a scorer of its own; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    index = json.loads((root / "assets" / "pipeline" / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({**index, **TINY}))
    tiny_scorer().save_pretrained(folder / "frozen" / "0-scorer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = PreferenceEncoder(llm_width=32, llm_layers=2, kv_heads=2, head_dim=8, text_width=32)
    encoder.save_pretrained(folder / "preference_encoder")
    return folder
