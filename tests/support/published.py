"""Configs of published checkpoints in their layout, with toy tokenizers and without weights."""

from __future__ import annotations

import json
from pathlib import Path

from checkpoints import (
    write_flux1,
    write_flux2_klein,
    write_janus,
    write_language_model,
    write_qwen_image,
    write_qwen_image_edit,
    write_sd3,
    write_sd15,
    write_z_image,
)

CLIP_LARGE = {
    "model_type": "clip_text_model", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "vocab_size": 49408, "max_position_embeddings": 77, "projection_dim": 768,
}  # fmt: skip
CLIP_BIG_G = {
    "model_type": "clip_text_model", "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
    "num_attention_heads": 20, "vocab_size": 49408, "max_position_embeddings": 77, "projection_dim": 1280,
}  # fmt: skip
T5_XXL = {
    "model_type": "t5", "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
    "vocab_size": 32128, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
QWEN3_4B = {
    "model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
    "tie_word_embeddings": True,
}  # fmt: skip
QWEN25_VL_7B = {
    "model_type": "qwen2_5_vl",
    "text_config": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 128000,
        "rope_scaling": {"type": "default", "mrope_section": [16, 24, 24], "rope_type": "default"},
    },
    "vision_config": {"depth": 32, "hidden_size": 1280, "out_hidden_size": 3584, "intermediate_size": 3420},
    "tie_word_embeddings": False,
}  # fmt: skip
VAE = {
    "block_out_channels": [128, 256, 512, 512], "latent_channels": 4, "layers_per_block": 2, "sample_size": 512,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip
VAE_16 = {**VAE, "latent_channels": 16, "sample_size": 1024, "use_quant_conv": False, "use_post_quant_conv": False}
FLUX_VAE = {**VAE_16, "scaling_factor": 0.3611, "shift_factor": 0.1159}
QWEN_FLOW = {
    "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192,
    "shift_terminal": 0.02,
}  # fmt: skip
PUBLISHED = {  # who writes the layout, and its configs by folder
    "meta-llama/Llama-2-7b-chat-hf": (write_language_model, {"": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
    }}),
    "Qwen/Qwen2.5-0.5B-Instruct": (write_language_model, {"": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    }}),
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (write_sd15, {
        "unet": {
            "sample_size": 64, "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280],
            "layers_per_block": 2, "cross_attention_dim": 768, "attention_head_dim": 8,
            "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
            "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        },
        "vae": VAE, "text_encoder": CLIP_LARGE,
    }),
    "stabilityai/stable-diffusion-3.5-medium": (write_sd3, {
        "transformer": {
            "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
            "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
            "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 384,
            "dual_attention_layers": list(range(13)), "qk_norm": "rms_norm",
        },
        "vae": {**VAE_16, "scaling_factor": 1.5305, "shift_factor": 0.0609},
        "text_encoder": CLIP_LARGE, "text_encoder_2": CLIP_BIG_G, "text_encoder_3": T5_XXL,
    }),
    "black-forest-labs/FLUX.1-dev": (write_flux1, {
        "transformer": {"guidance_embeds": True}, "vae": FLUX_VAE, "text_encoder": CLIP_LARGE,
        "text_encoder_2": T5_XXL, "scheduler": {"use_dynamic_shifting": True, "shift": 3.0},
    }),
    "black-forest-labs/FLUX.2-klein-base-4B": (write_flux2_klein, {
        "transformer": {
            "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680,
            "guidance_embeds": False,
        },
        "vae": {}, "text_encoder": QWEN3_4B, "scheduler": {"use_dynamic_shifting": True, "shift": 3.0},
    }),
    "Qwen/Qwen-Image": (write_qwen_image, {
        "transformer": {}, "vae": {}, "text_encoder": QWEN25_VL_7B, "scheduler": QWEN_FLOW,
    }),
    "Qwen/Qwen-Image-Edit-2511": (write_qwen_image_edit, {
        "transformer": {"zero_cond_t": True}, "vae": {}, "text_encoder": QWEN25_VL_7B, "scheduler": QWEN_FLOW,
    }),
    "Tongyi-MAI/Z-Image": (write_z_image, {
        "transformer": {}, "vae": FLUX_VAE, "text_encoder": QWEN3_4B, "scheduler": {"shift": 6.0},
    }),
    "deepseek-community/Janus-Pro-1B": (write_janus, {"": {
        "model_type": "janus",
        "text_config": {
            "model_type": "llama", "vocab_size": 102400, "hidden_size": 2048, "intermediate_size": 5632,
            "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
            "max_position_embeddings": 16384,
        },
    }}),
}  # fmt: skip


def write_configs(folder, name):
    """Writes the configs of a published checkpoint, as they are downloaded for forecasts; returns the folder."""
    write, configs = PUBLISHED[name]
    path = Path(write(folder))
    for weights in path.rglob("*.safetensors"):
        weights.unlink()
    for part, values in configs.items():
        file = "scheduler_config.json" if part == "scheduler" else "config.json"
        (path / part / file).write_text(json.dumps(values))
    return str(path)
