"""Makes a pool of looks with many drawings each, for trainings that read a look from up to twelve pictures.

python experiments/reference_pool.py --seed 1 --looks 3000 --into /work/gen-models/pools/1
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pmg
from pmg.configuration.instantiate import instantiate
from pmg.models.autocast import processor_autocast
from pmg.models.diffusion.latent_codec import AutoencoderDCCodec
from pmg.training.pretraining.look_pool import build_pool

DRAWINGS = 12  # of a look


def main(options: Any) -> None:
    """Makes the pool, unless it is there."""
    if (options.into / "pool.safetensors").is_file():
        return
    overrides = ["stage=look_unet", "run_dir=/unused", f"data.as_drawn={options.as_drawn}"]
    cfg = pmg.compose("pretrain", overrides=overrides)
    codec = AutoencoderDCCodec.from_folder(f"{options.models}/look_generator/vae")
    pool = build_pool(
        instantiate(cfg.data), options.split, options.looks, seed=options.seed,
        describe=instantiate(cfg.stage.captioner).describe, encode=processor_autocast()(codec.encode),
        mirrored=cfg.stage.pool.mirrored if options.split == "train" else 0.0, items=DRAWINGS,
    )  # fmt: skip
    pool.save(options.into)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="assets")
    parser.add_argument("--split", default="train", choices=("train", "validation"))
    parser.add_argument("--looks", type=int, default=3000)
    parser.add_argument("--as-drawn", type=float, default=0.15, help="share of looks as drawn on white")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--into", type=Path, required=True)
    main(parser.parse_args())
