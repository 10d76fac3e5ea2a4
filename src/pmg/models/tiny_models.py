"""The real classes at toy size, with random weights: for tests and dry runs, created without files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pmg.configuration.ranges import Count, Positive, Seed
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.noise_processes import VariancePreserving
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.diffusion.unet.stable_diffusion import StableDiffusion
from pmg.models.language.language_model import LanguageModel
from pmg.models.vision.scorer import EmbeddedScorer, ScorerConfig

CORPUS = (
    "stickers that a person sent: red apple, dog face, rocket, volcano, ghost, heart, crown, cactus, cat",
    "full colour, black and white, no outline, thick black outline, flat, soft gradients, glossy 3D",
    "their favourite shading is flat; their favourite outline is thick; a picture in the style of",
)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws weights from `seed` without a change of the caller's random number generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def tiny_tokenizer(vocabulary: int = 384) -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE tokenizer trained on a few lines, which takes any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")


def tiny_language_model(seed: Seed = 0) -> LanguageModel:
    """Returns a two-layer Llama with grouped attention, 32 wide, float32, random weights drawn from `seed`."""
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    with seeded(seed):
        return LanguageModel(LlamaForCausalLM(config), tokenizer)


def tiny_text_encoder(seed: Seed = 0, width: Count = 32) -> TextEncoder:
    """Returns a one-layer BERT."""
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=2 * width,
    )  # fmt: skip
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<end> $A <end>", special_tokens=[("<end>", tokenizer.eos_token_id)]
    )
    with seeded(seed):
        # the vocabulary is small, so that texts are long in tokens
        return TextEncoder(BertModel(config), tokenizer, max_length=config.max_position_embeddings)


def tiny_generator(text_encoder: TextEncoder, seed: Seed = 0, snr_gamma: Positive | None = 5.0) -> DiffusionGenerator:
    """Returns an autoencoder and a UNet of the embedded generator's shape, 64 px, frozen."""
    with seeded(seed):
        autoencoder = tiny_autoencoder()
        denoiser = UNet2DConditionModel(
            sample_size=8, in_channels=8, out_channels=8, block_out_channels=(8, 16), layers_per_block=1,
            attention_head_dim=(1, 2), cross_attention_dim=text_encoder.width, norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            class_embed_type="projection", projection_class_embeddings_input_dim=text_encoder.width,
        )  # fmt: skip
    scheduler = DDPMScheduler(
        num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False
    )
    return StableDiffusion.compose(autoencoder, denoiser, VariancePreserving(scheduler, snr_gamma), text_encoder)


def tiny_autoencoder() -> AutoencoderKL:
    """Returns an autoencoder of 64 px and 8 x 8 latents of 8 channels."""
    return AutoencoderKL(
        latent_channels=8, sample_size=64, norm_num_groups=4, block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        mid_block_add_attention=False,
    )  # fmt: skip


def tiny_scorer(width: Count = 32, seed: Seed = 0) -> EmbeddedScorer:
    """Returns a scorer with a two-stage image encoder, frozen."""
    with seeded(seed):
        return EmbeddedScorer(ScorerConfig(widths=(4, 8), depths=(1, 1), width=width)).requires_grad_(False).eval()
