"""A second judge of looks over AlexNet's convolutions, which has no weights in common with the first one."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from transformers import PreTrainedConfig

from pmg.looks.models.judge import LookJudge
from pmg.looks.models.trunk import Trunk
from pmg.models.vision.perceptual import load_backbone

GRID = 3  # cells a side of the pooled features: one cell would lose the positions of parts
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures in [0, 1]


class AlexNetConfig(PreTrainedConfig):
    """AlexNet has one size."""

    model_type = "pmg_alexnet"


class AlexNet(Trunk):
    """The convolutions of AlexNet (Krizhevsky et al. 2012) as torchvision has them, numbered as there."""

    config_class = AlexNetConfig
    channels, width = (64, 192, 384, 256, 256), 256 * GRID**2

    def __init__(self, config: AlexNetConfig) -> None:
        super().__init__(config)
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.post_init()

    @classmethod
    def from_folder(cls, folder: str) -> Self:
        """Loads ``alexnet.safetensors``, whose convolutions LPIPS uses; PmgError if it is missing or damaged."""
        trunk = cls(AlexNetConfig())
        load_backbone(folder, "alex", trunk.load_state_dict)  # which copies fp16 into the parameters' type
        return trunk

    def freeze(self, stages: int) -> None:
        """Takes the first `stages` convolutions out of training; 0: none."""
        for layer in [layer for layer in self.features if isinstance(layer, nn.Conv2d)][:stages]:
            layer.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Returns each ReLU's output, `(B, C, h, w)`, and features `(B, width, 1, 1)`, of images in [-1, 1]."""
        mean, deviation = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
        states, outputs = ((images + 1) / 2 - mean) / deviation, []
        for layer in self.features:
            states = layer(states)
            if isinstance(layer, nn.ReLU):
                outputs.append(states)
        return outputs, adaptive_avg_pool2d(states, GRID).flatten(1)[:, :, None, None]


class AlexNetJudge(LookJudge):
    """AlexNet with the three heads of `LookJudge`, and its interface."""

    @staticmethod
    def build_trunk() -> Trunk:
        """Returns the convolutions, with random weights."""
        return AlexNet(AlexNetConfig())
