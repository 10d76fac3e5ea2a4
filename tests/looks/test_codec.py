"""The codec: normalised latents, and what it keeps in its folder."""

from __future__ import annotations

import pytest
import torch

from looks import deep_codec
from pmg.domain import PmgError
from pmg.looks.models.codec import AutoencoderDCCodec


@pytest.fixture(scope="module")
def codec():
    return deep_codec(pictures())


def pictures():
    return torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_latents_have_mean_zero_and_deviation_one(codec):
    latents = codec.encode(pictures())
    assert latents.shape == (20, 4, 8, 8)
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3)


def test_decoding_takes_the_normalisation_back(codec):
    raw = codec.autoencoder.decode(codec.autoencoder.encode(pictures()).latent).sample.clamp(-1, 1)
    assert torch.allclose(codec.decode(codec.encode(pictures())), raw, atol=1e-4)


def test_a_folder_holds_weights_and_statistics(codec, tmp_path):
    codec.autoencoder.save_pretrained(tmp_path)
    with pytest.raises(PmgError, match=r"latent_statistics\.json is missing or damaged"):
        AutoencoderDCCodec.from_folder(tmp_path)
    codec.save_statistics(tmp_path)
    torch.testing.assert_close(AutoencoderDCCodec.from_folder(tmp_path).encode(pictures()), codec.encode(pictures()))
