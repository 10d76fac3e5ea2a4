"""Configs of published checkpoints, for forecasts without a download."""

from __future__ import annotations

from typing import Any

LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-2-7b-chat-hf": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
    },
    "Qwen/Qwen2.5-0.5B-Instruct": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
}  # fmt: skip
STABLE_DIFFUSION_1 = {
    "unet": {
        "sample_size": 64, "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2, "cross_attention_dim": 768, "attention_head_dim": 8,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    },
    "vae": {
        "block_out_channels": [128, 256, 512, 512], "latent_channels": 4, "layers_per_block": 2, "sample_size": 512,
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    "text_encoder": {
        "model_type": "clip_text_model", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "vocab_size": 49408, "max_position_embeddings": 77, "projection_dim": 768,
    },
}  # fmt: skip
STABLE_DIFFUSION_35_MEDIUM = {
    "transformer": {
        "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
        "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
        "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 384,
        "dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm",
    },
    "vae": {
        **STABLE_DIFFUSION_1["vae"], "latent_channels": 16, "sample_size": 1024, "scaling_factor": 1.5305,
        "shift_factor": 0.0609, "use_quant_conv": False, "use_post_quant_conv": False,
    },
    "text_encoder": STABLE_DIFFUSION_1["text_encoder"],
    "text_encoder_2": {
        "model_type": "clip_text_model", "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
        "num_attention_heads": 20, "vocab_size": 49408, "max_position_embeddings": 77, "projection_dim": 1280,
    },
    "text_encoder_3": {
        "model_type": "t5", "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
        "vocab_size": 32128, "feed_forward_proj": "gated-gelu",
    },
}  # fmt: skip
GENERATORS: dict[str, dict[str, dict[str, Any]]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": STABLE_DIFFUSION_1,
    "stabilityai/stable-diffusion-3.5-medium": STABLE_DIFFUSION_35_MEDIUM,
}
