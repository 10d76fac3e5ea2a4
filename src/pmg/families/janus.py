"""Janus and Janus-Pro (Wu et al. 2024, Chen et al. 2025): a language model that predicts image tokens, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from transformers import AutoConfig, JanusConfig, JanusForConditionalGeneration, PreTrainedModel

from pmg.configuration.ranges import Count, NotNegative
from pmg.domain import PmgError
from pmg.models.autoregressive.image_tokenizer import ImageTokenizer
from pmg.models.autoregressive.image_transformer import ImageTransformer
from pmg.models.autoregressive.prompts import PromptEmbeddings, PromptFrame
from pmg.models.autoregressive.token_generator import ImageTokenGenerator
from pmg.models.language.chat_template import load_chat_template
from pmg.models.loading.checkpoints import load_with_tokenizer
from pmg.models.loading.device import torch_type
from pmg.models.loading.generator_family import WORDS, Configs, GeneratorFamily
from pmg.models.loading.weight_sources import loading, resolve_source
from pmg.models.meta_models import NoTextEncoder, PromptSizes

JANUS_PRO_1B = "deepseek-community/Janus-Pro-1B"
EMPTY_FRAME = PromptFrame(suffix=(0,) * 6, start=0, padding=0)  # of the length of the published template's end
MODEL_TYPE = JanusConfig.model_type


class Janus(GeneratorFamily):
    """Janus, in the layout of transformers; deepseek-ai's own needs code of the checkpoint."""

    published: ClassVar[Mapping[str, Configs]] = {
        JANUS_PRO_1B: {
            "config": {
                "text_config": {
                    "model_type": "llama", "vocab_size": 102400, "hidden_size": 2048, "intermediate_size": 5632,
                    "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
                    "max_position_embeddings": 16384,
                }
            }
        }
    }  # fmt: skip

    @classmethod
    def load(
        cls, source: str, dtype: str = "float32", size: Count | None = None, max_length: Count = 512,
        temperature: NotNegative = 1.0, gradient_checkpointing: bool = False,
    ) -> ImageTokenGenerator:  # fmt: skip
        """Loads a checkpoint, frozen.

        Args:
            source: hub id or folder, in the layout of transformers.
            dtype: name of the type of the language model; the image tokenizer stays in float32.
            size: of the images in pixels; None: the checkpoint's.
            max_length: longest text in tokens.
            temperature: of the distribution that image tokens are drawn from; 0: the likeliest token.
            gradient_checkpointing: whether activations are computed again in the backward pass.

        Raises:
            PmgError: the source is missing or damaged, of another kind, or makes images of another size.
        """
        path = resolve_source(source)
        hint = f"; generator.source is a hub id, e.g. {JANUS_PRO_1B}, or a folder in the layout of transformers"
        with loading("a generator", path, hint):
            config = cls._read_config(path)
            check_sizes(path, config, size)
            kind = JanusForConditionalGeneration
            model, tokenizer = load_with_tokenizer(kind, path, dtype=torch_type(dtype))
            template = load_chat_template(tokenizer, path)
            if not template.assistant_prefix:
                raise PmgError(f"{path} has no chat template. Load the whole checkpoint again.")
            frame = PromptFrame.of(tokenizer, template)
        embedding = model.get_input_embeddings()
        text_encoder = PromptEmbeddings(embedding, tokenizer, max_length, template.user_prefix)
        parts = cls._parts(model, gradient_checkpointing)
        return ImageTokenGenerator(*parts, text_encoder, frame, temperature).freeze()

    @staticmethod
    def _parts(model: Any, gradient_checkpointing: bool) -> tuple[ImageTokenizer, ImageTransformer]:
        """Returns what generates; the model's vision encoder is left out, and freed with the model."""
        if gradient_checkpointing and model.config.text_config.attention_dropout:
            raise PmgError("generator.gradient_checkpointing: the language model has dropout. Leave it at false.")
        tokenizer = ImageTokenizer(model.model.vqmodel.float())
        return tokenizer, ImageTransformer(model.model, gradient_checkpointing)

    @staticmethod
    def _read_config(path: str) -> JanusConfig:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        if config.model_type != MODEL_TYPE:
            raise PmgError(f"{path} is a {config.model_type}, and generator=janus needs a {MODEL_TYPE}.")
        return config

    @classmethod
    def read_configs(cls, source: str) -> Configs:
        """Returns the config of a checkpoint under ``config``, see `GeneratorFamily.read_configs`."""
        if source in cls.published:
            return cls.published[source]
        path = resolve_source(source)
        with loading("a config", path):
            return {"config": cls._read_config(path).to_dict()}

    @classmethod
    def empty(
        cls, configs: Configs, dtype: str, size: int | None = None, gradient_checkpointing: bool = False
    ) -> ImageTokenGenerator:  # fmt: skip
        """Returns a generator without weights, see `GeneratorFamily.empty`."""
        config = JanusConfig(**configs["config"])
        check_sizes("this config", config, size)
        with torch.device("meta"):
            model = JanusForConditionalGeneration(config).to(torch_type(dtype))
        parts = cls._parts(model, gradient_checkpointing)
        return ImageTokenGenerator(*parts, NoTextEncoder(), EMPTY_FRAME).freeze()

    @classmethod
    def empty_text_models(cls, configs: Configs, dtype: str) -> list[PreTrainedModel]:
        """Returns none: prompts are the language model's own input embeddings."""
        return []

    @classmethod
    def prompt_sizes(cls, configs: Configs, max_length: int) -> PromptSizes:
        """Returns the sizes of encoded texts of full length."""
        width = JanusConfig(**configs["config"]).text_config.hidden_size
        return PromptSizes(max_length, width, width, min(WORDS, max_length))


def check_sizes(path: str, config: JanusConfig, size: int | None) -> None:
    """Checks that a checkpoint's image tokenizer decodes what the language model predicts, in pictures of a size.

    Args:
        path: of the checkpoint, for messages.
        config: of the checkpoint.
        size: of the images in pixels; None: the checkpoint's.

    Raises:
        PmgError: it doesn't.
    """
    side, predicted = config.vq_config.num_patches, config.vision_config.num_image_tokens
    own = side * 2 ** (len(config.vq_config.channel_multiplier) - 1)
    if predicted != side**2:
        raise PmgError(f"{path} predicts {predicted} image tokens, and its image tokenizer decodes {side**2}.")
    if size not in (None, own):
        raise PmgError(
            f"generator.size is {size}, and the image tokenizer of {path} takes pictures of {own} pixels alone. Set "
            "generator.size=null."
        )
