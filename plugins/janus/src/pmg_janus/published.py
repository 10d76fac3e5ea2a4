"""Janus and Janus-Pro (Wu et al. 2024, Chen et al. 2025): a language model that predicts image tokens, too."""

from __future__ import annotations

from transformers import AutoConfig, JanusConfig, JanusForConditionalGeneration

from pmg.configuration.ranges import Count, NotNegative
from pmg.domain import PmgError
from pmg.families.common.vision_language_model import load_chat_template
from pmg.models.loading.checkpoints import load_with_tokenizer
from pmg.models.loading.device import torch_type
from pmg.models.loading.weight_sources import loading, resolve_source
from pmg_janus.image_transformer import ImageTransformer
from pmg_janus.prompts import PromptEmbeddings, PromptFrame
from pmg_janus.token_generator import ImageTokenGenerator, ImageTokenizer

JANUS_PRO_1B = "deepseek-community/Janus-Pro-1B"
MODEL_TYPE = JanusConfig.model_type


class Janus:
    """Janus, in the layout of transformers; deepseek-ai's own needs code of the checkpoint."""

    @classmethod
    def load(
        cls, source: str, dtype: str = "float32", size: Count | None = None, max_length: Count = 512,
        temperature: NotNegative = 1.0, gradient_checkpointing: bool = False,
    ) -> ImageTokenGenerator:  # fmt: skip
        """Loads a checkpoint, frozen.

        `source` is a hub id or folder, in the layout of transformers; `dtype` names the type of the language model,
        and the image tokenizer stays in float32. Images have `size` pixels; None: the checkpoint's. `max_length` is in
        tokens. `temperature`, `gradient_checkpointing`: see `ImageTokenGenerator`, `ImageTransformer`. PmgError if the
        source is missing or damaged, of another kind, or makes images of another size.
        """
        path = resolve_source(source)
        hint = f"; generator.source is a hub id, e.g. {JANUS_PRO_1B}, or a folder in the layout of transformers"
        with loading("a generator", path, hint):
            config = AutoConfig.from_pretrained(path, trust_remote_code=False)
            if config.model_type != MODEL_TYPE:
                raise PmgError(f"{path} is a {config.model_type}, and generator=janus needs a {MODEL_TYPE}.")
            check_sizes(path, config, size)
            model, tokenizer = load_with_tokenizer(JanusForConditionalGeneration, path, dtype=torch_type(dtype))
            template = load_chat_template(tokenizer, path)
            if not template.assistant_prefix:
                raise PmgError(f"{path} has no chat template. Load the whole checkpoint again.")
            frame = PromptFrame.of(tokenizer, template)
        embedding = model.get_input_embeddings()
        text_encoder = PromptEmbeddings(embedding, tokenizer, max_length, template.user_prefix)
        if gradient_checkpointing and model.config.text_config.attention_dropout:
            raise PmgError("generator.gradient_checkpointing: the language model has dropout. Leave it at false.")
        image_tokenizer = ImageTokenizer(model.model.vqmodel.float())
        transformer = ImageTransformer(model.model, gradient_checkpointing)  # without the vision encoder
        return ImageTokenGenerator(image_tokenizer, transformer, text_encoder, frame, temperature).freeze()


def check_sizes(path: str, config: JanusConfig, size: int | None) -> None:
    """Checks that an image tokenizer decodes what is predicted, in pictures of `size` if given, else PmgError."""
    side, predicted = config.vq_config.num_patches, config.vision_config.num_image_tokens
    own = side * 2 ** (len(config.vq_config.channel_multiplier) - 1)
    if predicted != side**2:
        raise PmgError(f"{path} predicts {predicted} image tokens, and its image tokenizer decodes {side**2}.")
    if size not in (None, own):
        raise PmgError(
            f"generator.size is {size}, and the image tokenizer of {path} takes pictures of {own} pixels alone. Set "
            "generator.size=null."
        )
