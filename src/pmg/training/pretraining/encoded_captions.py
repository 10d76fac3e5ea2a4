"""Every caption of a catalogue, encoded once for a training stage."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pmg.data.dataset import StyledImageStore
from pmg.data.emoji.captions import artist_style_captions, attribute_captions, caption_table, target_captions
from pmg.models.diffusion.conditioning import Condition, TextBlock, drop_target, join
from pmg.models.diffusion.interfaces import PromptEncoder

PARTS = ("target", "attributes", "artist_style")


class CaptionBank:
    """Every caption of a catalogue, encoded once.

    Args:
        catalogue: the drawings.
        styles: facts of each style.
        scene: words that every target caption may end with.
        text_encoder: encodes captions.
    """

    def __init__(
        self, catalogue: StyledImageStore, styles: Mapping[str, Mapping[str, str]], scene: str,
        text_encoder: PromptEncoder,
    ) -> None:  # fmt: skip
        facts = [styles[catalogue.style[item.id]] for item in catalogue.items]
        captions = {
            "target": [target_captions(item, scene) for item in catalogue.items],
            "attributes": [attribute_captions(fact) for fact in facts],
            "artist_style": [artist_style_captions(fact) for fact in facts],
        }
        self.blocks: dict[str, TextBlock] = {}
        self.positions: dict[str, Tensor] = {}  # (N, V): rows of an item's captions in its block
        for part, rows in captions.items():
            texts, positions = caption_table(rows)
            unique = {text: place for place, text in enumerate(dict.fromkeys(texts))}
            self.blocks[part] = text_encoder.encode(list(unique))
            self.positions[part] = torch.tensor([[unique[texts[p]] for p in row] for row in positions])
        self.empty = text_encoder.encode([""])

    def draw(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws one caption of each part for catalogue `rows` `(B,)`: positions `(B,)` by part."""
        chosen = {}
        for part in PARTS:
            options = self.positions[part][rows]
            which = torch.randint(options.shape[1], (len(rows), 1), generator=generator)
            chosen[part] = options.gather(1, which)[:, 0]
        return chosen

    def condition(self, chosen: dict[str, Tensor], keep: dict[str, Tensor]) -> Condition:
        """The condition of drawn captions; `keep` holds a bool `(B,)` by part."""
        target = drop_target(self.blocks["target"][chosen["target"]], self.empty, keep["target"])
        others = [self.blocks[part][chosen[part]].masked(keep[part]) for part in PARTS[1:]]
        return join(target, *others)
