"""Vector quantisation in training: latents to the entries of a codebook, with gradients to both.

Shapes: `B` batch, `C` channels of latents `(B, C, h, w)`, `N` entries of the codebook, `P = B h w` places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from pmg.configuration.ranges import Count, Decay, NotNegative


@dataclass(frozen=True)
class Quantized:
    """Latents in place of which entries of a codebook are decoded.

    Attributes:
        latents: the entries, `(B, C, h, w)`; their gradients are those of the latents.
        codes: numbers of the entries, int64 `(P,)`.
        codebook: squared distance of the entries to the latents, a scalar; it moves the entries alone.
        commitment: the same number; it moves the latents alone.
    """

    latents: Tensor
    codes: Tensor
    codebook: Tensor
    commitment: Tensor


def quantize(latents: Tensor, codebook: Tensor) -> Quantized:
    """Returns the entry of the smallest angle to each latent, with straight-through gradients.

    Args:
        latents: of length 1, `(B, C, h, w)`, float32.
        codebook: `(N, C)`.
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

    An entry that no latent is near gets no gradient: it would be lost for the whole training.

    Args:
        codes: entries `N` of the codebook.
        every: steps between replacements.
        decay: of the moving average of the counts.
        least: share of the mean count below which an entry is replaced.
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
