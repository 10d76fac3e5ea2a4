"""States between the layers of a decoder, without running the layers above."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pmg.domain import PmgError


class _Reached(Exception):  # noqa: N818 - no error: the states of a layer are there
    """Ends a pass of a decoder at a layer."""


def states_behind(decoder: nn.Module, layer: int, **inputs: Any) -> Tensor:
    """Returns the states `(B, L, width)` behind so many layers of a decoder; layers above aren't run."""
    reached: list[Tensor] = []

    def stop(states: Tensor) -> None:
        """Keeps the states and ends the pass."""
        reached.append(states)
        raise _Reached

    layers: Any = decoder.layers
    hook = (
        layers[layer].register_forward_pre_hook(
            lambda _, positional, named: stop(named.get("hidden_states", *positional[:1])), with_kwargs=True
        )
        if layer < len(layers)
        else layers[-1].register_forward_hook(lambda _, __, out: stop(out[0] if isinstance(out, tuple) else out))
    )
    try:
        decoder(**inputs, use_cache=False)
    except _Reached:
        return reached[0]
    finally:
        hook.remove()
    raise PmgError(f"{type(decoder).__name__} doesn't run its layers one by one, so that states can't be read")
