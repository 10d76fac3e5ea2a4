"""Conditions as the keyword arguments of Stable Diffusion 3's transformer."""

from __future__ import annotations

import math
from typing import Any

from pmg.models.diffusion.conditioning import Condition
from pmg.models.diffusion.interfaces import Capabilities


class SD3ConditionAdapter:
    """Conditions for transformers with a `BiasedJointAttention`.

    The mask becomes a part of the bias: minus infinity for hidden tokens. Text tokens change from layer to layer and
    with the time, so that nothing can be computed in advance.
    """

    supports = Capabilities(attention_bias=True)

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the transformer, see `ConditionAdapter`."""
        visible = condition.mask
        bias = condition.tokens.new_zeros(visible.shape) if condition.bias is None else condition.bias
        return {
            "encoder_hidden_states": condition.tokens.masked_fill(~visible[..., None], 0.0),
            "pooled_projections": condition.pooled,
            "joint_attention_kwargs": {"token_bias": bias.masked_fill(~visible, -math.inf)},
        }
