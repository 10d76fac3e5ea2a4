"""Compares generators of looks on validation cells, each told looks by one to twelve pictures; paired differences.

python experiments/look_arms.py draw --name plain --models FOLDER --readings joint-4 joint-12 --into FOLDER
python experiments/look_arms.py compare --base shipped:joint-4 --arms plain:joint-4 --into FOLDER
python experiments/look_arms.py sheet --arms shipped:joint-4 plain:joint-4 --group met --into FOLDER

A reading is ``joint-K`` (K pictures read together), ``mean-K`` (style tokens of K pictures, each read alone, averaged)
or ``other-K`` (pictures of another artist under the same finish, read together). ``+picture`` behind it also shows a
picture of the target by another family of artists as drawn; ``retrieve`` is that drawing under the true finish.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from world import contact_sheet

import pmg
from pmg.cache import Cache
from pmg.configuration.instantiate import instantiate
from pmg.data.emoji.drawings import LookData
from pmg.data.emoji.finish_targets import finish_errors
from pmg.data.emoji.finishes import AS_DRAWN
from pmg.data.emoji.look_targets import LookTarget, draw_targets, true_pictures
from pmg.evaluation.look_judging import LookJudging, StyleReader
from pmg.evaluation.statistics import interval
from pmg.generation.guidance import LeaveOneOutScales
from pmg.models.autocast import processor_autocast
from pmg.models.diffusion.conditioning import References, SoftBlock, join_seen
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.noise_processes import denoising_loss
from pmg.models.diffusion.reference_attention import ReferenceReader, with_references
from pmg.models.diffusion.style_encoder import StyleEncoder
from pmg.models.diffusion.target_picture import TargetPictureDenoiser
from pmg.models.loading.weight_sources import load_frozen
from pmg.models.vision.look_judge import LookJudge, pick_looks
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.seeding import stable_number
from pmg.training.datamodule import seeded
from pmg.training.pretraining.look_pool import LookPool
from pmg.training.pretraining.look_target_pictures import drawings_elsewhere

GROUPS = {
    "met": ("met", False, 300), "unseen_region": ("unseen_region", False, 100),
    "unseen_artist": ("unseen_artist", False, 120), "met_as_drawn": ("met", True, 100),
    "unseen_artist_as_drawn": ("unseen_artist", True, 120),
}  # fmt: skip
"""Group of targets, whether its finishes are as drawn on white, number of targets."""
PICTURES = 12  # that show a look
BATCH = 50
PICTURE = "+picture"  # behind a reading
METRICS = ("style", "artist", "concept", "lpips", "finish_error")
NOISES = 4  # of each held-out picture, for the denoising loss


def group_targets(data: LookData, group: str) -> list[LookTarget]:
    """Returns the validation targets of a group of `GROUPS`."""
    kind, as_drawn, count = GROUPS[group]
    targets = draw_targets(data, "validation", kind, count)
    return [replace(target, finish=AS_DRAWN) for target in targets] if as_drawn else targets


def shown_pictures(data: LookData, targets: Sequence[LookTarget], other: bool) -> Tensor:
    """Returns `PICTURES` pictures that show each target's look, or another artist's, `(B, PICTURES, 3, H, W)`."""
    by_artist = data.rows_by_artist("train", "unseen_artists")
    rows, finishes = [], []
    for target in targets:
        rng = random.Random(stable_number("shown", target.seed, other))
        artist, concept = data.drawings.artists[target.row], data.drawings.items[target.row].concept
        if other:
            artist = rng.choice(sorted(set(by_artist) - {artist}))
        first = () if other else target.references
        left = [row for row in by_artist[artist] if data.drawings.items[row].concept != concept and row not in first]
        rows += [*first, *rng.sample(left, PICTURES - len(first))]
        finishes += [target.finish] * PICTURES
    return data.drawings.pictures(torch.tensor(rows), finishes).unflatten(0, (-1, PICTURES))


def target_pictures(data: LookData, targets: Sequence[LookTarget]) -> list[int]:
    """Returns for each target the row of a training drawing of its concept by another family of artists."""
    elsewhere = drawings_elsewhere(data)
    return [random.Random(stable_number("picture", one.seed)).choice(elsewhere[one.row]) for one in targets]


def drawn_pictures(data: LookData, targets: Sequence[LookTarget], as_drawn: bool) -> Tensor:
    """Returns the target pictures on white, or under the targets' finishes, `(B, 3, H, W)`."""
    finishes = [AS_DRAWN if as_drawn else target.finish for target in targets]
    return data.drawings.pictures(torch.tensor(target_pictures(data, targets)), finishes)


