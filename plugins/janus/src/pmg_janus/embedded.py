"""The embedded Janus: prompts are the states of a frozen text encoder, pictures are 64 codes of looks.

It is a `JanusForConditionalGeneration` of transformers whose own vocabulary is one token, the one that begins a
picture. Its vision encoder, which reads pictures, is as small as the class allows and isn't trained.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import JanusConfig, JanusForConditionalGeneration, JanusVQVAE

from pmg.configuration.ranges import Count, NotNegative
from pmg.domain import PmgError
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.models.loading.weight_sources import load_frozen
from pmg_janus.image_transformer import ImageTransformer
from pmg_janus.prompts import PromptFrame
from pmg_janus.token_generator import ImageTokenGenerator, ImageTokenizer

FRAME = PromptFrame(suffix=(), start=0, padding=None)
READER = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "patch_size": 8}  # not used


def build_janus(
    tokenizer: str, width: Count, layers: Count, heads: Count, intermediate: Count
) -> JanusForConditionalGeneration:
    """Returns an untrained Janus around a trained image tokenizer, whose weights are frozen.

    The embeddings of image tokens start as the entries of the codebook. `tokenizer` is the folder of a `JanusVQVAE`;
    sizes are of the language model, whose `width` is that of the text encoder's states, and `intermediate` the width
    of its feed-forward layers. PmgError if the tokenizer is missing or damaged.
    """
    trained: JanusVQVAE = load_frozen(JanusVQVAE, tokenizer)
    tokens = ImageTokenizer(trained)
    vq = {**trained.config.to_dict(), "projection_dim": width, "image_token_embed_dim": width, "dtype": "float32"}
    text = {
        "model_type": "llama", "vocab_size": 1, "hidden_size": width, "intermediate_size": intermediate,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads,
        "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    sizes = {"image_size": tokens.size, "num_image_tokens": tokens.tokens, "projection_dim": width}
    config = JanusConfig(text_config=text, vision_config={**READER, **sizes}, vq_config=vq, image_token_id=0)
    model = JanusForConditionalGeneration(config)
    model.model.vqmodel.load_state_dict(trained.state_dict())
    with torch.no_grad():
        model.model.generation_embeddings.weight.copy_(trained.quantize.embedding.weight)
    model.model.vqmodel.requires_grad_(False)
    return model


class LookJanus(nn.Module):
    """What is trained: a language model of image tokens and its style encoder; the image tokenizer is frozen."""

    def __init__(self, model: JanusForConditionalGeneration, style_encoder: StyleEncoder) -> None:
        super().__init__()
        self.transformer, self.style_encoder = ImageTransformer(model.model), style_encoder
        self._model = (model,)  # in a tuple: frozen parts stay out of checkpoints

    @property
    def janus(self) -> JanusForConditionalGeneration:
        """The whole model."""
        return self._model[0]

    def generator(self, text_encoder: PromptEncoder) -> ImageTokenGenerator:
        """Returns a generator of these models, which are trained in place."""
        return compose(self.janus, self.transformer, text_encoder)


def compose(
    model: JanusForConditionalGeneration, transformer: ImageTransformer, text_encoder: PromptEncoder,
    temperature: float = 1.0,
) -> ImageTokenGenerator:  # fmt: skip
    """Returns a generator of a Janus; PmgError if the text encoder has another width than the language model."""
    if text_encoder.width != transformer.width:
        raise PmgError(
            f"the text encoder's tokens are {text_encoder.width} wide, and the language model's {transformer.width}. "
            "Use the text encoder that it was trained with."
        )
    return ImageTokenGenerator(
        ImageTokenizer(model.model.vqmodel), transformer, text_encoder, FRAME, temperature=temperature
    )


def load_look_janus(
    folder: str | Path, text_encoder: PromptEncoder, temperature: NotNegative = 1.0
) -> ImageTokenGenerator:
    """Loads a trained model with the text encoder of its training, frozen, in float32; PmgError if they don't fit.

    `temperature` is of the distribution that image tokens are drawn from; 0: the likeliest token.
    """
    model: JanusForConditionalGeneration = load_frozen(JanusForConditionalGeneration, folder)
    return compose(model, ImageTransformer(model.model), text_encoder, temperature).freeze()
