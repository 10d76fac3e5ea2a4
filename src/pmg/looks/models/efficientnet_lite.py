"""EfficientNet-Lite0 (Tan & Le 2019): image features of ImageNet, the start of models that see.

Google's variant without squeeze-and-excitation and with ReLU6 in place of SiLU, 3.4 million parameters. It is built
from torchvision's layers: torchvision's own EfficientNets have squeeze-and-excitation and SiLU.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.ops.misc import Conv2dNormActivation
from transformers import PreTrainedConfig

from pmg.looks.models.trunk import Trunk

STEM = 32
# blocks, kernel, stride of the first, expansion, channels
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
FEATURES = 1280
CHANNELS = tuple(stage[-1] for stage in STAGES)
MEAN, DEVIATION = 127.0, 128.0  # of bytes

layer = partial(Conv2dNormActivation, norm_layer=partial(nn.BatchNorm2d, eps=1e-3), activation_layer=nn.ReLU6)


class EfficientNetLiteConfig(PreTrainedConfig):
    """Lite0 has one size."""

    model_type = "pmg_efficientnet_lite"


class EfficientNetLite(Trunk):
    """Convolutions without the classifier."""

    config_class = EfficientNetLiteConfig
    channels, width = CHANNELS, FEATURES

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem = strided(3, STEM, 3, 2, 1)
        before = (STEM, *CHANNELS)
        self.stages = nn.ModuleList(build_stage(before[place], *stage) for place, stage in enumerate(STAGES))
        self.head = layer(CHANNELS[-1], FEATURES, 1)
        self.post_init()

    def freeze(self, stages: int) -> None:
        """Takes the convolution before the stages and the first `stages` of them out of training; 0: none."""
        if stages:
            self.stem.requires_grad_(False)
            self.stages[:stages].requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Returns each stage's output, `(B, C, h, w)`, and features `(B, FEATURES, h, w)`, of images in [-1, 1]."""
        states = self.stem((images * 127.5 + 127.5 - MEAN) / DEVIATION)
        outputs = []
        for stage in self.stages:
            states = stage(states)
            outputs.append(states)
        return outputs, self.head(states)


class Block(nn.Module):
    """An inverted residual block (Sandler et al. 2018): wider, a convolution of each channel, narrower."""

    def __init__(self, before: int, kernel: int, stride: int, expansion: int, after: int) -> None:
        super().__init__()
        inner = before * expansion
        wider = [layer(before, inner, 1)] if expansion > 1 else []
        depthwise = strided(inner, inner, kernel, stride, inner)
        self.layers = nn.Sequential(*wider, depthwise, layer(inner, after, 1, activation_layer=None))
        self.residual = stride == 1 and before == after

    def forward(self, states: Tensor) -> Tensor:
        """Returns `(B, after, h, w)` of `(B, before, h, w)`."""
        return states + self.layers(states) if self.residual else self.layers(states)


class SamePadding(nn.Module):
    """Pads for a convolution as TensorFlow's ``SAME``: an output of `H / stride`, the odd row and column last."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, states: Tensor) -> Tensor:
        """Returns `(B, C, h, w)` with margins of zeros."""
        margins = []
        for size in (states.shape[-1], states.shape[-2]):
            missing = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
            margins += [missing // 2, missing - missing // 2]
        return pad(states, margins)


def strided(before: int, after: int, kernel: int, stride: int, groups: int) -> nn.Module:
    """Returns a convolution with its norm and activation."""
    if stride == 1:
        return layer(before, after, kernel, groups=groups)
    convolution = layer(before, after, kernel, stride, padding=0, groups=groups)
    return nn.Sequential(SamePadding(kernel, stride), convolution)


def build_stage(before: int, blocks: int, kernel: int, stride: int, expansion: int, after: int) -> nn.Sequential:
    """Returns the blocks of a stage; the first one changes size and channels."""
    first = Block(before, kernel, stride, expansion, after)
    return nn.Sequential(first, *(Block(after, kernel, 1, expansion, after) for _ in range(blocks - 1)))
