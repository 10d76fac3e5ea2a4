"""Sequences of diffusion transformers: packed latents, and text tokens with their mask as a bias of attention.

Shapes: `B` batch, `C, h, w` latents, `N` image tokens, `L` text tokens of width `D`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from pmg.models.diffusion.conditioning import Condition

PATCH = 2  # latents a side of one image token


def pack(latents: Tensor) -> Tensor:
    """Returns latents `(B, C, h, w)` as image tokens of 2 x 2 latents, `(B, h * w / 4, 4 * C)`."""
    patches = latents.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))  # (B, C, h / 2, 2, w / 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpack(tokens: Tensor, height: int) -> Tensor:
    """Returns image tokens `(B, h * w / 4, 4 * C)` as latents `(B, C, h, w)` of `height` `h`."""
    patches = tokens.unflatten(1, (height // PATCH, -1)).unflatten(3, (-1, PATCH, PATCH))
    return patches.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def order_visible_first(mask: Tensor) -> Tensor:
    """Returns indices `(B, L)` that put the visible tokens of each row first, in their order."""
    return torch.argsort((~mask).int(), dim=1, stable=True)


def visible_first(condition: Condition) -> Condition:
    """Returns a condition with the visible tokens of each row first, in their order.

    A token's place is then its position, which depends neither on other rows of the batch nor on hidden tokens.
    """
    order = order_visible_first(condition.mask)
    tokens = condition.tokens.take_along_dim(order[..., None], 1)
    bias = None if condition.bias is None else condition.bias.take_along_dim(order, 1)
    return replace(condition, tokens=tokens, mask=condition.mask.take_along_dim(order, 1), bias=bias)


def hide(condition: Condition) -> Tensor:
    """Returns the tokens `(B, L, D)` with zeros in place of hidden ones, whatever their values are."""
    return condition.tokens.masked_fill(~condition.mask[..., None], 0.0)


def token_bias(condition: Condition) -> Tensor:
    """Returns what is added to the attention logits of text tokens, `(B, L)`: minus infinity for hidden ones."""
    bias = condition.tokens.new_zeros(condition.mask.shape) if condition.bias is None else condition.bias
    return bias.masked_fill(~condition.mask, -math.inf)


def joint_bias(condition: Condition, image_tokens: int) -> Tensor:
    """Returns the bias `(B, 1, 1, L + N)` of text tokens that are followed by `N` image tokens."""
    return pad(token_bias(condition), (0, image_tokens))[:, None, None]


def grid_positions(height: int, width: int, device: torch.device) -> Tensor:
    """Returns rows and columns of image tokens, `(height * width, 2)`."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)
