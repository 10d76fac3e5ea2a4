"""A tiny pipeline in the scenario of the shipped one, and pictures to upload."""

from __future__ import annotations

import io
import json

import torch
from PIL import Image

from pmg import PersonalizedPipeline
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


def load_tiny(root, folder):
    """Writes and loads a pipeline with random weights."""
    index = json.loads((root / "assets" / "pipeline" / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({**index, **TINY}))
    tiny_scorer().save_pretrained(folder / "frozen" / "0-scorer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = PreferenceEncoder(llm_width=32, llm_layers=2, kv_heads=2, head_dim=8, text_width=32)
    encoder.save_pretrained(folder / "preference_encoder")
    pipe = PersonalizedPipeline.from_pretrained(folder, "cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def encode(kind="PNG", size=(20, 10), mode="RGB", frames=1, **options):
    """Returns a picture as the bytes of a file."""
    file = io.BytesIO()
    pictures = [Image.new(mode, size, number * 40) for number in range(frames)]
    more = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    pictures[0].save(file, kind, **more, **options)
    return file.getvalue()
