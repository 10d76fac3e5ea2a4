"""Stable Diffusion 3 at toy size, with random weights: for tests and dry runs, created without files."""

from __future__ import annotations

from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from tokenizers import processors
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from pmg.configuration.ranges import Seed
from pmg.families.stable_diffusion_3 import SD3TextEncoder, StableDiffusion3
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.text_encoder import TextTower
from pmg.models.tiny_models import seeded, tiny_autoencoder, tiny_tokenizer


def tiny_sd3(seed: Seed = 0) -> DiffusionGenerator:
    """Returns Stable Diffusion 3 at toy size, 64 px, frozen: a transformer, two CLIP models and T5."""
    with seeded(seed):
        clips = [_tiny_clip(width, pooled) for width, pooled in ((16, 8), (8, 8))]
        text_encoder = SD3TextEncoder(clips, _tiny_t5(width=32), width=32)
        transformer = SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=8, out_channels=8, num_layers=2, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=16,
            pos_embed_max_size=8, dual_attention_layers=(0,), qk_norm="rms_norm",
        )  # fmt: skip
        autoencoder = tiny_autoencoder()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return StableDiffusion3.compose(autoencoder, transformer, scheduler, text_encoder, None)


def _tokenizer_with_end() -> PreTrainedTokenizerFast:
    """Returns the tiny tokenizer with an end token behind each text, which CLIP pools."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", tokenizer.eos_token_id)]
    )
    return tokenizer


def _tiny_clip(width: int, pooled: int) -> TextTower:
    tokenizer = _tokenizer_with_end()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, projection_dim=pooled,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = CLIPTextModelWithProjection(config)
    return TextTower(model, tokenizer, 512, layer=-2, pooled="text_embeds", padded=False)


def _tiny_t5(width: int) -> TextTower:
    tokenizer = _tokenizer_with_end()
    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=2 * width, num_layers=1, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return TextTower(T5EncoderModel(config), tokenizer, 512, padded=False)
