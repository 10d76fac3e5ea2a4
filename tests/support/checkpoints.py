"""Random-weight checkpoints of the true classes at toy size, written in the layout that publishers use."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase, digits

import diffusers as df
import torch
import transformers as tf
from tokenizers import processors

from pmg.models.tiny_models import CORPUS, tiny_tokenizer

SHARP = 0.2  # deviation of weights, so that attention is far from uniform
LLAMA = tf.LlamaConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    head_dim=8, max_position_embeddings=2048, eos_token_id=0, bos_token_id=None, pad_token_id=None,
)  # fmt: skip


def write_language_model(folder, config=LLAMA, chat_template=None):
    """A causal language model: config, safetensors, tokenizer without a padding token, as many have."""
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.chat_template = chat_template
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    model = tf.AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=SHARP)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def clip_tokenizer(folder, pad="<|endoftext|>", length=77):
    """CLIP's own tokenizer over single characters and a few merges."""
    letters = dict.fromkeys("".join(CORPUS).lower().replace(" ", "") + ascii_lowercase + digits + "!")
    ends = [f"{letter}</w>" for letter in letters]
    words = dict.fromkeys(["<|startoftext|>", "<|endoftext|>", *letters, *ends, "re"])
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    Path(folder, "merges.txt").write_text("#version: 0.2\nr e\n")
    tokenizer = tf.CLIPTokenizer.from_pretrained(
        folder, model_max_length=length, pad_token=pad, unk_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def text_config(vocabulary, width=32, projection=16, length=77):
    return tf.CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=4, projection_dim=projection, max_position_embeddings=length, bos_token_id=0,
        eos_token_id=1, pad_token_id=1, initializer_factor=2.0,
    )  # fmt: skip


def autoencoder():
    return df.AutoencoderKL(
        latent_channels=4, sample_size=64, norm_num_groups=4, block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


def denoiser(width, **more):
    return df.UNet2DConditionModel(
        **{
            "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 16),
            "layers_per_block": 1, "attention_head_dim": 2, "cross_attention_dim": width, "norm_num_groups": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), **more,
        }
    )  # fmt: skip


SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def write_sd15(folder, scheduler=None, **unet):
    """Stable Diffusion 1: one tower, PNDM, epsilon."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer(Path(folder, "tokenizer"))
    scheduler = scheduler or df.PNDMScheduler(**SCHEDULE, skip_prk_steps=True, steps_offset=1)
    kind = df.LatentConsistencyModelPipeline if unet.get("time_cond_proj_dim") else df.StableDiffusionPipeline
    pipe = kind(
        vae=autoencoder(), text_encoder=tf.CLIPTextModel(text_config(len(tokenizer))), tokenizer=tokenizer,
        unet=denoiser(32, **unet), scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return str(folder)


def write_sdxl(folder):
    """SDXL: two towers, pooled vector, time ids."""
    torch.manual_seed(0)
    tokenizers = [clip_tokenizer(Path(folder, name)) for name in ("tokenizer", "tokenizer_2")]
    towers = (
        tf.CLIPTextModel(text_config(len(tokenizers[0]), 32)),
        tf.CLIPTextModelWithProjection(text_config(len(tokenizers[1]), 16, 16)),
    )
    unet = denoiser(
        48, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )  # fmt: skip
    pipe = df.StableDiffusionXLPipeline(
        vae=autoencoder(), text_encoder=towers[0], text_encoder_2=towers[1], tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1], unet=unet, scheduler=df.EulerDiscreteScheduler(**SCHEDULE),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return str(folder)


def write_sd3(folder):
    """Stable Diffusion 3: a transformer, two CLIP models with projections, T5, a shifted autoencoder."""
    torch.manual_seed(0)
    tokenizers = [clip_tokenizer(Path(folder, name)) for name in ("tokenizer", "tokenizer_2")]
    towers = [
        tf.CLIPTextModelWithProjection(text_config(len(tokenizer), width, width // 2))
        for tokenizer, width in zip(tokenizers, (16, 8), strict=True)
    ]
    long = tiny_tokenizer()
    t5 = tf.T5EncoderModel(tf.T5Config(
        vocab_size=len(long), d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    ))  # fmt: skip
    transformer = df.SD3Transformer2DModel(
        sample_size=8, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=12, pos_embed_max_size=12,
        dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    for weight in transformer.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=SHARP)
    vae = autoencoder()
    vae.register_to_config(scaling_factor=1.5, shift_factor=0.06)
    pipe = df.StableDiffusion3Pipeline(
        vae=vae, text_encoder=towers[0], tokenizer=tokenizers[0], text_encoder_2=towers[1], tokenizer_2=tokenizers[1],
        text_encoder_3=t5, tokenizer_3=long, transformer=transformer,
        scheduler=df.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return str(folder)


def sharpen(model):
    """Draws weights so large that attention is far from uniform; returns the model."""
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=SHARP)
    return model


def write_flux1(folder, guidance_embeds=True):
    """FLUX.1: a transformer of packed latents, CLIP's pooled vector, T5's tokens; dev, or schnell without guidance."""
    torch.manual_seed(0)
    tokenizer, long = clip_tokenizer(Path(folder, "tokenizer")), tiny_tokenizer()
    t5 = tf.T5EncoderModel(tf.T5Config(
        vocab_size=len(long), d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    ))  # fmt: skip
    transformer = df.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, guidance_embeds=guidance_embeds, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = autoencoder()
    vae.register_to_config(scaling_factor=1.5, shift_factor=0.06)
    df.FluxPipeline(
        vae=vae, text_encoder=tf.CLIPTextModel(text_config(len(tokenizer), 16)), tokenizer=tokenizer,
        text_encoder_2=t5, tokenizer_2=long, transformer=sharpen(transformer),
        scheduler=df.FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=guidance_embeds),
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<end>{% endfor %}<|assistant|>"
    "{% if not enable_thinking %}<think>{% endif %}"
)


def qwen3(layers, template=CHAT):
    """A Qwen3 with its tokenizer."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    config = tf.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=layers, head_dim=8,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    return sharpen(tf.Qwen3ForCausalLM(config)), tokenizer


def qwen_image_parts(tokenizer, numbers=None, **transformer):
    """The parts of Qwen-Image; `numbers` of the special tokens of pictures."""
    torch.manual_seed(0)
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    config = tf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **(numbers or {}))
    transformer = df.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 6, 6), **transformer,
    )  # fmt: skip
    vae = df.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.1, 0.2, -0.1, 0.0],
        latents_std=[1.5, 1.0, 0.5, 2.0],
    )  # fmt: skip
    scheduler = df.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
    )
    text_encoder = sharpen(tf.Qwen2_5_VLForConditionalGeneration(config))
    return {
        "scheduler": scheduler, "vae": vae, "text_encoder": text_encoder, "tokenizer": tokenizer,
        "transformer": sharpen(transformer),
    }  # fmt: skip


def write_qwen_image(folder):
    """Qwen-Image: a double-stream transformer, Qwen2.5-VL, an autoencoder for videos."""
    df.QwenImagePipeline(**qwen_image_parts(tiny_tokenizer())).save_pretrained(folder)
    return str(folder)


def write_qwen_image_edit(folder, zero_cond_t=True):
    """Qwen-Image-Edit 2511, or 2509 without a time of its own for reference images."""
    names = ("vision_start", "vision_end", "image_pad", "video_pad")
    tokenizer, (start, end, image, video) = tokenizer_with(*(f"<|{name}|>" for name in names))
    numbers = {
        "image_token_id": image, "video_token_id": video, "vision_start_token_id": start, "vision_end_token_id": end,
    }  # fmt: skip
    video_processor = tf.Qwen2VLVideoProcessor()
    processor = tf.Qwen2VLProcessor(tf.Qwen2VLImageProcessor(), tokenizer, video_processor)
    parts = qwen_image_parts(tokenizer, numbers, zero_cond_t=zero_cond_t)
    df.QwenImageEditPlusPipeline(**parts, processor=processor).save_pretrained(folder)
    return str(folder)