class Arm:
    """A generator with its style encoder and, where it has one, its reference reader.

    Args:
        generator: frozen.
        folder: holds ``style_encoder``, and perhaps ``references``.
    """

    def __init__(self, generator: DiffusionGenerator, folder: Path) -> None:
        self.generator = generator
        self.style_encoder = load_frozen(StyleEncoder, folder / "style_encoder")
        self.references: ReferenceReader | None = None
        if (folder / "references").is_dir():
            self.references = load_frozen(ReferenceReader, folder / "references")
            generator.denoiser = with_references(generator.denoiser, self.references)

    @torch.no_grad()
    def read(self, latents: Tensor, reading: str) -> SoftBlock:
        """Returns what a reading finds in latents of pictures, `(B, PICTURES, C, h, w)`."""
        kind, count = reading.removesuffix(PICTURE).split("-")
        latents = latents[:, : int(count)]
        present = torch.ones(latents.shape[:2], dtype=torch.bool)
        features = self.style_encoder.encode_pictures(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])
        if kind == "mean":
            alone = self.style_encoder.summarise(features.flatten(0, 1)[:, None], present.flatten()[:, None])
            tokens = alone.unflatten(0, latents.shape[:2]).mean(1)
        else:
            tokens = self.style_encoder.summarise(features, present)
        soft = SoftBlock.of(tokens)
        if self.references is None:
            return soft
        details = self.references.summarise(self.references.encode_pictures(features), present)
        return SoftBlock(soft.tokens, soft.mask, references=details)

    @torch.no_grad()
    def draw(
        self, titles: Sequence[str], style: SoftBlock, seeds: Sequence[int], options: Any, pictures: Tensor | None
    ) -> Tensor:  # fmt: skip
        """Returns pictures `(B, 3, H, W)` in [-1, 1]; `pictures` are latents of the targets' own, or None."""
        encode = self.generator.text_encoder.encode
        scales = LeaveOneOutScales(options.target_scale, options.target_scale, options.style_scale)
        coefficients = scales.coefficients(["soft"], negative=False)
        parts = []
        for start in range(0, len(titles), BATCH):
            rows = slice(start, start + BATCH)
            blocks = {"target": encode(titles[rows]), "soft": style[rows]}
            empty = encode([""]).expand(len(titles[rows]))
            branches = [join_seen(blocks, empty, seen) for seen in coefficients]
            if pictures is not None:
                shown = pictures[rows, None]
                masks = [torch.full(shown.shape[:2], "target" in seen) for seen in coefficients]
                pairs = zip(branches, masks, strict=True)
                branches = [replace(branch, references=References(shown, mask)) for branch, mask in pairs]
            with processor_autocast():
                latents = self.generator.sample(branches, list(coefficients.values()), seeds[rows], options.steps)
            parts.append(self.generator.decode(latents.float()))
        return torch.cat(parts)

    @torch.no_grad()
    def losses(self, pool: LookPool, titles: Sequence[str], count: int) -> Tensor:
        """Returns the denoising loss of the first drawing of each look, read from `count` others, `(N,)`."""
        clean, shown = pool.latents[:, 0].float(), pool.latents[:, 1 : 1 + count].float()
        style, process = self.read(shown, f"joint-{count}"), self.generator.process
        rng, found = seeded("held-out loss"), []
        for _ in range(NOISES):
            noise, times = torch.randn(clean.shape, generator=rng), process.sample_times(len(clean), rng)
            parts = []
            for rows in (slice(start, start + 64) for start in range(0, len(clean), 64)):
                blocks = {"target": self.generator.text_encoder.encode(titles[rows]), "soft": style[rows]}
                condition = join_seen(blocks, blocks["target"], tuple(blocks))
                sample = process.add_noise(clean[rows], noise[rows], times[rows])
                with processor_autocast():
                    output = self.generator.predict(sample.noisy, process.model_times(times[rows]), condition)
                parts.append(denoising_loss(output.float(), sample))
            found.append(torch.cat(parts))
        return torch.stack(found).mean(0)


