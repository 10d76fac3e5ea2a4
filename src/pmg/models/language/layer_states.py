"""States between the layers of a decoder, without running the layers above."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from pmg.domain import PmgError


class _Reached(Exception):  # noqa: N818 - no error: the states of all layers are there
    """Ends a pass of a decoder at a layer."""


def states_behind(decoder: nn.Module, layers: Sequence[int], **inputs: Any) -> Tensor:
    """Returns the states behind so many layers of a decoder, joined along the width: `(B, L, len(layers) * width)`.

    Layers above the last of them aren't run.
    """
    reached: dict[int, Tensor] = {}

    def keep(layer: int, states: Tensor) -> None:
        """Keeps the states; ends the pass at the last layer."""
        reached[layer] = states
        if layer == max(layers):
            raise _Reached

    blocks: Any = decoder.layers

    def hook(layer: int) -> Any:
        """Returns the handle of what keeps the states behind a layer."""
        if layer < len(blocks):
            return blocks[layer].register_forward_pre_hook(
                lambda _, positional, named: keep(layer, named.get("hidden_states", *positional[:1])), with_kwargs=True
            )
        return blocks[-1].register_forward_hook(
            lambda _, __, out: keep(layer, out[0] if isinstance(out, tuple) else out)
        )

    with ExitStack() as hooks:
        for layer in sorted(set(layers)):
            hooks.callback(hook(layer).remove)
        try:
            decoder(**inputs, use_cache=False)
        except _Reached:
            return torch.cat([reached[layer] for layer in layers], -1)
    raise PmgError(f"{type(decoder).__name__} doesn't run its layers one by one, so that states can't be read")
