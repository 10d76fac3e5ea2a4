"""PMG's training as one would write it down first: every step reads, encodes and draws everything anew.

The prefix stands in front of the history, which is therefore read again with gradients; pictures go through the
autoencoder and texts through the text encoder in each step. Plain calls of transformers and diffusers.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from diffusers.training_utils import compute_snr
from torch import Tensor
from transformers import DynamicCache

from pmg.models.preference.preference_encoder import PreferenceEncoder
from pmg.training.optim import adamw, configure_optimizers, one_cycle


class NaiveTraining(pl.LightningModule):
    """Trains a preference encoder.

    Args:
        encoder: what is trained.
        language_model: of transformers, frozen, as are all others.
        tokenizer: its tokenizer.
        autoencoder: of diffusers.
        denoiser: of diffusers.
        scheduler: adds the noise.
        text_model: of transformers.
        text_tokenizer: its tokenizer.
        learning_rate: the cycle's peak.
        snr_gamma: min-SNR ceiling.
    """

    def __init__(
        self, encoder: PreferenceEncoder, language_model: Any, tokenizer: Any, autoencoder: Any, denoiser: Any,
        scheduler: Any, text_model: Any, text_tokenizer: Any, learning_rate: float, snr_gamma: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder = encoder
        self._frozen = (language_model, autoencoder, denoiser, text_model)  # in a tuple: not sub-modules
        self.tokenizer, self.text_tokenizer, self.scheduler = tokenizer, text_tokenizer, scheduler
        self.learning_rate, self.snr_gamma = learning_rate, snr_gamma
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def read(self, histories: list[str]) -> Tensor:
        """Soft tokens `(U, n, D)` of histories."""
        language_model, encoder = self._frozen[0], self.encoder
        texts = self.tokenizer(histories, padding=True, padding_side="left", return_tensors="pt")
        past = DynamicCache()
        prefix = encoder.prefix().to(language_model.dtype)
        for layer, (keys, values) in enumerate(prefix):
            past.update(*(part.expand(len(histories), -1, -1, -1) for part in (keys, values)), layer)
        history = language_model.get_input_embeddings()(texts.input_ids)
        soft = encoder.multimodal_tokens.to(history.dtype).expand(len(histories), -1, -1)
        before, behind = (
            torch.ones(len(histories), count, dtype=torch.long) for count in (prefix.shape[3], len(soft[0]))
        )
        seen = torch.cat([before, texts.attention_mask, behind], dim=1)
        states = language_model.get_decoder()(
            inputs_embeds=torch.cat([history, soft], dim=1), attention_mask=seen, cache=past, use_cache=True,
            position_ids=(seen.cumsum(1) - 1)[:, prefix.shape[3] :],
        ).last_hidden_state[:, -len(soft[0]) :].float()  # fmt: skip
        standardized = encoder.standardize(states.flatten(1)).view_as(states)
        return encoder.map(standardized) * encoder.output_std + encoder.output_mean

    def write(self, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens `(B, L, D)`, mask `(B, L)` and pooled vectors `(B, D)` of texts."""
        batch = self.text_tokenizer(texts, padding=True, return_tensors="pt")
        tokens = self._frozen[3](**batch).last_hidden_state
        mask = batch.attention_mask
        pooled = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return tokens, mask, F.normalize(pooled, dim=-1) * tokens.shape[-1] ** 0.5

    def encode(self, pictures: Tensor) -> Tensor:
        """Normalised latents of pictures."""
        autoencoder = self._frozen[1]
        latents = autoencoder.encode(pictures).latent_dist.mean
        if autoencoder.config.latents_mean is None:
            return latents * autoencoder.config.scaling_factor
        mean, std = (
            latents.new_tensor(autoencoder.config[f"latents_{name}"])[:, None, None] for name in ("mean", "std")
        )
        return (latents - mean) / std

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        """One step.

        Args:
            batch: `histories` of U users, and of their B questions `targets`, `keywords` (texts), `pictures`, `noise`,
                `times`, `keep_keywords` and `keep_soft`; a dropped target is an empty text.
        """
        with torch.no_grad():
            latents = self.encode(batch["pictures"])
            target, target_mask, pooled = self.write(batch["targets"])
            words, words_mask, _ = self.write(batch["keywords"])
        soft = self.read(batch["histories"]).repeat_interleave(len(latents) // len(batch["histories"]), 0)
        soft_mask = batch["keep_soft"][:, None].expand(soft.shape[:2])
        mask = [target_mask.bool(), words_mask.bool() & batch["keep_keywords"][:, None], soft_mask]
        noise, times = batch["noise"], batch["times"]
        predicted = self._frozen[2](
            self.scheduler.add_noise(latents, noise, times), times, torch.cat([target, words, soft], dim=1),
            encoder_attention_mask=torch.cat(mask, dim=1), class_labels=pooled,
        ).sample  # fmt: skip
        wanted = self.scheduler.get_velocity(latents, noise, times)
        snr = compute_snr(self.scheduler, times)
        weight = snr.clamp(max=self.snr_gamma) / (snr + 1)
        return (F.mse_loss(predicted.float(), wanted.float(), reduction="none").mean((1, 2, 3)) * weight).mean()

    def configure_optimizers(self) -> dict:
        """As in our way."""
        return configure_optimizers(self, self.encoder, adamw(self.learning_rate), one_cycle)
