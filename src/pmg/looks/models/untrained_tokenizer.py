"""Untrained image tokenizers, for `pmg-pretrain`."""

from __future__ import annotations

import torch
from torch import nn
from transformers import JanusVQVAE, JanusVQVAEConfig
from transformers.models.janus import modeling_janus as janus

from pmg.configuration.ranges import Count


def build_tokenizer(
    codes: Count, width: Count, side: Count, channels: Count, multipliers: tuple[Count, ...], blocks: Count
) -> JanusVQVAE:
    """Returns an untrained image tokenizer of Janus, which begins with coarse pictures.

    Its layers have no shortcut past a change of size, and as transformers initialises them a picture's colours are
    a hundredth of what residual branches add. So these begin at zero, and changes of size as averages.

    Args:
        codes: entries of the codebook.
        width: of an entry.
        side: tokens a side.
        channels: of the outermost level, a multiple of 32.
        multipliers: of the channels, one a level, from the outermost; each further level halves the side.
        blocks: residual blocks a level.
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
