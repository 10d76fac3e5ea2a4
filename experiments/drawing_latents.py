"""Encodes all drawings as drawn on white, for trainings with a picture of the target.

python experiments/drawing_latents.py --into /work/gen-models/pools/drawings.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import pmg
from pmg.configuration.instantiate import instantiate
from pmg.data.emoji.finishes import AS_DRAWN
from pmg.models.autocast import processor_autocast
from pmg.models.diffusion.latent_codec import AutoencoderDCCodec

AT_ONCE = 200


def main(options: Any) -> None:
    """Writes latents, float16 `(N, C, h, w)`, in the order of the drawings."""
    data = instantiate(pmg.compose("pretrain", overrides=["stage=look_unet", "run_dir=/unused"]).data)
    encode = processor_autocast()(AutoencoderDCCodec.from_folder(f"{options.models}/look_generator/vae").encode)
    parts = torch.arange(len(data.drawings)).split(AT_ONCE)
    latents = [encode(data.drawings.pictures(rows, [AS_DRAWN] * len(rows))).half() for rows in parts]
    save_file({"latents": torch.cat(latents).contiguous()}, options.into)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="assets")
    parser.add_argument("--into", type=Path, required=True)
    main(parser.parse_args())
