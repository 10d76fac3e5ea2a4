"""What tests of looks share."""

from __future__ import annotations

import copy

import pytest
import pytorch_lightning as pl
import torch
from diffusers import AutoencoderDC

from commands import FEW
from pmg.looks.finish_space import FinishSpace
from pmg.looks.models.codec import AutoencoderDCCodec
from pmg.looks.stages.pretraining import save_half
from pmg.training.checkpoints import LastCheckpoint

TOPICS = [
    "animal-bird", "animal-bug", "award-medal", "food-fruit", "food-sweet", "hand-fingers-partial", "hotel",
    "musical-instrument", "person-activity", "plant-flower", "plant-other", "time",
]  # fmt: skip
"""Topics with three targets of each split by each artist, an eighth of all drawings."""
FEW_TOPICS = [
    "food-fruit", "food-prepared", "animal-mammal", "animal-bird", "face-smiling", "tool", "sport", "event",
]  # fmt: skip
"""Topics with enough targets of each split for a few users."""
SHARES = {
    "palette": {"as_drawn": 1, "turned": 1, "duotone": 1, "grey": 1},
    "ground": {"white": 1, "tint": 1, "dark": 1},
    "outline": {"none": 1, "contrast": 1, "coloured": 1},
    "surface": {"flat": 1, "halftone": 1, "pixels": 1, "paper": 1},
}
SPACE = FinishSpace(**SHARES, unseen_hues=[[80, 120]], unseen_pairs=[["dark", "pixels"]])
ALL_SEEN = FinishSpace(**SHARES, unseen_hues=[], unseen_pairs=[])


def build_looks(cfg, overrides):
    """Returns the data set of a config with overrides of it."""
    from pmg.configuration.instantiate import instantiate

    data = copy.deepcopy(cfg)
    data.merge_with_dotlist([override.removeprefix("data.") for override in overrides])
    return instantiate(data)


@pytest.fixture(scope="session")
def looks(shipped):
    """The shipped data set with an eighth of its drawings: held-out cells and simulated users."""
    return build_looks(shipped.data, [f"data.topics=[{','.join(TOPICS)}]"])


@pytest.fixture(scope="session")
def few_looks(shipped):
    """The shipped data set with the overrides `FEW`."""
    return build_looks(shipped.data, FEW)


def deep_codec(pictures, widths=(8, 16)):
    """Returns a tiny untrained codec of deep compression, normalised by the latents of pictures `(N, 3, H, W)`."""
    torch.manual_seed(0)
    ones, none = (1,) * len(widths), ((),) * len(widths)
    autoencoder = AutoencoderDC(
        in_channels=3, latent_channels=4, encoder_block_types="ResBlock", decoder_block_types="ResBlock",
        encoder_block_out_channels=widths, decoder_block_out_channels=widths, encoder_layers_per_block=ones,
        decoder_layers_per_block=ones, encoder_qkv_multiscales=none, decoder_qkv_multiscales=none,
        downsample_block_type="Conv", upsample_block_type="interpolate",
    )  # fmt: skip
    return AutoencoderDCCodec.measure(autoencoder.eval(), pictures)


def save_codec(data, folder):
    """Saves a tiny codec with the statistics of a data set's pictures, as a generator's folder has it."""
    codec = deep_codec(data.picture_source("train").draw(torch.arange(4), torch.Generator().manual_seed(0)))
    save_half(codec.autoencoder, str(folder / "vae"))
    codec.save_statistics(folder / "vae")


def fit_stage(stage, data, folder, steps, *callbacks):
    """Trains a stage of `pmg-pretrain`, resumed from a folder's checkpoint, without validation; returns its module."""
    module, batches = stage.build(data, 0)
    batches.validation = batches.validation[:0]
    path = folder / "last.ckpt"
    pl.Trainer(
        max_steps=steps, max_epochs=-1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", callbacks=[LastCheckpoint(str(folder)), *callbacks], limit_val_batches=0,
    ).fit(module, batches, ckpt_path=path if path.exists() else None, weights_only=True)  # fmt: skip
    return module