class Judge(LookJudging):
    """A `LookJudging` that also says which of the ten looks it picks, and how far a picture is from the truth."""

    def __init__(
        self, data: LookData, reader: StyleReader, perceptual: PerceptualDistance, targets: list[LookTarget]
    ) -> None:
        super().__init__(data, reader, targets)
        self.perceptual, self.truth = perceptual, true_pictures(data, targets)

    @torch.no_grad()
    def measure(self, pictures: Tensor) -> dict[str, Tensor]:
        """Returns each metric's value a picture, `(B,)`.

        ``artist`` is 1 where the true artist is picked, 0 where another one is under the true finish, else NaN.
        """
        readings = [self.judge(part) for part in pictures.split(BATCH)]
        style, finish, concept = (
            torch.cat([getattr(reading, name) for reading in readings]) for name in ("style", "finish", "concept")
        )
        pick = pick_looks(style, self.references)
        other_artist = (pick >= 4) & (pick <= 6)
        pairs = zip(pictures.split(BATCH), self.truth.split(BATCH), strict=True)
        return {
            "style": (pick == 0).float(),
            "artist": torch.where((pick == 0) | other_artist, (pick == 0).float(), torch.nan),
            "concept": (concept.argmax(1) == self.concept).float(),
            "lpips": torch.cat([self.perceptual(a, b) for a, b in pairs]),
            "finish_error": finish_errors(finish, self.values, self.traces),
        }


def load(options: Any) -> tuple[LookData, DiffusionGenerator, str]:
    """Returns data, the generator in `options.models` with the shipped autoencoder, and the scene's words."""
    cfg = pmg.compose("generate", overrides=["data=looks", "scenario=looks", "generator=looks"])
    cfg.generator.denoiser.folder = f"{options.models}/unet"
    cfg.generator.codec.folder = "assets/look_generator/vae"
    sizes = json.loads(Path(options.models, "unet", "config.json").read_text())
    if sizes["in_channels"] > sizes["out_channels"]:
        cfg.generator.denoiser._target_ = f"{TargetPictureDenoiser.__module__}.TargetPictureDenoiser.from_folder"
    return instantiate(cfg.data), instantiate(cfg.generator), cfg.scenario.scene_words[0]


def draw(options: Any) -> None:
    """Draws and judges the targets of all groups by all readings of one generator."""
    data, generator, scene = load(options)
    arm, options.into = Arm(generator, options.models), Path(options.into)
    judge = LookJudge.from_folder("assets/look_judge").float()
    reader = StyleReader(judge, Cache(options.into / "cache"))
    perceptual = PerceptualDistance.from_folder("assets/lpips")
    options.into.mkdir(parents=True, exist_ok=True)
    for group in options.groups:
        targets = group_targets(data, group)
        judging = Judge(data, reader, perceptual, targets)
        titles = [f"{data.drawings.items[target.row].title}, {scene}" for target in targets]
        for reading in options.readings:
            latents = encode(generator, shown_pictures(data, targets, reading.startswith("other")))
            shown = None
            if reading.endswith(PICTURE):
                shown = encode(generator, drawn_pictures(data, targets, True)[:, None])[:, 0]
            seeds = [target.seed for target in targets]
            pictures = arm.draw(titles, arm.read(latents, reading), seeds, options, shown)
            save(options, group, f"{options.name}:{reading}", targets, judging, pictures)
        if options.name == "shipped":
            restored = generator.decode(generator.encode_images(judging.truth))
            save(options, group, "autoencoder:-", targets, judging, restored)
            save(options, group, "truth:-", targets, judging, judging.truth)
            save(options, group, "retrieve:-", targets, judging, drawn_pictures(data, targets, False))
    if options.held_out:
        pool = LookPool.load(options.held_out)
        titles = [f"{data.drawings.items[row].title}, {scene}" for row in pool.rows[:, 0].tolist()]
        for count in (3, 11):
            losses = arm.losses(pool, titles, count)
            np.savez(
                options.into / f"loss,{options.name}:joint-{count}.npz",
                cells=pool.rows[:, 0].numpy(),
                loss=losses.numpy(),
            )
            print(options.name, count, "pictures: held-out loss", round(float(losses.mean()), 4), flush=True)


