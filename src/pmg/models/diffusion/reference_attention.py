"""Reference tokens: details of liked pictures that a UNet reads by an attention of its own, beside the style tokens.

The attention is decoupled (Ye et al. 2023, IP-Adapter): each cross-attention layer has a second pair of key and value
matrices for the reference tokens, and the two results are added. The value matrices start at zero, so that a UNet with
new reference layers draws what it drew without them.

Shapes: `B` batch, `R` reference pictures, `N` patches of a picture, `F` features of a patch, `M` reference tokens,
`D` their width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from pmg.configuration.ranges import Count
from pmg.models.diffusion.conditioning import Condition
from pmg.models.diffusion.cross_attention import CrossAttentionCache, WeightedAttention
from pmg.models.diffusion.unet.condition_adapter import UNetConditionAdapter
from pmg.models.diffusion.unet.denoiser import UNetDenoiser

ReferenceKeys = dict[str, tuple[Tensor, Tensor, Tensor]]
"""Keys and values of reference tokens `(B, heads, M, head_dim)` and their mask `(B, 1, 1)`, by layer."""


class ReferenceReader(ModelMixin, ConfigMixin):
    """Pools the patches of up to a dozen pictures into reference tokens, and projects these for each attention layer.

    Args:
        features: `F`, of a patch of the style encoder.
        patches: `N`, of a picture.
        layers: width of each cross-attention layer of the UNet, in the order of its modules.
        layer_heads: heads of each of these layers.
        tokens: `M`.
        width: `D`.
        heads: of the attention that pools.
    """

    @register_to_config
    def __init__(
        self, features: Count = 192, patches: Count = 16, layers: Sequence[int] = (), layer_heads: Sequence[int] = (),
        tokens: Count = 32, width: Count = 192, heads: Count = 4,
    ) -> None:  # fmt: skip
        super().__init__()
        self.positions = nn.Parameter(torch.randn(patches, features) * 0.02)
        self.queries = nn.Parameter(torch.randn(tokens, width))
        self.to_keys_values = nn.Linear(features, 2 * width, bias=False)
        self.out = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        self.norm = nn.LayerNorm(width)
        self.layer_keys = nn.ModuleList(nn.Linear(width, layer, bias=False) for layer in layers)
        self.layer_values = nn.ModuleList(nn.Linear(width, layer, bias=False) for layer in layers)
        for layer in self.layer_values:
            nn.init.zeros_(layer.weight)

    @classmethod
    def for_unet(cls, unet: UNet2DConditionModel, **sizes: Any) -> ReferenceReader:
        """Returns a new reader whose layers fit a UNet."""
        found = list(cross_attention_layers(unet).values())
        widths, heads = [layer.inner_dim for layer in found], [layer.heads for layer in found]
        return cls(layers=widths, layer_heads=heads, **sizes)

    def encode_pictures(self, features: Tensor) -> Tensor:
        """Returns the keys and values of patches, `(..., N, 2 * D)`, from the style encoder's `(..., N, F)`."""
        encoded: Tensor = self.to_keys_values(features + self.positions)
        return encoded

    def summarise(self, encoded: Tensor, present: Tensor) -> Tensor:
        """Returns reference tokens `(B, M, D)`.

        Args:
            encoded: keys and values of the pictures' patches, `(B, R, N, 2 * D)`.
            present: bool `(B, R)`: which pictures count; at least one a row.
        """
        visible = present.repeat_interleave(encoded.shape[2], 1)[:, None, None]
        key, value = (self._split(part, self.config.heads) for part in encoded.flatten(1, 2).chunk(2, -1))
        query = self._split(self.queries.expand(len(encoded), -1, -1), self.config.heads)
        read = scaled_dot_product_attention(query, key, value, visible).transpose(1, 2).flatten(2)
        states = self.queries + read
        tokens: Tensor = self.norm(states + self.out(states))
        return tokens

    def layer_keys_values(self, tokens: Tensor, mask: Tensor, names: Sequence[str]) -> ReferenceKeys:
        """Returns keys and values of reference tokens `(B, M, D)` for the layers `names`; `mask` is bool `(B,)`."""
        layers = zip(names, self.layer_keys, self.layer_values, self.config.layer_heads, strict=True)
        seen = mask[:, None, None].to(tokens.dtype)
        return {
            name: (self._split(keys(tokens), heads), self._split(values(tokens), heads), seen)
            for name, keys, values, heads in layers
        }

    @staticmethod
    def _split(states: Tensor, heads: int) -> Tensor:
        """Returns states `(B, L, D)` in heads, `(B, heads, L, D / heads)`."""
        return states.unflatten(-1, (heads, -1)).transpose(1, 2)


class ReferenceAttention(WeightedAttention):
    """A `WeightedAttention` that adds what its queries find in reference tokens.

    Args:
        name: of the layer.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, temb: Tensor | None = None, *, token_bias: Tensor | None = None,
        cache: CrossAttentionCache | None = None, references: ReferenceKeys | None = None,
    ) -> Tensor:  # fmt: skip
        """Returns `(B, N, D)`; arguments as `WeightedAttention`.

        Args:
            attn: the layer.
            hidden_states: queries.
            encoder_hidden_states: the condition's tokens.
            attention_mask: added to the logits.
            temb: for layers outside transformer blocks.
            token_bias: added to the logits of the condition's tokens.
            cache: keys and values of the condition.
            references: keys and values of the reference tokens, by layer; None: there are none.
        """
        result = super().__call__(
            attn, hidden_states, encoder_hidden_states, attention_mask, temb, token_bias=token_bias, cache=cache
        )
        if references is None or encoder_hidden_states is None:
            return result
        key, value, seen = references[self.name]
        query = attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        scores = (query @ key.transpose(-1, -2) * attn.scale).softmax(-1)
        found = (scores @ value).transpose(1, 2).flatten(2) * seen
        return result + nn.functional.linear(found, attn.to_out[0].weight)


class ReferenceConditionAdapter(UNetConditionAdapter):
    """Conditions with reference tokens, for the embedded UNet.

    Args:
        model: the UNet; its cross-attention layers get a `ReferenceAttention`.
        reader: projects the tokens.
    """

    def __init__(self, model: UNet2DConditionModel, reader: ReferenceReader) -> None:
        super().__init__(model, image_size=0)
        self.reader, self.names = reader, list(cross_attention_layers(model))

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the UNet, see `ConditionAdapter`."""
        inputs = super().prepare(condition, guidance, reused)
        tokens, mask = condition.reference_tokens, condition.reference_mask
        if tokens is not None and mask is not None:
            found = self.reader.layer_keys_values(tokens, mask, self.names)
            inputs["cross_attention_kwargs"]["references"] = found
        return inputs


def cross_attention_layers(unet: UNet2DConditionModel) -> Mapping[str, Attention]:
    """Returns the layers of a UNet that read its condition, by name."""
    return {
        name: layer
        for name, layer in unet.named_modules()
        if isinstance(layer, Attention) and layer.is_cross_attention
    }


def with_references(denoiser: UNetDenoiser, reader: ReferenceReader) -> UNetDenoiser:
    """Returns the denoiser of the same UNet, whose cross-attention layers also read reference tokens."""
    extended = UNetDenoiser(
        denoiser.model, denoiser.sample_size, denoiser.channels_last, ReferenceConditionAdapter(denoiser.model, reader)
    )
    names = (name.removesuffix(".processor") for name in denoiser.model.attn_processors)
    denoiser.model.set_attn_processor({f"{name}.processor": ReferenceAttention(name) for name in names})
    return extended
