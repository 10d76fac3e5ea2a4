"""Writes the moving average of an interrupted training of looks as fp16 weights.

python experiments/interrupted_weights.py --run /work/gen-models/run-pictures --into /work/gen-models/pictures
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from pmg.configuration.instantiate import instantiate
from pmg.training.pretraining.stages import save_half


def main(options: Any) -> None:
    """Restores the model of the run's config and saves its parts."""
    cfg = OmegaConf.load(options.run / "config.yaml")
    cfg.stage.start = None
    stage = instantiate(cfg.stage)
    checkpoint = torch.load(options.run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    stage.module.average.load_state_dict(checkpoint["callbacks"]["AveragedWeights"])
    stage.module.average.ema.copy_to(stage.model.parameters())
    print(checkpoint["global_step"], "steps")
    for model, name in stage._parts():
        save_half(model.eval(), str(options.into / "look_generator" / name))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--into", type=Path, required=True)
    main(parser.parse_args())
