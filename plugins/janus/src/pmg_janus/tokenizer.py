"""The image tokenizer of looks: untrained ones, and vector quantisation in training with gradients to both sides.

Shapes: `B` batch, `C` channels of latents `(B, C, h, w)`, `N` entries of the codebook, `P = B h w` places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import JanusVQVAE, JanusVQVAEConfig
from transformers.models.janus import modeling_janus as janus

from pmg.configuration.ranges import Count, Decay, NotNegative


@dataclass(frozen=True)
class Quantized:
    """Latents in place of which entries of a codebook are decoded."""

    latents: Tensor  # the entries `(B, C, h, w)`, whose gradients are those of the latents
    codes: Tensor  # their numbers, int64 `(P,)`
    codebook: Tensor  # the squared distance of latents and entries, which moves the entries
    commitment: Tensor  # the same, which moves the latents alone


def quantize(latents: Tensor, codebook: Tensor) -> Quantized:
    """Returns the entry of a codebook `(N, C)` of the smallest angle to each latent, with straight-through gradients.

    Latents are `(B, C, h, w)`, of length 1, float32.
    """
    entries = normalize(codebook, dim=-1)
    places = latents.permute(0, 2, 3, 1)
    codes = (places.detach().flatten(0, 2) @ entries.detach().T).argmax(-1)
    chosen = entries[codes].view_as(places)
    through = places + (chosen - places).detach()
    return Quantized(
        through.permute(0, 3, 1, 2), codes, (chosen - places.detach()).square().sum(-1).mean(),
        (places - chosen.detach()).square().sum(-1).mean(),
    )  # fmt: skip


class CodeUse(nn.Module):
    """Counts how often the entries of a codebook are used, and replaces those that aren't by latents.

    An entry that no latent is near gets no gradient: it would be lost for the whole training. An entry is replaced,
    `every` so many steps, if its count, a moving average, is below the share `least` of the mean.
    """

    uses: Tensor

    def __init__(self, codes: Count, every: Count = 50, decay: Decay = 0.98, least: NotNegative = 0.05) -> None:
        super().__init__()
        self.every, self.decay, self.least = every, decay, least
        self.register_buffer("uses", torch.zeros(codes))

    @torch.no_grad()
    def count(self, codes: Tensor) -> None:
        """Counts the codes `(P,)` of a step."""
        counts = torch.bincount(codes, minlength=len(self.uses)).to(self.uses)
        self.uses.lerp_(counts, 1 - self.decay)

    @property
    def used(self) -> Tensor:
        """Share of the entries that are used, a scalar."""
        return (self.uses >= self.least * self.uses.mean()).logical_and(self.uses > 0).float().mean()

    @torch.no_grad()
    def replace(self, codebook: Tensor, latents: Tensor, rng: torch.Generator) -> int:
        """Replaces unused entries of a codebook by latents that are drawn at random; returns their number."""
        mean = self.uses.mean()
        unused = (self.uses <= self.least * mean).nonzero()[:, 0]
        places = latents.permute(0, 2, 3, 1).flatten(0, 2)
        codebook[unused] = places[torch.randint(len(places), (len(unused),), generator=rng)].to(codebook)
        self.uses[unused] = mean.clamp(min=1.0)
        return len(unused)


def build_tokenizer(
    codes: Count, width: Count, side: Count, channels: Count, multipliers: tuple[Count, ...], blocks: Count
) -> JanusVQVAE:
    """Returns an untrained image tokenizer of Janus, which begins with coarse pictures.

    Its layers have no shortcut past a change of size, and as transformers initialises them a picture's colours are
    a hundredth of what residual branches add. So these begin at zero, and changes of size as averages.

    The codebook has `codes` entries of a `width`, a picture `side` tokens a side. `channels` are of the outermost
    level, a multiple of 32, `multipliers` those of each level, which has so many `blocks` and halves the side.
    """
    config = JanusVQVAEConfig(
        num_embeddings=codes, embed_dim=width, num_patches=side, base_channels=channels,
        channel_multiplier=list(multipliers), num_res_blocks=blocks, latent_channels=channels * multipliers[-1],
    )  # fmt: skip
    model = JanusVQVAE(config)
    model.apply(_initialise)
    return model


@torch.no_grad()
def _initialise(layer: nn.Module) -> None:
    """Initialises one layer.

    The last normalisation of groups of a few channels loses what all pixels share, unless channels have constants of
    the size of the colours: then each shows on which side of its constant a pixel is.
    """
    match layer:
        case janus.JanusVQVAEResnetBlock():
            _silence(layer.conv2)
            if layer.in_channels != layer.out_channels:
                nn.init.orthogonal_(layer.nin_shortcut.weight)
        case janus.JanusVQVAEAttnBlock():
            _silence(layer.proj_out)
        case janus.JanusVQVAEConvDownsample():
            nn.init.dirac_(layer.conv.weight)
            layer.conv.weight.copy_(layer.conv.weight.mean((2, 3), keepdim=True).expand_as(layer.conv.weight))
        case janus.JanusVQVAEConvUpsample():
            nn.init.dirac_(layer.conv.weight)
        case janus.JanusVQVAEEncoder():
            _project(layer.conv_in)
        case janus.JanusVQVAEDecoder():
            nn.init.dirac_(layer.conv_in.weight)
            nn.init.normal_(layer.conv_in.bias)
        case JanusVQVAE():
            _project(layer.post_quant_conv)


def _silence(layer: nn.Conv2d) -> None:
    for weight in layer.parameters():
        nn.init.zeros_(weight)


def _project(layer: nn.Conv2d) -> None:
    """Makes a convolution a projection of single pixels that keeps their scale, with constants of that scale."""
    nn.init.zeros_(layer.weight)
    centre = layer.kernel_size[0] // 2
    scale = (layer.out_channels / layer.in_channels) ** 0.5
    weight = torch.empty(layer.out_channels, layer.in_channels)
    layer.weight[:, :, centre, centre] = nn.init.orthogonal_(weight, gain=scale)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
