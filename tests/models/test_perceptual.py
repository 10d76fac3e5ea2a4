"""LPIPS: the shipped backbone in the reference package."""

from __future__ import annotations

import lpips
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from pmg.domain import PmgError
from pmg.models.vision.perceptual import PerceptualDistance, feature_distance


@pytest.fixture(scope="module")
def perceptual(root):
    """Real AlexNet weights."""
    return PerceptualDistance.from_folder(root / "assets" / "lpips")


def images(seed):
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_equal_images_have_no_distance(perceptual):
    assert torch.equal(perceptual(images(0), images(0)), torch.zeros(3))


def test_distance_is_symmetric_and_positive(perceptual):
    there, back = perceptual(images(0), images(1)), perceptual(images(1), images(0))
    assert torch.allclose(there, back, atol=1e-6)
    assert (there > 0).all()


def test_features_give_the_reference_distance(perceptual):
    a, b = (perceptual.features(images(seed)) for seed in (0, 1))
    assert torch.allclose(feature_distance(a, b), perceptual(images(0), images(1)), atol=1e-5)


def test_equals_the_reference_package_with_the_same_backbone(perceptual, root):
    reference = lpips.LPIPS(net="alex", pretrained=True, pnet_rand=True, verbose=False).eval()
    weights = load_file(root / "assets" / "lpips" / "alexnet.safetensors")
    for part in reference.net.children():
        for name, layer in part.named_children():
            if f"features.{name}.weight" in weights:
                layer.weight.data.copy_(weights[f"features.{name}.weight"])
                layer.bias.data.copy_(weights[f"features.{name}.bias"])
    with torch.no_grad():
        assert torch.allclose(reference(images(0), images(1)).flatten(), perceptual(images(0), images(1)), atol=1e-6)


def test_stays_in_evaluation_mode(perceptual):
    assert not perceptual.train().training


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(PmgError, match=r"alexnet\.safetensors is missing or damaged.*git checkout"):
        PerceptualDistance.from_folder(tmp_path)


@pytest.mark.slow
def test_vgg_from_a_folder_is_the_reference_package_with_the_same_backbone(tmp_path):
    with torch.device("meta"):  # shapes alone: the whole VGG takes seconds to fill
        layers = torchvision.models.vgg16().features.state_dict()
    weights = {f"features.{name}": 0.05 * torch.randn(value.shape) for name, value in layers.items()}
    save_file(weights, tmp_path / "vgg16.safetensors")
    vgg = PerceptualDistance.from_folder(tmp_path, net="vgg")
    assert isinstance(vgg.network, lpips.LPIPS)
    for part in vgg.network.net.children():
        for name, layer in part.named_children():
            for key, value in layer.state_dict().items():
                assert torch.equal(value, weights.pop(f"features.{name}.{key}"))
    assert not weights  # all of them are in use
    a, b = images(0), images(1)
    expected = vgg.network(a, b).flatten()
    assert (expected > 0).all()
    assert torch.allclose(vgg(a, b), expected)
    assert torch.allclose(feature_distance(vgg.features(a), vgg.features(b)), expected, atol=1e-5)


def test_backbones_that_are_not_there_are_named(tmp_path, monkeypatch):
    with pytest.raises(PmgError, match="no backbone 'squeeze' here; known: alex, vgg"):
        PerceptualDistance.from_folder(tmp_path, net="squeeze")
    with pytest.raises(PmgError, match=r"vgg16\.safetensors is missing or damaged.*or use from_torchvision"):
        PerceptualDistance.from_folder(tmp_path, net="vgg")

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(PmgError, match=r"weights of vgg16 can't be fetched \(no network\).*vgg16\.safetensors"):
        PerceptualDistance.from_torchvision()
