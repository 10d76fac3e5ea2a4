"""Trains 20 steps, generates and evaluates on a GPU, and compares its memory with the forecast of `pmg-estimate`.

make gpu                 # Qwen2.5-0.5B with Stable Diffusion 1.5, from the hub
make gpu ARGS=--random   # without a hub: published sizes with random weights (5 GB of disk)

The table goes to docs/scaling.md. Further arguments are overrides of all four commands.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.scaling import table
from pmg.reporting.study_pages import fill

ROOT = Path(__file__).resolve().parents[1]
LANGUAGE_MODEL, GENERATOR = "Qwen/Qwen2.5-0.5B-Instruct", "stable-diffusion-v1-5/stable-diffusion-v1-5"
MODELS = ["language_model=qwen25_05b", "generator=sd15"]
COMMANDS = {
    "estimate": ["trainer=gpu"],
    "train": ["trainer=gpu", "trainer.max_steps=20", "trainer.val_check_interval=20"],
    "generate": ["method=[none,soft,pmg_paper]"],
    "evaluate": ["metrics=distances"],
}
SIZES = [
    "experiment=paper", "split_sizes={train: 16, validation: 4, test: 4}", "objective.users_per_step=4", "logger=none",
    "targets={train: 1, validation: 1, test: 1}",
]  # fmt: skip
MIB = 2**10  # in a GiB


def write_random(folder: Path) -> list[str]:
    """Writes models of published sizes with random weights, and returns the overrides that load them."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))  # the published sizes, and toy tokenizers
    import diffusers
    import transformers

    from published import write_configs

    language_model, generator = folder / "language_model", folder / "generator"
    if not (generator / "vae" / "diffusion_pytorch_model.safetensors").is_file():
        config = transformers.AutoConfig.from_pretrained(write_configs(language_model, LANGUAGE_MODEL))
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(language_model)
        write_configs(generator, GENERATOR)
        text = transformers.CLIPTextConfig.from_pretrained(generator / "text_encoder")
        transformers.CLIPTextModel(text).to(torch.bfloat16).save_pretrained(generator / "text_encoder")
        for part, kind in {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}.items():
            found = kind.from_config(kind.load_config(generator / part))
            found.to(torch.bfloat16).save_pretrained(generator / part)
    return [f"language_model.source={language_model}", f"generator.source={generator}", "scorer=tiny"]


def run(command: str, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Runs a command of pmg and returns its ``metrics.json``; SystemExit if it fails."""
    place = folder / command
    runs = {
        "generate": [f"train_run={folder}/train"],
        "evaluate": [f"generate_run={folder}/generate", f"results_dir={folder}/results"],
    }
    known = [*SIZES, *COMMANDS[command], *overrides, *runs.get(command, []), f"run_dir={place}"]
    if code := subprocess.call([sys.executable, "-m", f"pmg.commands.{command}", *known], cwd=ROOT):
        raise SystemExit(f"pmg-{command} ended with code {code}")
    found: dict[str, Any] = json.loads((place / "metrics.json").read_text())
    return found


def main() -> None:
    """Runs the four commands and fills the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "gpu")
    parser.add_argument("--random", action="store_true", help="random weights of the published sizes")
    parser.add_argument("--record", action="store_true", help="write the table into docs/scaling.md")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    folder, overrides = given.folder.resolve() / ("random" if given.random else "published"), given.overrides
    models = [*MODELS, *(write_random(folder / "models") if given.random else []), *overrides]
    found = {command: run(command, folder, models) for command in COMMANDS}
    rows = []
    for command in ("train", "generate", "evaluate"):
        ledger = found[command]["ledger"]
        memory = ledger["peak_memory"]
        peak = f"{memory['cuda_mib'] / MIB:.2f} GiB" if "cuda_mib" in memory else "no GPU"
        forecast = f"{found['estimate']['metrics']['device_gib']:.2f} GiB" if command == "train" else "–"
        seconds = ", ".join(f"{phase} {value:.1f} s" for phase, value in ledger["seconds"].items())
        rows.append([f"`pmg-{command}`", seconds, forecast, peak])
    text = table(["command", "time", "memory of the GPU: forecast", "measured"], rows)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    revision = (found["evaluate"]["git"] or {}).get("revision")
    weights = "random weights of published sizes" if given.random else "published weights"
    arguments = [*(["--random"] if given.random else []), *overrides]
    command = shlex.join(["make", "gpu", *([f"ARGS={' '.join(arguments)}"] if arguments else [])])
    text += f"\n\n{device}, {weights}, revision {revision}: `{command}`."
    print(text)
    if given.record:
        fill(ROOT / "docs" / "scaling.md", "gpu", text)


if __name__ == "__main__":
    main()
