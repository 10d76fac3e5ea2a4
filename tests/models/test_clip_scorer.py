"""CLIP as the scorer, from a checkpoint in the true layout, against transformers' own scores."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from PIL import Image

from checkpoints import write_clip, write_language_model
from pmg.domain import PmgError
from pmg.models.clip_scorer import ClipScorer

TEXTS = ["red apple", "a dog, thick black outline"]


def test_cosines_are_those_of_the_library(tmp_path):
    folder = write_clip(tmp_path)
    scorer = ClipScorer.from_source(folder)
    levels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    images = levels.permute(0, 3, 1, 2).float().div(127.5).sub(1)
    content, manner = scorer(images)
    assert content.equal(manner)
    texts = scorer.text_encoder.encode(TEXTS).pooled
    got = content @ scorer.encode_target(texts).T
    model = tf.CLIPModel.from_pretrained(folder)
    pictures = [Image.fromarray(level.numpy()) for level in levels]
    inputs = tf.CLIPImageProcessor.from_pretrained(folder)(pictures, return_tensors="pt")
    told = tf.CLIPTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs, **told)
    torch.testing.assert_close(got, expected.logits_per_image / model.logit_scale.exp(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scorer.encode_preference(texts), scorer.encode_target(texts))


def test_texts_beyond_its_length_are_refused(tmp_path):
    scorer = ClipScorer.from_source(write_clip(tmp_path))
    with pytest.raises(PmgError, match="reads 77"):
        scorer.text_encoder.encode(["x " * 90])


def test_what_is_no_dual_encoder_is_refused(tmp_path):
    with pytest.raises(PmgError, match="can't load a scorer from"):
        ClipScorer.from_source(write_language_model(tmp_path))
    with pytest.raises(PmgError, match="can't load a scorer from"):
        ClipScorer.from_source(str(tmp_path / "nothing"))