@torch.no_grad()
def encode(generator: DiffusionGenerator, pictures: Tensor) -> Tensor:
    """Returns latents `(B, R, C, h, w)` of pictures `(B, R, 3, H, W)`."""
    parts = [generator.encode_images(part) for part in pictures.flatten(0, 1).split(200)]
    return torch.cat(parts).unflatten(0, pictures.shape[:2])


def save(
    options: Any, group: str, name: str, targets: list[LookTarget], judging: Judge, pictures: Tensor
) -> None:  # fmt: skip
    """Writes the values of each picture, and the first pictures."""
    values = {key: value.numpy() for key, value in judging.measure(pictures).items()}
    cells = np.array([target.row for target in targets])
    shown = (pictures[:24].clamp(-1, 1).add(1) * 127.5).byte().numpy()
    np.savez(options.into / f"{group},{name}.npz", cells=cells, pictures=shown, **values)
    print(group, name, {key: round(float(np.nanmean(value)), 3) for key, value in values.items()}, flush=True)


def compare(options: Any) -> None:
    """Prints a table of means and of paired differences to the base, with 95 % bootstrap intervals over cells."""
    print("| group | arm | " + " | ".join(METRICS) + " |\n|---|---|" + "---:|" * len(METRICS))
    for group in options.groups:
        if not (options.into / f"{group},{options.base}.npz").is_file():
            continue
        base = np.load(options.into / f"{group},{options.base}.npz")
        for name in (options.base, *options.arms):
            found = np.load(options.into / f"{group},{name}.npz")
            cells = [describe(found, base, metric, name == options.base) for metric in METRICS]
            print(f"| {group} | {name} | {' | '.join(cells)} |")
    for count in (3, 11):
        files = {
            name: options.into / f"loss,{name.split(':')[0]}:joint-{count}.npz"
            for name in (options.base, *options.arms)
        }
        base = np.load(files[options.base]) if files[options.base].is_file() else None
        for name, file in files.items():
            if base is not None and file.is_file():
                values = describe(np.load(file), base, "loss", name == options.base)
                print(f"held-out loss, {count} pictures, {name}: {values}")


def describe(found: Any, base: Any, metric: str, alone: bool) -> str:
    """Returns the mean and, unless it is `alone`, the paired difference to the base."""
    values, cells = found[metric], found["cells"]
    usable = np.isfinite(values) & np.isfinite(base[metric])
    if alone:
        mean = interval(values[usable], cells[usable])
        return f"{values[usable].mean():.3f} [{mean.low:.3f}, {mean.high:.3f}]"
    gap = interval(values[usable] - base[metric][usable], cells[usable])
    return f"{np.nanmean(values):.3f}; {gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"


def sheet(options: Any) -> None:
    """Writes a picture: a row a target; columns: the truth, then the arms."""
    names = ["truth:-", *options.arms]
    columns = []
    for name in names:
        pictures = np.load(options.into / f"{options.group},{name}.npz")["pictures"]
        columns.append(torch.from_numpy(pictures)[options.first : options.first + options.count].float() / 127.5 - 1)
    contact_sheet(columns).save(options.output)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("draw")
    one.add_argument("--name", required=True)
    one.add_argument("--models", type=Path, required=True)
    one.add_argument("--readings", nargs="*", default=["joint-4", "joint-12", "mean-12"])
    one.add_argument("--held-out", type=Path, help="pool of held-out looks for the denoising loss")
    one.add_argument("--steps", type=int, default=4)
    one.add_argument("--target-scale", type=float, default=3.0)
    one.add_argument("--style-scale", type=float, default=3.5)
    two = commands.add_parser("compare")
    two.add_argument("--base", required=True)
    two.add_argument("--arms", nargs="+", default=[])
    three = commands.add_parser("sheet")
    three.add_argument("--arms", nargs="+", required=True)
    three.add_argument("--group", default="met")
    three.add_argument("--first", type=int, default=0)
    three.add_argument("--count", type=int, default=12)
    three.add_argument("--output", type=Path, required=True)
    for command, run in ((one, draw), (two, compare), (three, sheet)):
        command.add_argument("--into", type=Path, required=True)
        command.set_defaults(run=run)
    for command in (one, two):
        command.add_argument("--groups", nargs="+", default=list(GROUPS), choices=GROUPS)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
