"""Images to the tokens of a vector-quantised autoencoder, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class ImageTokenizer(nn.Module):
    """The image tokenizer of Janus: an autoencoder whose latents are entries of a codebook, `side` tokens a side."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.side = int(model.config.num_patches)

    @property
    def tokens(self) -> int:
        """Tokens `T` of an image, row after row."""
        return self.side**2

    @property
    def codes(self) -> int:
        """Entries of the codebook."""
        return int(self.model.config.num_embeddings)

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return self.side * 2 ** (len(self.model.config.channel_multiplier) - 1)

    def encode(self, images: Tensor) -> Tensor:
        """Returns tokens `(B, T)`, int64, of images `(B, 3, size, size)` in [-1, 1].

        A token is the entry of the smallest angle to the latent, as in training (Yu et al. 2022, section 3.2), where
        ``JanusVQVAE.encode`` of transformers 5.24 also compares lengths, which its ``decode`` doesn't see.
        """
        latents = self.model.quant_conv(self.model.encoder(images.to(self.model.dtype)))
        latents = normalize(latents.permute(0, 2, 3, 1).flatten(1, 2), dim=-1)
        return (latents @ normalize(self.model.quantize.embedding.weight, dim=-1).T).argmax(-1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Returns images `(B, 3, size, size)` in [-1, 1], float32, of tokens `(B, T)`."""
        return self.model.decode(tokens.long()).to(torch.float32).clamp(-1, 1)
