"""One language model for two jobs: the generator's own text encoder reads histories, too, and is loaded once."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from pmg.domain import PmgError
from pmg.families.common.language_text_encoder import LanguageTextEncoder
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.models.language.chat_template import NO_TEMPLATE, split_chat_template
from pmg.models.language.language_model import LanguageModel
from pmg.models.loading.device import is_kept


@dataclass(frozen=True)
class SharedLanguageModel:
    """In the place of a language model: takes the weights of the generator's text encoder.

    Soft tokens are read at the layers that the pipeline reads prompts at. With `chat`, histories and questions are put
    into the tokenizer's chat template, if it has one.
    """

    chat: bool = True

    def of(self, text_encoder: PromptEncoder) -> LanguageModel:
        """Returns the language model that shares the weights of a text encoder.

        PmgError if it is no language model, has no head and embeddings that aren't tied to one, or stays on the CPU.
        """
        if is_kept(text_encoder):
            raise PmgError(
                "language_model=shared reads histories with the generator's text encoder on the device, where "
                "generator.text_on_cpu=true doesn't load it. Set it to false, or use another language_model"
            )
        if not isinstance(text_encoder, LanguageTextEncoder):
            raise PmgError(
                "language_model=shared reads histories with the generator's text encoder, and this generator's is no "
                "language model. Use generator=z_image, flux2_klein, qwen_image or qwen_image_edit, or another "
                "language_model"
            )
        whole, tokenizer = text_encoder.model, text_encoder.tokenizer
        weights = {id(tensor): tensor for tensor in chain(whole.parameters(), whole.buffers())}
        model = with_head(copy.deepcopy(whole, weights), text_encoder.head)  # settings of its own, the same weights
        template = split_chat_template(tokenizer) if self.chat else NO_TEMPLATE
        return LanguageModel(model, tokenizer, template, read_layers=text_encoder.layers)


def with_head(model: Any, head: nn.Module | None) -> Any:
    """Returns a causal language model around a model without a head; PmgError if there is no head for it.

    If `head` is None, logits are computed with the input embeddings, where the config ties them.
    """
    if head is None and not model.config.tie_word_embeddings:
        raise PmgError(
            "language_model=shared: the generator's text encoder has no head, and its embeddings aren't tied to one, "
            "so that keywords can't be scored. Use another language_model"
        )
    sees = "vision_config" in model.config.sub_configs
    with torch.device("meta"):
        whole = (AutoModelForImageTextToText if sees else AutoModelForCausalLM).from_config(model.config)
    whole.config = model.config  # of both, so that the attention is set once
    setattr(whole, whole.base_model_prefix, model)
    if head is None:
        whole.get_output_embeddings().weight = model.get_input_embeddings().weight
    else:
        whole.set_output_embeddings(head)
    return whole.eval()
