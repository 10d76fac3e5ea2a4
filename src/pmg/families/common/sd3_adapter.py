"""Conditions as the keyword arguments of Stable Diffusion 3's transformer."""

from __future__ import annotations

from typing import Any

from pmg.models.diffusion.conditioning import Condition
from pmg.models.diffusion.interfaces import Capabilities
from pmg.models.diffusion.sequences import hide, token_bias


class SD3ConditionAdapter:
    """Conditions for transformers with a `BiasedJointAttention`.

    The mask becomes a part of the bias: minus infinity for hidden tokens. Text tokens change from layer to layer and
    with the time, so that nothing can be computed in advance.
    """

    supports = Capabilities(attention_bias=True)

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the transformer, see `ConditionAdapter`."""
        return {
            "encoder_hidden_states": hide(condition),
            "pooled_projections": condition.pooled,
            "joint_attention_kwargs": {"token_bias": token_bias(condition)},
        }
