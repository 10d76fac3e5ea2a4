"""A decoder of the autoencoder's latents to four times the side: masks at full size between a few smooth colours.

A drawing is mostly areas of one colour, with sharp borders. Convolutions that predict colours pixel by pixel blur the
borders and mottle the areas. This decoder predicts `K` colours on a coarse grid, and for each pixel how much it has
of each (softmax). Logits that are interpolated at full size cross sharply, as in signed distance fields (Green 2007).

Shapes: `B` batch, `C, h, w` latents, `K` colours; the autoencoder's own decoder gives `8 h` pixels, this one `32 h`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from diffusers import AutoencoderDC, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_dc import Decoder
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle

from pmg.configuration.ranges import Count, Positive

FACTOR = 4  # sides of this decoder's pictures to those of the autoencoder's
RGB = 3
SMOOTH = 0.3  # range of what the autoencoder's size adds, e.g. grain; more would carry blurred edges


class LargeDecoder(ModelMixin, ConfigMixin):
    """Decodes latents to pictures of `FACTOR` times the autoencoder's `size`.

    The trunk, with `channels` from full size to latents, is that of the autoencoder's decoder, whose weights it can
    start from (`from_autoencoder`). `details` are the channels at twice its size, in as many `blocks`. Colours come
    from the level at twice the latents' side.
    """

    @register_to_config
    def __init__(
        self, latent_channels: Count = 16, size: Count = 64, channels: Sequence[Count] = (32, 64, 128, 256),
        layers: Count = 2, *, colours: Count = 8, details: Count = 32, blocks: Count = 2, gain: Positive = 4.0,
    ) -> None:  # fmt: skip
        super().__init__()
        levels = len(channels)
        self.trunk = Decoder(
            RGB + 4 * details, latent_channels, block_type="ResBlock", block_out_channels=tuple(channels),
            layers_per_block=(layers,) * levels, qkv_multiscales=((),) * levels, norm_type="rms_norm", act_fn="silu",
            upsample_block_type="interpolate",
        )  # fmt: skip
        self.position = nn.Parameter(torch.zeros(1, channels[0], size, size))  # grain and dots have fixed places
        self.palette = nn.Conv2d(channels[-2], colours * RGB, 3, padding=1)
        self.refine = nn.Sequential(*(DetailBlock(details) for _ in range(blocks)))
        self.logits = nn.Conv2d(details, colours, 3, padding=1)

    @classmethod
    def from_autoencoder(
        cls, autoencoder: AutoencoderDC, size: Count, *, colours: Count = 8, details: Count = 32, blocks: Count = 2
    ) -> Self:  # fmt: skip
        """Returns a decoder whose trunk has the weights of an autoencoder's, but for its last convolution.

        `size` is the side of the autoencoder's pictures in pixels; the others are arguments of the class.
        """
        config, options = autoencoder.config, {"colours": colours, "details": details, "blocks": blocks}
        layers = config.decoder_layers_per_block[0]
        model = cls(config.latent_channels, size, config.decoder_block_out_channels, layers, **options)
        kept = {name: value for name, value in autoencoder.decoder.state_dict().items() if "conv_out" not in name}
        model.trunk.load_state_dict(kept, strict=False)
        return model

    def forward(self, latents: Tensor) -> Tensor:
        """Returns pictures `(B, 3, 32 h, 32 w)`, about [-1, 1], float32, of latents `(B, C, h, w)`."""
        features, coarse = self._features(latents)
        smooth, details = features[:, :RGB], pixel_shuffle(features[:, RGB:], 2)
        logits = self.config.gain * self.logits(self.refine(details)).float()
        with torch.autocast(latents.device.type, enabled=False):
            size = (features.shape[-2] * FACTOR, features.shape[-1] * FACTOR)
            masks = _resize(logits, size).softmax(1)
            palettes = self.palette(coarse.float()).chunk(RGB, 1)  # of each channel; mixed in turn, 5 times as fast
            mixed = torch.stack([(masks * _resize(palette, size)).sum(1) for palette in palettes], 1)
            return mixed + _resize(SMOOTH * smooth.float().tanh(), size)

    def _features(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what the trunk makes of latents: at the autoencoder's size, and at twice the latents' side."""
        trunk = self.trunk
        repeats = trunk.in_shortcut_repeats
        states = trunk.conv_in(latents) + latents.repeat_interleave(repeats, dim=1)
        *lower, last = reversed(trunk.up_blocks)
        sides: list[Tensor] = []
        for block in lower:
            states = block(states)
            sides.append(states)
        states = last[1:](last[0](states) + self.position)
        states = trunk.conv_act(trunk.norm_out(states.movedim(1, -1)).movedim(-1, 1))
        return trunk.conv_out(states), sides[1]


class DetailBlock(nn.Module):
    """A residual block with a depthwise convolution (Liu et al. 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.Conv2d(channels, 2 * channels, 1), nn.ReLU(inplace=True), nn.Conv2d(2 * channels, channels, 1),
        )  # fmt: skip

    def forward(self, states: Tensor) -> Tensor:
        """Returns `(B, C, h, w)` of `(B, C, h, w)`."""
        return states + self.layers(states)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(maps, size=size, mode="bilinear", align_corners=False)
