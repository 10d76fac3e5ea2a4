"""Tiny exported pipelines."""

from __future__ import annotations

import json

import torch

from pmg.api.serialization import INDEX
from pmg.models.preference.preference_encoder import PreferenceEncoder
from pmg.models.preference.reader import PreferenceReader
from pmg.models.preference.visual_encoder import VisualPreferenceEncoder
from pmg.models.tiny_models import tiny_scorer

SCENARIO = {
    "_class_name": "Scenario", "name": "stickers",
    "template": "Stickers that a person sent:\n{history}\n{instruction}",
    "dislike_template": "Stickers that a person of the opposite taste sent:\n{history}\n{instruction}",
    "line": "{title}: {caption}", "caption": "pack {pack}, colour {colour}, outline {outline}, shading {shading}",
    "max_items": 12, "target_prefix": "A sticker of: ", "target_question": "\nIt shows:", "scene_words": ["sticker"],
    "negative_prompt": "",
    "attributes": {
        "colour": {"question": "Their favourite colour", "options": ["full colour", "black and white"],
                   "example": "full colour"},
        "shading": {"question": "Their favourite shading", "options": ["flat", "soft gradients"], "example": "flat"},
    },
}  # fmt: skip
SCORER = {"_class_name": "EmbeddedScorer", "folder": "<here>/frozen/0-scorer"}
CHOOSE = {"_class_name": "Choose", "per_attribute": 1, "limit": 8}
TINY = {
    "_class_name": "PersonalizedPipeline",
    "_pmg_version": "0.1.0",
    "language_model": {"_class_name": "TinyLanguageModel"},
    "scenario": SCENARIO,
    "captioner": {"_class_name": "MetadataCaptioner", "template": SCENARIO["caption"]},
    "decoding": CHOOSE,
    "inputs": {"_class_name": "HistoryContexts"},
    "text_encoder": {"_class_name": "TinyTextEncoder"},
    "generator": {"_class_name": "TinyGenerator", "text_encoder": {"_class_name": "TinyTextEncoder"}},
    "scorer": SCORER,
    "preference_encoder": {"_class_name": "PreferenceEncoder"},
    "balance": {
        "weights": {"_class_name": "WeightGrid", "preference": [1.0, 1.25], "target": [1.0], "noises": 1},
        "weighting": {"_class_name": "ScaleWeighting"},
        "combination": {"_class_name": "WeightedScores"},
        "alpha_rule": {"_class_name": "FixedAlpha", "alpha": 0.5}, "alpha": 0.5,
    },
    "methods": {
        "pmg_paper": {"keywords": "keywords", "soft_tokens": "soft", "negative": "dislikes"},
        "keywords": {"keywords": "keywords", "negative": "dislikes"}, "none": {},
    },
    "preference": {
        "soft": {"_class_name": "LoadedTokens"}, "keywords": {"_class_name": "LikedKeywords", "decoding": CHOOSE},
        "dislikes": {"_class_name": "DislikedKeywords", "decoding": CHOOSE},
    },
    "sampling": {"steps": 2, "scales": {"_class_name": "Scales", "target": 2.0, "keywords": 2.0, "soft": 2.0}},
}  # fmt: skip
SEEING = {
    "captioner": {
        "_class_name": "TaggerCaptioner", "scorer": SCORER, "text_encoder": {"_class_name": "TinyTextEncoder"},
        "vocabulary": {"shading": ["flat", "soft"], "outline": ["thin", "thick"]}, "template": "{shading}, {outline}",
    },
    "inputs": {
        "_class_name": "VisualHistories",
        "image_encoder": {"_class_name": "ScorerImageEncoder", "scorer": SCORER},
        "pictures": 12,
    },
    "preference_encoder": {"_class_name": "VisualPreferenceEncoder"},
}  # fmt: skip
READING = {
    "inputs": {
        "_class_name": "ReadHistories",
        "image_encoder": {"_class_name": "ScorerImageEncoder", "scorer": SCORER},
        "layers": [0, 1],
        "text_encoder": {"_class_name": "TinyTextEncoder"},
    },
    "preference_encoder": {"_class_name": "PreferenceReader"},
    "methods": {"pmg_read": {"keywords": "read", "soft_tokens": "soft"}, **TINY["methods"]},
    "preference": {"read": {"_class_name": "LoadedKeywords", "least": 0.15}, **TINY["preference"]},
}  # fmt: skip
SIZES = {"llm_width": 32, "llm_layers": 2, "kv_heads": 2, "head_dim": 8, "text_width": 32}


def write_pipeline(folder, seeing=False, reading=False):
    """Writes a pipeline with random weights, with a scorer of its own; returns its folder.

    Args:
        folder: of the pipeline.
        seeing: whether items are described by their pictures, which the encoder reads, too; else by facts.
        reading: whether the encoder is a reader, which names the scenario's options.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).write_text(json.dumps({**TINY, **(SEEING if seeing else READING if reading else {})}))
    scorer = tiny_scorer()
    scorer.save_pretrained(folder / "frozen" / "0-scorer")
    width = 2 * scorer.config.width  # content and style
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if reading:
            encoder = PreferenceReader(
                llm_width=32, layers_read=2, feature_width=width, text_width=32, sentence_width=32, width=32, layers=1,
                answered=[(name, one["options"]) for name, one in SCENARIO["attributes"].items()],
            )  # fmt: skip
        elif seeing:
            encoder = VisualPreferenceEncoder(feature_width=width, sees="both", **SIZES)
        else:
            encoder = PreferenceEncoder(**SIZES)
    encoder.save_pretrained(folder / "preference_encoder")
    return folder
