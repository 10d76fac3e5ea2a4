"""Language models that see: a history's pictures are read in their places in the text.

    model = Qwen2VL.load("Qwen/Qwen2-VL-2B-Instruct", dtype="bfloat16")
    features = model.encode_pictures(images)
    context = model.prefill([f"They sent: {mark_picture(pixels)}"], pictures=[features])

A family is a subclass of `VisionLanguageModel` in a file of its own, and a config whose ``_target_`` is its `load`. A
context holds keys and values of pictures as of words: what follows a history reads it as it reads any other.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    BaseImageProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from pmg.configuration.ranges import Count
from pmg.domain import PmgError
from pmg.models.language.chat_template import NO_TEMPLATE, ChatTemplate, split_chat_template
from pmg.models.language.context import HistoryInputs
from pmg.models.language.context_decoder import PROBE, Pictures
from pmg.models.language.grouped_attention import causal_mask
from pmg.models.language.language_model import LanguageModel
from pmg.models.language.picture_marks import split_at_pictures
from pmg.models.loading.checkpoints import load_image_processor, load_with_tokenizer
from pmg.models.loading.quantization import Quantization, loading_options
from pmg.models.loading.weight_sources import loading, resolve_source
from pmg.models.vision.pictures import to_pictures

ENCODED_AT_ONCE = 16  # pictures


class VisionLanguageModel(LanguageModel, ABC):
    """A language model that sees; never trained.

    Pictures are resized to `side` pixels a side, so that they have at most `tokens_per_picture` tokens, each in the
    text as `picture_token`; `picture_tokens` are those of a whole picture, with those that frame it. PmgError if the
    budget is too small, the tokenizer lacks a token, or the model computes other states behind a cached history.
    """

    model_type: ClassVar[str]  # the family's name in configs of transformers
    reads_pictures = True

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, image_processor: BaseImageProcessor,
        tokens_per_picture: int, chat_template: ChatTemplate = NO_TEMPLATE,
    ) -> None:  # fmt: skip
        # before the parent's constructor, which tries the model
        self.image_processor = image_processor
        self.side, count = self.measure(model.config, tokens_per_picture)
        before, self.picture_token, after = self.frame(model.config, tokenizer)
        self.picture_tokens = [*before, *[self.picture_token] * count, *after]
        super().__init__(model, tokenizer, chat_template)

    @classmethod
    def load(
        cls, source: str, dtype: str, tokens_per_picture: Count, chat: bool = True,
        quantization: Quantization | None = None,
    ) -> Self:  # fmt: skip
        """Loads a checkpoint of the family with its tokenizer and image processor; arguments as `load_language_model`.

        PmgError if it is missing, damaged, or of another family, or see the class.
        """
        path = resolve_source(source)
        with loading("the language model", path):
            found = AutoConfig.from_pretrained(path, trust_remote_code=False).model_type
            if found != cls.model_type:
                raise PmgError(
                    f"{path} is a {found}, and this encoder reads a {cls.model_type}. Name a {cls.model_type} in "
                    "language_model.source, or use the encoder of the other family"
                )
            options = loading_options(dtype, quantization)
            model, tokenizer = load_with_tokenizer(AutoModelForImageTextToText, path, **options)
            image_processor = load_image_processor(path)
            template = load_chat_template(tokenizer, path) if chat else NO_TEMPLATE
            return cls(model, tokenizer, image_processor, tokens_per_picture, template)

    @staticmethod
    @abstractmethod
    def measure(config: Any, tokens_per_picture: int) -> tuple[int, int]:
        """Returns the side of pictures in pixels, and their number of tokens; PmgError if the budget is too small."""

    @staticmethod
    @abstractmethod
    def frame(config: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], int, list[int]]:
        """Returns the tokens before a picture, the one in place of each of its own, and those after; else PmgError."""

    @abstractmethod
    def processed(self, pictures: list[Image.Image]) -> dict[str, Tensor]:
        """Returns what the vision encoder takes of pictures of `side` pixels, by its own names."""

    def features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Returns the features `(B, S, T, width)` of `processed` pictures, see `encode_pictures`; S is 1 here."""
        return torch.stack(list(self.model.get_image_features(**inputs).pooler_output))[:, None]

    def reference_inputs(self, shows: Tensor) -> dict[str, Tensor]:
        """Returns what the whole model needs beside tokens and `processed` pictures; `shows` as in `positions`."""
        return {}

    def positions(self, padded: Tensor, real: Tensor, shows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the positions of padded texts `(B, L)`, and of the tokens behind them, int64 `(B,)`.

        Bool `(B, L)`: `real` tokens are no padding, and those of pictures are in `shows`.
        """
        return torch.arange(padded.shape[1]).expand(padded.shape), real.sum(1)

    def visible(self, real: Tensor, shows: Tensor) -> Tensor:
        """Returns bool `(B, L, L)`, which token of padded texts attends to which; arguments as in `positions`."""
        return causal_mask(real)

    def layer_inputs(self, shows: Tensor, features: Tensor) -> dict[str, Any]:
        """Returns what the decoder takes of pictures beside embeddings, by its own names; `shows` as in `positions`.

        `features` `(S - 1, N, width)` are those of all their tokens, beside their embeddings.
        """
        return {}

    def set_attention(self, attention: str) -> None:
        """Selects an attention implementation of the text model by its name; that of the vision encoder stays."""
        self.attention = attention
        self.model.set_attn_implementation({"text_config": attention})

    def tokenize(self, text: str) -> Tensor:
        """Returns the tokens of a text that begins a sequence, with those of its pictures, int64 `(T,)`."""
        first, *others = split_at_pictures(text)
        ids = self.first_ids(first)
        for part in others:
            ids += [*self.picture_tokens, *self.token_ids(part)]
        return torch.tensor(ids, dtype=torch.long)

    @torch.no_grad()
    def encode_pictures(self, images: Tensor) -> Tensor:
        """Returns the features `(B, S, T, width)` of pictures `(B, 3, H, W)` in [-1, 1], in the model's dtype.

        They are on the CPU: embeddings of T tokens, and with S above 1 what is added to their states behind layers.
        """
        batches = images.split(ENCODED_AT_ONCE)
        return torch.cat([self.features(self._processed(batch)).to("cpu", self.model.dtype) for batch in batches])

    def _processed(self, images: Tensor) -> dict[str, Tensor]:
        size, resample = (self.side, self.side), self.image_processor.resample
        inputs = self.processed([picture.resize(size, resample) for picture in to_pictures(images)])
        return {name: part.to(self.model.device) for name, part in inputs.items()}

    def _history_inputs(self, padded: Tensor, real: Tensor, pictures: list[Pictures]) -> HistoryInputs:
        shows = (padded.cpu() == self.picture_token) & real
        embeds = self.embed(padded.masked_fill(shows.to(padded.device), 0))
        arguments: dict[str, Any] = {}
        if shows.any():
            features = torch.cat([part for row in pictures for part in row], dim=1).to(embeds)
            embeds = embeds.masked_scatter(shows[..., None].to(embeds.device), features[0])
            arguments = self.layer_inputs(shows.to(embeds.device), features[1:])
        positions, ends = self.positions(padded, real, shows)
        arguments |= {"inputs_embeds": embeds, "position_ids": positions.to(embeds.device)}
        return HistoryInputs(self.visible(real, shows), arguments, ends)

    @torch.no_grad()
    def probe(self) -> tuple[Tensor, list[Pictures] | None, Tensor, Tensor]:
        """Returns a short history with a picture, see `LanguageModel`; states are those of the whole model."""
        text = (torch.arange(sum(PROBE)) * 7 % self.picture_token).tolist()
        tokens = torch.tensor([*text[:2], *self.picture_tokens, *text[2:]])
        image = torch.linspace(-1, 1, 3 * self.side**2).view(1, 3, self.side, self.side)
        inputs = self._processed(image) | self.reference_inputs((tokens == self.picture_token)[None])
        inputs = {name: part.to(self.model.device) for name, part in inputs.items()}
        states = self.model.base_model(input_ids=tokens[None].to(self.model.device), **inputs, use_cache=False)
        history, new = tokens[: -PROBE[1]], tokens[-PROBE[1] :]
        return history, [list(self.encode_pictures(image))], new, states.last_hidden_state[0, -len(new) :]


def load_chat_template(tokenizer: PreTrainedTokenizerBase, path: str) -> ChatTemplate:
    """Returns the template of a checkpoint that takes messages in parts, see `split_chat_template`.

    Older checkpoints have it in a file beside the tokenizer, which then gets it.
    """
    if not tokenizer.chat_template:
        found = cached_file(path, "chat_template.json", _raise_exceptions_for_missing_entries=False)
        tokenizer.chat_template = json.loads(Path(found).read_text())["chat_template"] if found else None
    return split_chat_template(tokenizer, in_parts=True)


def token_number(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """Returns the number of a special token; PmgError if the tokenizer doesn't have it."""
    number = tokenizer.get_vocab().get(token)
    if number is None:
        raise PmgError(f"the tokenizer has no token '{token}', which frames pictures. Use the model's own tokenizer")
    return number
