"""Draws and judges the targets of the embedded world, told nothing or the true look: experiments/world.

python experiments/world.py --models assets --into experiments/world
python experiments/world.py --split validation --count 100 --groups met
python experiments/world.py --models outputs/families/models --generator looks_transformer --judge assets --into NAME
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from record import QUALITY, markdown, show
from targets import draw_targets, reference_pictures, true_pictures
from torch import Tensor

import pmg
from pmg.cache import atomic_write_json, atomic_write_text
from pmg.configuration.instantiate import instantiate
from pmg.evaluation.statistics import interval
from pmg.generation.guidance import LeaveOneOutScales, Scales
from pmg.looks.drawings import GROUPS, REFERENCES, LookData, LookTarget
from pmg.looks.metrics import LookJudging, StyleReader
from pmg.looks.models.judge import LookJudge
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.models.diffusion.conditioning import Block, SoftBlock, join_seen
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.loading.device import processor_autocast
from pmg.models.loading.weight_sources import load_frozen
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.models.vision.pixels import to_uint8
from pmg.runs.provenance import git_state

HERE = Path(__file__).resolve().parent
SHEET = 12  # targets on a contact sheet
BATCH = 50
METRICS = ("style_accuracy", "concept_accuracy", "lpips_truth", "finish_error")
GRID_LOOKS = 12
GRID = (
    "red apple", "dog face", "cat", "volcano", "rocket", "crown", "cactus", "ghost", "pizza", "automobile", "guitar",
    "octopus", "tulip", "banana", "soccer ball", "t-shirt", "hammer", "bicycle", "mushroom", "penguin",
)  # fmt: skip


class LookGenerator:
    """A generator with the style encoder that was trained with it.

    Args:
        generator: frozen.
        style_encoder: frozen.
    """

    def __init__(self, generator: DiffusionGenerator, style_encoder: StyleEncoder) -> None:
        self.generator, self.style_encoder = generator, style_encoder.eval()

    @classmethod
    def from_folder(cls, folder: str, generator: DiffusionGenerator) -> LookGenerator:
        """Loads the ``style_encoder`` of a folder."""
        return cls(generator, load_frozen(StyleEncoder, Path(folder, "style_encoder")))

    def read_style(self, pictures: Tensor) -> Tensor:
        """Returns style tokens `(B, n, D)` of reference pictures `(B, R, 3, H, W)` in [-1, 1]."""
        return self.style_encoder.read(self.generator.encode_images, pictures)

    @torch.no_grad()
    def __call__(
        self, targets: Sequence[str], words: Sequence[str] | None, style: Tensor | None, scales: Scales,
        steps: int, seeds: Sequence[int],
    ) -> Tensor:  # fmt: skip
        """Returns pictures `(B, 3, H, W)` in [-1, 1].

        Args:
            targets: what is drawn, B texts.
            words: how, in words; None: nothing is said.
            style: style tokens `(B, n, D)`; None: none.
            scales: of the guidance.
            steps: of the solver.
            seeds: of each picture's noise.
        """
        encode = self.generator.text_encoder.encode
        blocks: dict[str, Block] = {"target": encode(targets)}
        if words is not None:
            blocks["keywords"] = encode(words)
        if style is not None:
            blocks["soft"] = SoftBlock.of(style)
        _, *preference = blocks
        coefficients = scales.coefficients(preference, negative=False)
        empty = encode([""]).expand(len(targets))
        with processor_autocast():
            latents = self.generator.sample(
                [join_seen(blocks, empty, seen) for seen in coefficients], list(coefficients.values()), seeds, steps
            )
        return self.generator.decode(latents.float())


def draw_arms(
    generator: LookGenerator, data: LookData, targets: list[LookTarget], options: Any
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Returns the pictures of each arm, `(B, 3, H, W)`, and the seconds that it took for a picture."""
    titles = [f"{data.drawings.items[one.row].title}, {options.scene}" for one in targets]
    style = generator.read_style(reference_pictures(data, targets))
    seeds = [target.seed for target in targets]
    scales = LeaveOneOutScales(options.target_scale, options.target_scale, options.style_scale)

    def draw(style: Tensor | None, steps: int) -> Tensor:
        parts = []
        for start in range(0, len(targets), BATCH):
            rows = slice(start, start + BATCH)
            tokens = None if style is None else style[rows]
            parts.append(generator(titles[rows], None, tokens, scales, steps, seeds[rows]))
        return torch.cat(parts)

    pictures, seconds = {}, {}
    settings = {"none": (None, options.steps), "oracle": (style, options.steps), "oracle_4_steps": (style, 4)}
    for arm, (tokens, steps) in settings.items():
        start = time.perf_counter()
        pictures[arm] = draw(tokens, steps)
        seconds[arm] = (time.perf_counter() - start) / len(targets)
    return pictures, seconds


def draw_grid(generator: LookGenerator, data: LookData, options: Any) -> Image.Image:
    """Returns a grid of `GRID` concepts, a column each, in `GRID_LOOKS` looks that the oracle is told exactly."""
    rng = random.Random(0)
    artists = sorted(set(data.drawings.artists) - data.unseen_artists)
    rows = []
    for number in range(GRID_LOOKS):
        artist, finish = artists[number % len(artists)], data.space.sample(rng)
        shown = [row for row in data.rows("train").tolist() if data.drawings.artists[row] == artist]
        pictures = data.drawings.pictures(torch.tensor(rng.sample(shown, REFERENCES)), [finish] * REFERENCES)
        style = generator.read_style(pictures[None]).expand(len(GRID), -1, -1)
        titles = [f"{title}, {options.scene}" for title in GRID]
        scales = LeaveOneOutScales(options.target_scale, options.target_scale, options.style_scale)
        drawn = generator(titles, None, style, scales, options.steps, list(range(len(GRID))))
        rows.append(torch.cat([pictures[:1], drawn]))
    return contact_sheet([torch.stack(column) for column in zip(*rows, strict=True)])


