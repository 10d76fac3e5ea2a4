"""LPIPS by the reference package, with backbone weights from a file; AlexNet's are shipped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import lpips
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model_weights

from pmg.domain import PmgError
from pmg.installation import restore_assets
from pmg.models.loading.weight_sources import Frozen

Built = TypeVar("Built")
FILES = {"alex": "alexnet.safetensors", "vgg": "vgg16.safetensors"}


class PerceptualDistance(Frozen):
    """Frozen LPIPS (Zhang et al. 2018, v0.1).

    `backbone` is the state of the convolutions, named as in torchvision's ``alexnet.features`` or ``vgg16.features``.
    """

    def __init__(self, backbone: dict[str, Tensor], net: str = "alex") -> None:
        super().__init__()
        with warnings.catch_warnings():  # the package calls torchvision with arguments that it deprecated
            warnings.simplefilter("ignore")
            self.network = lpips.LPIPS(net=net, pretrained=True, pnet_rand=True, verbose=False)
        for place, layer in self.network.net.named_modules():
            if isinstance(layer, nn.Conv2d):  # e.g. slice1.0, named as in torchvision below its slice
                name = place.split(".")[-1]
                state = {key: backbone[f"features.{name}.{key}"].float() for key in ("weight", "bias")}
                layer.load_state_dict(state)
        self.requires_grad_(False).eval()

    @classmethod
    def from_folder(cls, folder: str | Path, net: str = "alex") -> PerceptualDistance:
        """Loads ``alexnet.safetensors`` or ``vgg16.safetensors``; PmgError if it is another, missing or damaged."""
        return load_backbone(folder, net, lambda state: cls(state, net))

    @classmethod
    def from_torchvision(cls, net: str = "vgg") -> PerceptualDistance:
        """Loads torchvision's ImageNet weights, fetched once; PmgError for another backbone, or if that fails."""
        name = _file(net).removesuffix(".safetensors")
        try:
            return cls(get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True), net)
        except (OSError, RuntimeError) as error:  # no network; a truncated download, whose hash differs
            raise PmgError(
                f"torchvision's weights of {name} can't be fetched ({error}); put them into a folder as {_file(net)} "
                "and use from_folder"
            ) from error

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Returns the distance `(B,)` of each pair of images `(B, 3, H, W)` in [-1, 1]; 0 for equal images."""
        return self.network(a, b).flatten()

    def features(self, images: Tensor) -> list[Tensor]:
        """Returns unit-length features of each layer times the square root of LPIPS' weights.

        LPIPS is the squared difference of two images' features, averaged over positions and summed over channels and
        layers, so that one pass an image is enough for any number of pairs.
        """
        outputs = self.network.net(self.network.scaling_layer(images))
        linear = [layer.model[-1].weight for layer in self.network.lins]
        return [lpips.normalize_tensor(x) * w.clamp(min=0).sqrt() for x, w in zip(outputs, linear, strict=True)]


def feature_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Returns LPIPS `(B,)` from precomputed `PerceptualDistance.features`."""
    return torch.stack([(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]).sum(0)


def _file(net: str) -> str:
    if net not in FILES:
        raise PmgError(f"LPIPS has no backbone '{net}' here; known: {', '.join(FILES)}")
    return FILES[net]


def load_backbone(folder: str | Path, net: str, build: Callable[[dict[str, Tensor]], Built]) -> Built:
    """Returns what `build` makes of the weights in a folder; PmgError if `net` is another, or they are damaged."""
    path = Path(folder, _file(net))
    way_out = restore_assets("lpips") if net == "alex" else "put torchvision's weights there, or use from_torchvision"
    try:
        return build(load_file(path))
    except Exception as error:  # safetensors raises several types for a damaged file
        raise PmgError(f"{path} is missing or damaged ({error}); {way_out}") from None
