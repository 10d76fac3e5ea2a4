"""Encoders of metrics, from checkpoints in the true layout, against transformers' own numbers."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import transformers as tf
from PIL import Image

from checkpoints import write_clip, write_dinov2, write_language_model
from pmg.domain import PmgError
from pmg.evaluation.metrics.distribution import Fid
from pmg.models.loading.device import to_device
from pmg.models.vision.features import ClipFeatures, InceptionFeatures, VisionFeatures, encode_images, input_size

INSTALLED = importlib.util.find_spec("torch_fidelity") is not None


def levels(count, size):
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(0)).float()


def test_class_tokens_are_those_of_the_library(tmp_path):
    folder = write_dinov2(tmp_path)
    features = to_device(VisionFeatures.from_source(folder), "cpu")
    pixels = levels(3, 28)
    pictures = [Image.fromarray(each.permute(1, 2, 0).byte().numpy()) for each in pixels]
    looks = tf.BitImageProcessor.from_pretrained(folder)
    inputs = looks(pictures, return_tensors="pt", do_resize=False)
    with torch.no_grad():
        expected = tf.Dinov2Model.from_pretrained(folder)(**inputs).pooler_output
    got = features(pixels.div(127.5).sub(1))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert not got.requires_grad
    assert not features.train().training


def test_images_of_any_size_are_seen_whole(tmp_path):
    features = VisionFeatures.from_source(write_dinov2(tmp_path))
    assert features.size == 28
    images = levels(2, 64).div(127.5).sub(1)
    edge = images.clone()
    edge[..., :2, :] = -1.0  # what a crop to the middle would not have seen
    assert (features(images) - features(edge)).abs().max() > 1e-3


def test_many_images_go_in_batches(tmp_path):
    features = VisionFeatures.from_source(write_dinov2(tmp_path))
    images = levels(35, 28).div(127.5).sub(1)
    got = encode_images(features, images)
    torch.testing.assert_close(got, torch.cat([features(image[None]) for image in images]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("processor", "side"),
    [
        (tf.BitImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}), 224),
        (tf.BitImageProcessor(size={"shortest_edge": 256}, do_center_crop=False), 256),
        (tf.ViTImageProcessor(size={"height": 384, "width": 384}), 384),
    ],
)
def test_size_is_that_of_the_processors_output(processor, side):
    assert input_size(processor) == side


def test_clips_vectors_of_images_and_texts_have_length_one(tmp_path):
    features = ClipFeatures.from_source(write_clip(tmp_path))
    images, texts = features(levels(3, 40).div(127.5).sub(1)), features.encode_texts(["a dog", "red apple"])
    assert (images.shape, texts.shape) == ((3, 16), (2, 16))
    torch.testing.assert_close(torch.cat([images, texts]).norm(dim=1), torch.ones(5))
    assert features.max_length == 77
    assert features.count_tokens("a dog") < 77


def test_what_is_no_vision_transformer_is_refused(tmp_path):
    with pytest.raises(PmgError, match=r"has a CLIPModel, which has no class token.*ClipFeatures"):
        VisionFeatures.from_source(write_clip(tmp_path / "clip"))
    with pytest.raises(PmgError, match="can't load a vision transformer from"):
        VisionFeatures.from_source(write_language_model(tmp_path / "words"))
    with pytest.raises(PmgError, match="can't load a vision transformer from"):
        VisionFeatures.from_source(str(tmp_path / "nothing"))


@pytest.mark.skipif(INSTALLED, reason="torch-fidelity is installed")
def test_inception_names_its_extra():
    with pytest.raises(PmgError, match=r"pip install 'pmg-personalised\[inception\]'"):
        InceptionFeatures()


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs torch-fidelity: pip install 'pmg-personalised[inception]'")
def test_fid_of_inception_is_that_of_torchmetrics(tmp_path, monkeypatch):
    from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3

    with monkeypatch.context() as patch:  # its layers with random weights, in the state's true layout
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(NoTrainInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save(NoTrainInceptionV3("inception-v3-compat", ["2048"]).state_dict(), tmp_path / "weights.pth")
    weights = str(tmp_path / "weights.pth")
    features = InceptionFeatures(weights)
    pixels = levels(6, 64)
    made, truth = pixels[:3], pixels[3:]
    metric = FrechetInceptionDistance(2048, feature_extractor_weights_path=weights)
    metric.update(made.byte(), real=False)
    metric.update(truth.byte(), real=True)
    got = Fid(allow_few=True)(*(features(images.div(127.5).sub(1)) for images in (made, truth)))
    assert got["value"] == pytest.approx(float(metric.compute()), rel=1e-3, abs=0)  # random weights: 1e-15


@pytest.mark.skipif(not INSTALLED, reason="needs torch-fidelity: pip install 'pmg-personalised[inception]'")
def test_inception_without_weights_asks_for_a_file(tmp_path):
    with pytest.raises(PmgError, match=r"weights can't be loaded.*Set weights"):
        InceptionFeatures(str(tmp_path / "nothing.pth"))
