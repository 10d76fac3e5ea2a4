"""CLIP as the scorer, from a checkpoint in the true layout, against transformers' own scores."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from PIL import Image

from checkpoints import write_clip, write_language_model
from pmg.domain import PmgError
from pmg.models.tiny_models import tiny_tokenizer
from pmg.models.vision.clip_scorer import ClipScorer

TEXTS = ["red apple", "a dog, thick black outline"]


def test_cosines_are_those_of_the_library(tmp_path):
    folder = write_clip(tmp_path)
    scorer = ClipScorer.from_source(folder)
    levels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    images = levels.permute(0, 3, 1, 2).float().div(127.5).sub(1)
    content, style = scorer(images)
    assert content.equal(style)
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


def test_encoding_texts_warns_of_nothing(tmp_path, recwarn):
    ClipScorer.from_source(write_clip(tmp_path)).text_encoder.encode(TEXTS)
    assert not [str(warning.message) for warning in recwarn if "max_length" in str(warning.message)]


def test_texts_beyond_its_length_are_refused(tmp_path):
    scorer = ClipScorer.from_source(write_clip(tmp_path))
    with pytest.raises(PmgError, match="reads 77"):
        scorer.text_encoder.encode(["x " * 90])


def test_what_is_no_dual_encoder_is_refused(tmp_path):
    with pytest.raises(PmgError, match="can't load a scorer from"):
        ClipScorer.from_source(write_language_model(tmp_path))
    with pytest.raises(PmgError, match="can't load a scorer from"):
        ClipScorer.from_source(str(tmp_path / "nothing"))


def test_siglip_pads_texts_as_it_was_trained(tmp_path):
    """Every text at full length and no mask: what its own processor gives."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "projection_size": 32}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    model = tf.SiglipModel(tf.SiglipConfig(text_config=text, vision_config=vision)).eval()
    for part in (model, tokenizer, tf.SiglipImageProcessor(size={"height": 32, "width": 32})):
        part.save_pretrained(tmp_path)
    scorer = ClipScorer.from_source(str(tmp_path))
    levels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    content, _ = scorer(levels.permute(0, 3, 1, 2).float().div(127.5).sub(1))
    got = content @ scorer.encode_target(scorer.text_encoder.encode(["red apple", "cat"]).pooled).T
    pictures = [Image.fromarray(level.numpy()) for level in levels]
    inputs = tf.SiglipImageProcessor.from_pretrained(tmp_path)(pictures, return_tensors="pt")
    told = tokenizer(["red apple", "cat"], padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        expected = model(input_ids=told["input_ids"], **inputs).logits_per_image
    expected = (expected - model.logit_bias) / model.logit_scale.exp()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
