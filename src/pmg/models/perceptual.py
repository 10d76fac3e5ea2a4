"""LPIPS by the reference package, with its AlexNet weights read from a local safetensors file."""

from __future__ import annotations

import warnings
from pathlib import Path

import lpips
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pmg.domain import PmgError


class PerceptualDistance(nn.Module):
    """Frozen LPIPS (Zhang et al. 2018, v0.1, AlexNet).

    Args:
        backbone: state of the five convolutions, named as torchvision's ``alexnet.features``.
    """

    def __init__(self, backbone: dict[str, Tensor]) -> None:
        super().__init__()
        with warnings.catch_warnings():  # the package calls torchvision with arguments that it deprecated
            warnings.simplefilter("ignore")
            self.network = lpips.LPIPS(net="alex", pretrained=True, pnet_rand=True, verbose=False)
        slices = (self.network.net.slice1, self.network.net.slice2, self.network.net.slice3,
                  self.network.net.slice4, self.network.net.slice5)  # fmt: skip
        layers = {name: layer for part in slices for name, layer in part.named_children()}
        for name, layer in layers.items():
            if isinstance(layer, nn.Conv2d):
                state = {key: backbone[f"features.{name}.{key}"].float() for key in ("weight", "bias")}
                layer.load_state_dict(state)
        self.requires_grad_(False).eval()

    @classmethod
    def from_folder(cls, folder: str | Path) -> PerceptualDistance:
        """Reads ``alexnet.safetensors`` from `folder`.

        Raises:
            PmgError: the file is missing or damaged.
        """
        path = Path(folder, "alexnet.safetensors")
        try:
            return cls(load_file(path))
        except Exception as error:  # safetensors raises several kinds for one cause: the file is no good
            raise PmgError(f"{path} is missing or damaged ({error}); run `git checkout -- assets/lpips`") from None

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Stays in evaluation mode: a metric has no training mode."""
        return super().train(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair of images `(B, 3, H, W)` in [-1, 1]; returns `(B,)`, 0 for equal images."""
        return self.network(a, b).flatten()

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length features of each layer times the square root of LPIPS' weights.

        The squared difference of two images' features, averaged over places and summed over channels and
        layers, is their LPIPS: one pass an image serves any number of pairs.
        """
        outputs = self.network.net(self.network.scaling_layer(images))
        linear = [layer.model[-1].weight for layer in self.network.lins]
        return [lpips.normalize_tensor(x) * w.clamp(min=0).sqrt() for x, w in zip(outputs, linear, strict=True)]


def feature_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """LPIPS from precomputed `PerceptualDistance.features`; returns `(B,)`."""
    return torch.stack([(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]).sum(0)
