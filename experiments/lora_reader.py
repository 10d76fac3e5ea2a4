"""A reader whose language model learns, too: LoRA (Hu et al. 2022) in blocks above the layer that was read and kept.

PYTHONPATH=experiments pmg-train experiment=channel_encoders hydra.mode=RUN run_dir=outputs/lora plugins=[lora_reader]
    preference_encoder=reader preference_encoder._target_=lora_reader.build_lora_reader +preference_encoder.rank=8

Shapes as in `pmg.models.preference.reader`. Histories are read once, up to the last of `inputs.layers`; the blocks
above are run at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from pmg.configuration.ranges import Count, CountOrZero, Decay
from pmg.models.language.language_model import LanguageModel
from pmg.models.preference.reader import Attributes, PreferenceReader, Readings

ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj")  # of each block's attention
AT_ONCE = 16  # histories, where scales are fitted


class LowRank(nn.Module):
    """What is added to a frozen linear map: zero before the training."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, states: Tensor) -> Tensor:
        """Returns `(..., outputs)` of states `(..., inputs)`."""
        return self.up(self.down(states.to(self.down.weight)))


class LoraReader(PreferenceReader):
    """A `PreferenceReader` that reads one layer more: the last one given, behind adapted blocks of the language model.

    `first` is the number of blocks below that layer, `blocks` are run, and `adapted` names a block's linear
    maps with their sizes; other arguments are those of `PreferenceReader`, with a layer more in `layers_read`.
    """

    @register_to_config
    def __init__(
        self, *, llm_width: int, feature_width: int, text_width: int, layers_read: int, sentence_width: int,
        soft_tokens: int, width: int, layers: int, dropout: float, answered: Sequence[tuple[str, Sequence[str]]],
        first: int, blocks: int, rank: int, adapted: Sequence[tuple[str, int, int]],
    ) -> None:  # fmt: skip
        super().__init__(
            llm_width=llm_width, feature_width=feature_width, text_width=text_width, layers_read=layers_read,
            sentence_width=sentence_width, soft_tokens=soft_tokens, width=width, layers=layers, dropout=dropout,
            answered=answered,
        )  # fmt: skip
        maps = [{name: LowRank(*sizes, rank) for name, *sizes in adapted} for _ in range(blocks)]
        self.adapters = nn.ModuleList(nn.ModuleDict(some) for some in maps)

    def respond(self, language_model: LanguageModel, inputs: Readings) -> tuple[Tensor, list[Tensor]]:
        """Returns soft tokens and scores, see `PreferenceReader`."""
        return super().respond(language_model, self.read_on(language_model, inputs))

    def read_on(self, language_model: LanguageModel, inputs: Readings) -> Readings:
        """Returns readings with the states behind the adapted blocks, too."""
        decoder: Any = language_model.model.model
        width = self.config.llm_width
        states = inputs.states[..., -width:].to(language_model.model.dtype)
        places = torch.arange(states.shape[1])[None]
        hidden = torch.full((len(places[0]), len(places[0])), torch.finfo(states.dtype).min, dtype=states.dtype)
        given = {
            "attention_mask": hidden.triu(1)[None, None],  # causal; padding is behind
            "position_ids": places,
            "position_embeddings": decoder.rotary_emb(states, places),
        }
        for block, maps in zip(decoder.layers[self.config.first :], self.adapters, strict=False):
            handles = [
                getattr(block.self_attn, name).register_forward_hook(_adding(part)) for name, part in maps.items()
            ]
            try:
                out = block(states, **given)
            finally:
                for handle in handles:
                    handle.remove()
            states = out[0] if isinstance(out, tuple) else out
        return replace(inputs, states=torch.cat([inputs.states, states.to(inputs.states)], -1))


def _adding(part: nn.Module) -> Any:
    """Returns a hook that adds what `part` makes of a linear map's input to its output."""
    return lambda _, given, out: out + part(given[0]).to(out)


def build_lora_reader(
    language_model: LanguageModel, text_embeddings: Tensor, sample: Readings, *, soft_tokens: Count = 4,
    width: Count = 192, layers: Count = 3, dropout: Decay = 0.1, attributes: Attributes | None = None,
    rank: Count = 8, blocks: Count = 4, first: CountOrZero = 16,
) -> LoraReader:  # fmt: skip
    """Returns an untrained `LoraReader` that fits a language model, a text encoder and pictures' vectors.

    Arguments are those of `build_reader`; `first` is the last of `inputs.layers`, behind which `blocks` are adapted.
    """
    attention: Any = language_model.model.model.layers[first].self_attn
    maps = [(name, getattr(attention, name)) for name in ADAPTED]
    wide = replace(sample, states=sample.states.new_zeros(1, 1, sample.states.shape[-1] + sample.titles.shape[-1]))
    encoder = LoraReader.sized(
        language_model, text_embeddings.shape[-1], wide, soft_tokens=soft_tokens, width=width, layers=layers,
        dropout=dropout, attributes=attributes, first=first, blocks=blocks, rank=rank,
        adapted=[(name, one.in_features, one.out_features) for name, one in maps],
    )  # fmt: skip
    with torch.no_grad():
        parts = [encoder.read_on(language_model, part).states for part in _split(sample)]
    encoder.fit_scales(replace(sample, states=torch.cat(parts)), text_embeddings)
    return encoder.eval()


def _split(readings: Readings) -> list[Readings]:
    """Returns readings in parts of `AT_ONCE` users."""
    values = [getattr(readings, field.name) for field in fields(readings)]
    starts = range(0, len(readings), AT_ONCE)
    return [Readings(*(None if one is None else one[at : at + AT_ONCE] for one in values)) for at in starts]
