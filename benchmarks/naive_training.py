"""PMG's training as one would write it down first: every example reads, encodes and draws everything anew.

History, pictures and multimodal tokens go through the language model in one pass with gradients; pictures of the
history and the target's picture go through the autoencoder, and texts through the text encoder, in each step. Plain
calls of transformers and diffusers; nothing is kept between steps, and each example reads its user's history.

Shapes: `B` examples, `H` pictures of a history, `N` tokens of the longest sequence, `n` multimodal tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from benchmarks.plain_models import PlainModels, Texts
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.models.preference.visual_encoder import VisualPreferenceEncoder
from pmg.training.optim import OptimizedModule, adamw, one_cycle


class NaiveTraining(OptimizedModule):
    """Trains an encoder that sees pictures.

    Args:
        encoder: what is trained.
        language_model: of transformers, frozen, as are all others.
        tokenizer: its tokenizer.
        style_encoder: turns a picture's latents into its vector.
        plain: the generator's models.
        learning_rate: the cycle's peak.
    """

    trained = "encoder"

    def __init__(
        self, encoder: VisualPreferenceEncoder, language_model: Any, tokenizer: Any, style_encoder: StyleEncoder,
        plain: PlainModels, learning_rate: float,
    ) -> None:  # fmt: skip
        super().__init__(adamw(learning_rate), one_cycle)
        self.encoder, self.tokenizer = encoder, tokenizer
        self._frozen = (language_model, style_encoder, plain)  # in a tuple: not sub-modules

    def read(self, histories: Sequence[str], pictures: Sequence[Tensor], liked: Sequence[Tensor]) -> Tensor:
        """Returns soft tokens `(B, n, D)`.

        Args:
            histories: B texts.
            pictures: of each history, `(H_i, 3, height, width)`.
            liked: which of them were liked, bool `(H_i,)`.
        """
        encoder, count = self.encoder, len(self.encoder.multimodal_tokens)
        vectors = [self.see(some) for some in pictures]
        sequences = [self.embed(*one) for one in zip(histories, vectors, liked, strict=True)]
        shown = torch.tensor([len(some) for some in pictures])
        states = self.states(sequences, shown + count)
        seen = [row[-count - number : -count] for row, number in zip(states, shown.tolist(), strict=True)]
        counted = pad_sequence(list(liked), batch_first=True)
        padded = (pad_sequence(part, batch_first=True) for part in (seen, vectors))
        means = encoder.picture_mean(states[:, -count:], *padded, counted)
        return encoder.to_tokens(states[:, -count:]) + means

    @torch.no_grad()
    def see(self, pictures: Tensor) -> Tensor:
        """Returns the vectors of pictures, `(H, F)`."""
        _, style_encoder, plain = self._frozen
        return style_encoder(plain.encode(pictures)[:, None]).flatten(1).float()

    def embed(self, history: str, vectors: Tensor, liked: Tensor) -> Tensor:
        """Returns the embeddings of a history's text, pictures and the multimodal tokens, `(N_i, width)`."""
        encoder, embeddings = self.encoder, self._frozen[0].get_input_embeddings()
        text = embeddings(torch.tensor(self.tokenizer(history).input_ids))
        projected = encoder.projector((vectors - encoder.feature_mean) / encoder.feature_std)
        visual = (projected + encoder.roles(liked.long())) * encoder.embedding_std
        return torch.cat([text, visual.to(text), encoder.multimodal_tokens.to(text)])

    def states(self, sequences: Sequence[Tensor], new: Tensor) -> Tensor:
        """Returns last hidden states, float32 `(B, N, width)`, of sequences padded in front.

        Args:
            sequences: embeddings of each, `(N_i, width)`.
            new: number of tokens of each, from its end, that attend to the prefix.
        """
        language_model = self._frozen[0]
        inputs = pad_sequence(list(sequences), batch_first=True, padding_side="left")
        batch, length = inputs.shape[:2]
        real = torch.arange(length) >= length - torch.tensor([len(one) for one in sequences])[:, None]
        prefix, past = self.encoder.prefix().to(inputs), DynamicCache()
        for layer, pair in enumerate(prefix):
            past.update(*(part.expand(batch, -1, -1, -1) for part in pair), layer)
        behind = torch.arange(length) >= length - new[:, None]  # tokens that see the prefix
        causal = torch.ones(length, length, dtype=torch.bool).tril() & real[:, None]
        visible = torch.cat([behind[..., None].expand(-1, -1, prefix.shape[3]), causal], 2)
        visible = visible | ~real[..., None]  # padding sees anything: a row without a key gives no number
        mask = torch.zeros(visible.shape, dtype=inputs.dtype).masked_fill(~visible, torch.finfo(inputs.dtype).min)
        places = (real.cumsum(1) - 1).clamp(min=0)
        read = language_model.get_decoder()(
            inputs_embeds=inputs,
            attention_mask=mask[:, None],
            position_ids=places,
            cache=past,
            use_cache=True,
        )
        return read.last_hidden_state.float()

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        """Returns the denoising loss of B examples.

        Args:
            batch: `histories`, `pictures` and `liked`, see `read`; `targets` and `keywords` (texts; a dropped target
                is an empty one), `truths` `(B, 3, height, width)`, `noise`, `times`, `keep_keywords` and `keep_soft`.
        """
        plain = self._frozen[2]
        with torch.no_grad():
            latents = plain.encode(batch["truths"]).float()
            target, words = plain.write(batch["targets"]), plain.write(batch["keywords"])
        soft = self.read(batch["histories"], batch["pictures"], batch["liked"])
        keep, words_mask = batch["keep_soft"][:, None], words.mask & batch["keep_keywords"][:, None]
        texts = Texts(
            torch.cat([target.tokens, words.tokens * words_mask[..., None], soft * keep[..., None]], dim=1),
            torch.cat([target.mask, words_mask, keep.expand(soft.shape[:2])], dim=1),
            target.pooled,
        )
        noise, times = batch["noise"], batch["times"]
        noisy = torch.lerp(latents, noise, times[:, None, None, None])
        predicted = plain.predict(noisy, 1000 * times, texts, soft.mean(1) * keep)
        return F.mse_loss(predicted, noise - latents)