def contact_sheet(columns: list[Tensor]) -> Image.Image:
    """Returns pictures side by side: a row a target, a column an arm."""
    rows = [torch.cat([column[row] for column in columns], 2) for row in range(len(columns[0]))]
    image = Image.fromarray(to_uint8(torch.cat(rows, 1)).permute(1, 2, 0).numpy())
    return image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)


def summarise(values: Tensor, drawings: np.ndarray) -> dict[str, float]:
    """Returns the mean over drawings and its 95 % bootstrap interval.

    Args:
        values: of each target.
        drawings: that each target is of; those of several targets count once, by the mean of these.
    """
    found = interval(values.double().numpy(), drawings)
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": len(values), "drawings": found.n}


def judge_group(
    group: str, parts: tuple[LookData, LookGenerator, LookJudge, PerceptualDistance], options: Any
) -> dict:
    """Returns the results of one group of targets and writes its contact sheet."""
    data, generator, judge, perceptual = parts
    targets = draw_targets(data, options.split, group, options.count)
    judging, truth = LookJudging(data, StyleReader(judge), targets), true_pictures(data, targets)
    arms, seconds = draw_arms(generator, data, targets, options)
    arms["vae_reconstruction"] = generator.generator.decode(generator.generator.encode_images(truth))
    arms["truth"] = truth
    measured = {
        name: judging.measure(pictures) | {"lpips_truth": distances(perceptual, pictures, truth)}
        for name, pictures in arms.items()
    }
    shown = reference_pictures(data, targets[:SHEET])[:, 0]
    sheet = contact_sheet([shown, *(pictures[:SHEET] for pictures in arms.values())])
    sheet.save(options.into / f"{group}.webp", quality=QUALITY)
    drawings = np.array([target.row for target in targets])
    table = {
        name: {metric: summarise(values[metric], drawings) for metric in METRICS} for name, values in measured.items()
    }
    return {"arms": table, "shares": shares(measured), "seconds_a_picture": seconds}


@torch.no_grad()
def distances(perceptual: PerceptualDistance, pictures: Tensor, truth: Tensor) -> Tensor:
    """Returns LPIPS of pictures to their truths, `(B,)`."""
    pairs = zip(pictures.split(BATCH), truth.split(BATCH), strict=True)
    return torch.cat([perceptual(a, b) for a, b in pairs])


def shares(measured: dict[str, dict[str, Tensor]]) -> dict[str, float]:
    """Returns what the issue's bounds are about: the oracle as a share of truth and of `none`."""
    means = {arm: {name: float(values.mean()) for name, values in row.items()} for arm, row in measured.items()}
    none, oracle, best, truth = (means[name] for name in ("none", "oracle", "vae_reconstruction", "truth"))
    return {
        "style_of_truth": oracle["style_accuracy"] / truth["style_accuracy"],
        "lpips_gap_closed": (none["lpips_truth"] - oracle["lpips_truth"])
        / (none["lpips_truth"] - best["lpips_truth"]),
        "finish_error_of_none": oracle["finish_error"] / none["finish_error"],
    }


def write_table(results: dict[str, Any], into: Path) -> str:
    """Writes table.md: a row a group and arm."""
    head = ("group", "arm", "style", "concept", "LPIPS to truth", "finish error")
    rows = [
        [group, arm, *(show(row[metric]) for metric in METRICS)]
        for group, result in results["groups"].items()
        for arm, row in result["arms"].items()
    ]
    text = markdown(head, rows, names=2)
    atomic_write_text(into / "table.md", text)
    return text


def main(options: Any) -> None:
    """Draws, judges and writes everything."""
    cfg = pmg.compose("generate", overrides=["data=looks", "scenario=looks", f"generator={options.generator}"])
    denoiser = Path(options.models, *Path(cfg.generator.denoiser.folder).parts[-2:])
    cfg.generator.denoiser.folder, cfg.generator.codec.folder = str(denoiser), str(denoiser.parent / "vae")
    data = instantiate(cfg.data)
    generator = LookGenerator.from_folder(str(denoiser.parent), instantiate(cfg.generator))
    judge = LookJudge.from_folder(f"{options.judge or options.models}/look_judge").float()
    parts = (data, generator, judge, PerceptualDistance.from_folder(f"{cfg.paths.assets_dir}/lpips"))
    options.scene = cfg.scenario.scene_words[0]
    record = HERE if options.split == "test" else HERE.parent / "outputs"
    options.into = options.into or record / "world"
    options.into.mkdir(parents=True, exist_ok=True)
    draw_grid(generator, data, options).save(options.into / "grid.webp", quality=QUALITY)
    results = {
        "revision": (git_state() or {}).get("revision"),
        "settings": {name: str(value) for name, value in vars(options).items() if name != "into"},
        "groups": {group: judge_group(group, parts, options) for group in options.groups},
    }
    atomic_write_json(options.into / "results.json", results)
    print(write_table(results, options.into))
    print(json.dumps({group: result["shares"] for group, result in results["groups"].items()}, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="assets", help="folder of look_judge and the generator")
    parser.add_argument("--generator", default="looks", choices=("looks", "looks_transformer"))
    parser.add_argument("--judge", help="folder of look_judge, where it is another one")
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=GROUPS)
    parser.add_argument("--count", type=int, default=300, help="targets of each group")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--target-scale", type=float, default=3.0)
    parser.add_argument("--style-scale", type=float, default=3.5)
    parser.add_argument("--into", type=Path, help="experiments/world; of validation targets: outputs/world")
    main(parser.parse_args())