def write_z_image(folder):
    """Z-Image: a single-stream transformer with refiners, Qwen3."""
    torch.manual_seed(0)
    transformer = df.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[4, 6, 6], axes_lens=[256, 16, 16],
    )  # fmt: skip
    sharpen(transformer)
    vae = autoencoder()
    vae.register_to_config(scaling_factor=1.5, shift_factor=0.06)
    text_encoder, tokenizer = qwen3(3)
    df.ZImagePipeline(
        scheduler=df.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae, text_encoder=text_encoder,
        tokenizer=tokenizer, transformer=transformer,
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


def write_flux2_klein(folder, is_distilled=False):
    """FLUX.2 klein: Qwen3 of 28 layers, three of which are read, an autoencoder with batch statistics."""
    torch.manual_seed(0)
    transformer = df.Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    vae = df.AutoencoderKLFlux2(
        latent_channels=4, norm_num_groups=4, block_out_channels=(4, 4, 8, 8), layers_per_block=1, sample_size=64
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    text_encoder, tokenizer = qwen3(28)
    df.Flux2KleinPipeline(
        scheduler=df.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), vae=vae,
        text_encoder=text_encoder, tokenizer=tokenizer, transformer=sharpen(transformer), is_distilled=is_distilled,
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


def write_clip(folder):
    """A CLIP with its tokenizer and image processor."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer(folder)
    text = text_config(len(tokenizer))
    vision = tf.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8
    )
    config = tf.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16)
    tf.CLIPModel(config).save_pretrained(folder)
    tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def write_dinov2(folder):
    """A DINOv2 with its image processor, which sees 28 pixels where the model was made for 56."""
    torch.manual_seed(0)
    config = tf.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14, layerscale_value=1.0
    )
    model = tf.Dinov2Model(config)
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=SHARP)
    model.save_pretrained(folder)
    tf.BitImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}, image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 2048, "eos_token_id": 0, "bos_token_id": None,
    "pad_token_id": None,
}  # fmt: skip
SIGLIP = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4,
}  # fmt: skip
CHAT_IN_PARTS = (
    "{% for m in messages %}<|{{ m.role }}|>{% for part in m.content %}{{ part.text }}{% endfor %}<end>{% endfor %}"
    "<|assistant|>"
)


def write_vision(folder, model, tokenizer, image_processor):
    """A language model that sees: config, safetensors, tokenizer and image processor."""
    sharpen(model).save_pretrained(folder)
    tokenizer.chat_template = CHAT_IN_PARTS
    tokenizer.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    return str(folder)


def tokenizer_with(*tokens):
    """The tiny tokenizer with special tokens, and their numbers."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    return tokenizer, tokenizer.convert_tokens_to_ids(list(tokens))


def write_smolvlm(folder, **text):
    """SmolVLM: SigLIP, whose patches are shuffled into fewer tokens, and Llama."""
    torch.manual_seed(0)
    tokenizer, (image, *_) = tokenizer_with("<image>", "<fake_token_around_image>", "<global-img>")
    config = tf.SmolVLMConfig(
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **TEXT, **text},
        vision_config={**SIGLIP, "image_size": 32}, scale_factor=2, image_token_id=image, pad_token_id=0,
    )  # fmt: skip
    model = tf.SmolVLMForConditionalGeneration(config)
    return write_vision(folder, model, tokenizer, tf.SmolVLMImageProcessor())


def _write_qwen_vl(folder, config, model, vision, rope, text):
    torch.manual_seed(0)
    names = ("vision_start", "vision_end", "image_pad", "video_pad")
    tokenizer, (start, end, image, video) = tokenizer_with(*(f"<|{name}|>" for name in names))
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2], **rope}
    made = config(
        text_config={"vocab_size": len(tokenizer), **TEXT, "rope_parameters": rope, **text}, image_token_id=image,
        vision_config={"num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, **vision},
        video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    return write_vision(folder, model(made), tokenizer, tf.Qwen2VLImageProcessor(patch_size=4))


def write_qwen2_vl(folder, **text):
    """Qwen2-VL: positions of pictures are rows and columns."""
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
    return _write_qwen_vl(folder, tf.Qwen2VLConfig, tf.Qwen2VLForConditionalGeneration, vision, {}, text)


WINDOWED = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32}


def write_qwen25_vl(folder, **text):
    """Qwen2.5-VL: one layer of the vision encoder attends in windows, one to all."""
    vision = {**WINDOWED, "window_size": 16, "fullatt_block_indexes": [1]}
    return _write_qwen_vl(folder, tf.Qwen2_5_VLConfig, tf.Qwen2_5_VLForConditionalGeneration, vision, {}, text)


def write_qwen3_vl(folder, **text):
    """Qwen3-VL: a layer of the vision encoder is added to the states behind the first decoder layer."""
    vision = {**WINDOWED, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    rope = {"mrope_interleaved": True}
    return _write_qwen_vl(folder, tf.Qwen3VLConfig, tf.Qwen3VLForConditionalGeneration, vision, rope, text)


def write_gemma3(folder, **text):
    """Gemma 3: tokens of a picture attend to each other; one layer slides, one doesn't."""
    torch.manual_seed(0)
    names = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")
    tokenizer, (start, end, image) = tokenizer_with(*names)
    layers = ["sliding_attention", "full_attention"]
    config = tf.Gemma3Config(
        text_config={"vocab_size": len(tokenizer), **TEXT, "sliding_window": 1024, "layer_types": layers, **text},
        vision_config={**SIGLIP, "image_size": 16}, mm_tokens_per_image=4, boi_token_index=start,
        eoi_token_index=end, image_token_index=image,
    )  # fmt: skip
    size = {"height": 16, "width": 16}
    model = tf.Gemma3ForConditionalGeneration(config)
    return write_vision(folder, model, tokenizer, tf.Gemma3ImageProcessor(size=size))


JANUS_CHAT = (
    "{% for m in messages %}{% if m.role == 'user' %}<|User|>: {% else %}<|Assistant|>: {% endif %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{{ '\n\n' }}{% endfor %}<|Assistant|>:"
)
IMAGE_TOKENS = {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}


def janus_tokenizer(chat_template=JANUS_CHAT):
    """The tiny tokenizer with a first token, padding and the special tokens of images."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<begin>", "pad_token": "<pad>"})
    tokenizer.add_special_tokens({"additional_special_tokens": list(IMAGE_TOKENS.values())})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", tokenizer.bos_token_id)]
    )
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, bos_token="<begin>", eos_token="<end>", pad_token="<pad>",
        extra_special_tokens=IMAGE_TOKENS, chat_template=chat_template,
    )  # fmt: skip


def janus_config(tokenizer, **vision):
    return tf.JanusConfig(
        text_config={
            "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 2048, "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
            "num_image_tokens": 16, "projection_dim": 32, **vision,
        },
        vq_config={
            "embed_dim": 8, "num_embeddings": 64, "latent_channels": 32, "base_channels": 32,
            "channel_multiplier": [1, 1, 1, 1], "num_res_blocks": 1, "projection_dim": 32, "image_token_embed_dim": 32,
        },
        image_token_id=tokenizer.image_token_id,
    )  # fmt: skip


def write_janus(folder, **vision):
    """Janus: Llama with embeddings and a head of image tokens, a vector-quantised autoencoder, a vision encoder."""
    torch.manual_seed(0)
    tokenizer = janus_tokenizer()
    sharpen(tf.JanusForConditionalGeneration(janus_config(tokenizer, **vision))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
