"""Draws and judges the targets of the embedded world, told nothing or the true look: experiments/world.

python -m experiments.world.run --models assets --into experiments/world
python -m experiments.world.run --split validation --count 100 --groups met
python -m experiments.world.run --models FOLDER --generator looks_transformer --judge assets --into NAME
python -m experiments.world.compare NAME OTHER  # two of them, question by question
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from experiments.world.targets import MORE_GROUPS, by_another_artist, draw_targets, reference_pictures, true_pictures
from PIL import Image
from torch import Tensor

import pmg
from pmg.cache import atomic_write_json, atomic_write_text
from pmg.configuration.instantiate import instantiate
from pmg.domain import Item
from pmg.evaluation.statistics import interval
from pmg.generation.guidance import LeaveOneOutScales, Scales
from pmg.looks.drawings import REFERENCES, SAME_ARTIST, SAME_FINISH, LookChoice, LookData, LookTarget
from pmg.looks.measured_captions import MeasuringCaptioner
from pmg.looks.metrics import LookJudging, StyleReader
from pmg.looks.models.alexnet_judge import AlexNetJudge
from pmg.looks.models.judge import LookJudge
from pmg.looks.models.style_encoder import StyleEncoder, StyleImageEncoder
from pmg.looks.retrieved_images import KnownPictures
from pmg.models.diffusion.conditioning import Block, SoftBlock, join_seen
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.interfaces import Start
from pmg.models.diffusion.unet.denoiser import UNetDenoiser
from pmg.models.loading.device import processor_autocast
from pmg.models.loading.weight_sources import load_frozen
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.models.vision.pixels import to_uint8
from pmg.preferences.target_names import TargetNames
from pmg.progress import track
from pmg.reporting.study_pages import CONTENTS, QUALITY, digest_assets, format_interval, to_markdown_table
from pmg.runs.provenance import git_state

HERE = Path(__file__).resolve().parent
READ = ("drawings", "look_generator", "look_judge", "look_judge_alexnet", "lpips")
LINE_ART = ("emojione-monotone", "fluent-emoji-high-contrast", "noto-line", "openmoji-black")  # sets without fills
SHEET = 12  # targets on a contact sheet
BATCH = 50
ROWS = "rows-{}.parquet"  # of a group: a row a method and question, what world_compare.py reads
KNOWN = 2000  # random pictures that the found drawing's artist and finish are taken from
CAPTIONER = MeasuringCaptioner("{colour}")
SYNONYMS = json.loads((HERE / "synonyms.json").read_text())  # of titles
METRICS = {  # and their titles
    "style_accuracy": "style", "style_accuracy_second": "style (second judge)",
    "artist": "artist, where the finish is right", "artist_second": "artist (second judge)",
    "family": "artist or a sibling", "family_second": "artist or a sibling (second judge)",
    "main_colour": "main colour",
    "concept_accuracy": "concept", "concept_accuracy_second": "concept (second judge)",
    "lpips_truth": "LPIPS to truth",
    "finish_error": "finish error", "finish_error_second": "finish error (second judge)",
}  # fmt: skip
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
        steps: int, seeds: Sequence[int], start: Start | None = None,
    ) -> Tensor:  # fmt: skip
        """Returns pictures `(B, 3, H, W)` in [-1, 1].

        Args:
            targets: what is drawn, B texts.
            words: how, in words; None: nothing is said.
            style: style tokens `(B, n, D)`; None: none.
            scales: of the guidance.
            steps: of the solver.
            seeds: of each picture's noise.
            start: what sampling starts from; None: noise alone.
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
                [join_seen(blocks, empty, seen) for seen in coefficients], [*coefficients.values()], seeds, steps,
                start=start,
            )  # fmt: skip
        return self.generator.decode(latents.float())


@dataclass
class FoundDrawings:
    """Drawings of targets by another artist that ``method=retrieve`` finds, and the denoiser that draws from them.

    Their artist, one of training, and their finish are those of the nearest of random pictures to the references.
    """

    data: LookData
    image_encoder: StyleImageEncoder  # encodes pictures
    denoiser: UNetDenoiser

    @cached_property
    def known(self) -> KnownPictures:
        """The random pictures."""
        return KnownPictures(self.data, self.image_encoder, KNOWN, seed=0)

    def __call__(self, targets: list[LookTarget]) -> Tensor:
        """Returns the drawings, `(B, 3, H, W)` in [-1, 1]."""
        references = reference_pictures(self.data, targets)
        orders = [self.known.nearest(self.image_encoder(pictures).mean(0)) for pictures in references]
        return torch.stack([self.known.picture(one.row, order) for one, order in zip(targets, orders, strict=True)])


@dataclass(frozen=True)
class Study:
    """What is asked, who draws it and who judges it."""

    options: argparse.Namespace  # of the command line
    data: LookData
    generator: LookGenerator
    found: FoundDrawings | None  # None: a generator without a denoiser for them
    judges: tuple[LookJudge | AlexNetJudge, ...]
    perceptual: PerceptualDistance
    scene: str  # behind each target's name
    names: TargetNames  # that the generator has for its targets
    into: Path

    @property
    def scales(self) -> LeaveOneOutScales:
        """Those of the guidance."""
        return LeaveOneOutScales(self.options.target_scale, self.options.target_scale, self.options.style_scale)


def draw_all(
    study: Study, names: Sequence[str], targets: Sequence[LookTarget], style: Tensor | None, steps: int,
    start: Start | None = None,
) -> Tensor:  # fmt: skip
    """Returns a picture of each target under its name, `(B, 3, H, W)`; its noise is the same whatever the name."""
    parts = []
    for first in range(0, len(targets), BATCH):
        rows = slice(first, first + BATCH)
        texts, seeds = [f"{name}, {study.scene}" for name in names[rows]], [one.seed for one in targets[rows]]
        tokens, begin = None if style is None else style[rows], start and replace(start, latents=start.latents[rows])
        parts.append(study.generator(texts, None, tokens, study.scales, steps, seeds, begin))
    return torch.cat(parts)


def draw_methods(study: Study, targets: list[LookTarget]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Returns the pictures of each method asked for, `(B, 3, H, W)`, and its seconds for a picture.

    The true pictures, and these through the autoencoder, are among them, whatever is asked for.
    """
    data, codec, steps = study.data, study.generator.generator, study.options.steps
    wanted = study.options.methods
    titles = [data.drawings.items[one.row].title for one in targets]
    style = study.generator.read_style(reference_pictures(data, targets))
    other = study.generator.read_style(reference_pictures(data, [by_another_artist(data, one) for one in targets]))
    settings: dict[str, tuple[Tensor | None, int, Start | None]] = {
        "none": (None, steps, None), "oracle": (style, steps, None), "oracle_4_steps": (style, 4, None),
        "another_artist_4_steps": (other, 4, None),
    }  # fmt: skip
    strengths = {f"oracle_from_found_{one}": one for one in study.options.strengths}
    from_found = ["found", *strengths] if study.found else []
    known = [*settings, *from_found]
    if unknown := sorted(set(wanted) - set(known)):
        raise SystemExit(f"--methods has no {', '.join(unknown)}; there are {', '.join(known)}")
    pictures, seconds = {}, {}
    if study.found and (not wanted or set(from_found) & set(wanted)):
        pictures["found"] = study.found(targets)
        latents = codec.encode_images(pictures["found"])
        for method, strength in strengths.items():
            settings[method] = (style, 4, Start(latents, strength, study.found.denoiser))
    for method in [one for one in settings if not wanted or one in wanted]:
        begun = time.perf_counter()
        pictures[method] = draw_all(study, titles, targets, *settings[method])
        seconds[method] = (time.perf_counter() - begun) / len(targets)
    truth = true_pictures(data, targets)
    return pictures | {"vae_reconstruction": codec.decode(codec.encode_images(truth)), "truth": truth}, seconds


def judge_synonyms(study: Study) -> dict[str, Any]:
    """Returns how often the judge names targets asked for by title, by synonym, and by the title it is drawn by.

    It does so for all targets, for those whose synonym the generator has a name for, and for the others.
    """
    data, count = study.data, study.options.count
    many = draw_targets(data, study.options.split, "met", 10 * count)
    targets = [one for one in many if data.drawings.items[one.row].title in SYNONYMS][:count]
    judging = LookJudging(data, StyleReader(study.judges[0]), targets)
    style = study.generator.read_style(reference_pictures(data, targets))
    titles = [data.drawings.items[one.row].title for one in targets]
    rows = np.array([one.row for one in targets])
    synonyms, names = [SYNONYMS[title] for title in titles], study.names
    drawn = [item.title for item in names.resolve([Item("", "", synonym) for synonym in synonyms])]
    asked = {"title": titles, "synonym": synonyms, "drawn_as": drawn}
    named = {
        by: judging.measure(draw_all(study, names, targets, style, 4))["concept_accuracy"]
        for by, names in asked.items()
    }
    listed = torch.tensor([synonym.casefold() in names.known for synonym in synonyms])
    results = {}
    for which, chosen in {"all": listed | True, "listed": listed, "others": ~listed}.items():
        if not chosen.any():
            continue
        some = {by: values[chosen] for by, values in named.items()}
        best = float(some["title"].mean())  # 0: an untrained generator's
        shares = {f"share_{by}": float(values.mean()) / best if best else None for by, values in some.items()}
        results[which] = {by: summarise(values, rows[chosen.numpy()]) for by, values in some.items()} | shares
    return results


def draw_grid(study: Study) -> Image.Image:
    """Returns a grid of `GRID` concepts, a column each, in `GRID_LOOKS` looks that the oracle is told exactly."""
    data, generator, rng = study.data, study.generator, random.Random(0)
    artists = sorted(set(data.drawings.artists) - data.unseen_artists)
    rows = []
    for number in range(GRID_LOOKS):
        artist, finish = artists[number % len(artists)], data.space.sample(rng)
        shown = [row for row in data.rows("train").tolist() if data.drawings.artists[row] == artist]
        pictures = data.drawings.pictures(torch.tensor(rng.sample(shown, REFERENCES)), [finish] * REFERENCES)
        style = generator.read_style(pictures[None]).expand(len(GRID), -1, -1)
        titles = [f"{title}, {study.scene}" for title in GRID]
        drawn = generator(titles, None, style, study.scales, study.options.steps, list(range(len(GRID))))
        rows.append(torch.cat([pictures[:1], drawn]))
    return contact_sheet([torch.stack(column) for column in zip(*rows, strict=True)])


def contact_sheet(columns: list[Tensor]) -> Image.Image:
    """Returns pictures side by side: a row a target, a column a method."""
    rows = [torch.cat([column[row] for column in columns], 2) for row in range(len(columns[0]))]
    image = Image.fromarray(to_uint8(torch.cat(rows, 1)).permute(1, 2, 0).numpy())
    return image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)


def summarise(values: Tensor, drawings: np.ndarray) -> dict[str, float] | None:
    """Returns the mean over drawings and its 95 % bootstrap interval; None: no target has a value.

    Args:
        values: of each target; NaN: none.
        drawings: that each target is of; those of several targets count once, by the mean of these.
    """
    there = ~values.isnan().numpy()
    if not there.any():
        return None
    found = interval(values.double().numpy()[there], drawings[there])
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": int(there.sum()), "drawings": found.n}


def judge_group(study: Study, group: str) -> dict:
    """Returns the results of one group of targets and writes its contact sheet."""
    data = study.data
    targets = draw_targets(data, study.options.split, group, study.options.count)
    siblings = find_siblings(data, targets)
    first, second = (LookJudging(data, StyleReader(judge), targets) for judge in study.judges)
    methods, seconds = draw_methods(study, targets)
    truth = methods["truth"]
    colours = [words["colour"] for words in CAPTIONER.describe(truth)]
    measured = {
        name: measure(first, pictures, siblings)
        | {f"{metric}_second": values for metric, values in measure(second, pictures, siblings).items()}
        | {
            "lpips_truth": distances(study.perceptual, pictures, truth),
            "main_colour": torch.tensor(
                [
                    float(words["colour"] == colour)
                    for words, colour in zip(CAPTIONER.describe(pictures), colours, strict=True)
                ]
            ),
        }
        for name, pictures in methods.items()
    }
    shown = reference_pictures(data, targets[:SHEET])[:, 0]
    sheet = contact_sheet([shown, *(pictures[:SHEET] for pictures in methods.values())])
    sheet.save(study.into / f"{group}.webp", quality=QUALITY)
    drawings = np.array([target.row for target in targets])
    lines = torch.tensor([data.drawings.artists[row] in LINE_ART for row in drawings.tolist()])
    as_rows(targets, lines, measured).to_parquet(study.into / ROWS.format(group), compression="zstd", index=False)
    kinds = {"all": lines | True, "line art": lines, "colour": ~lines}
    some = {which: chosen for which, chosen in kinds.items() if chosen.any()}
    tables = {
        which: {
            name: {metric: summarise(values[metric][chosen], drawings[chosen.numpy()]) for metric in METRICS}
            for name, values in measured.items()
        }
        for which, chosen in some.items()
    }
    carried = {}
    if "oracle_4_steps" in measured and "another_artist_4_steps" in measured:
        own, other = measured["oracle_4_steps"], measured["another_artist_4_steps"]
        carried = {name: summarise(own[name] - other[name], drawings) for name in ("lpips_truth", "style_accuracy")}
    return {
        "methods": tables, "shares": shares(measured), "own_minus_another_artist": carried,
        "from_found": from_found(measured, drawings, some), "seconds_a_picture": seconds,
    }  # fmt: skip


def as_rows(targets: Sequence[LookTarget], lines: Tensor, measured: dict[str, dict[str, Tensor]]) -> pd.DataFrame:
    """Returns a row a method and question, with its values and whether it is of line art (`lines`, bool `(B,)`)."""
    seeds, drawings = [one.seed for one in targets], [one.row for one in targets]
    asked = {"question": seeds, "drawing": drawings, "line_art": lines.numpy()}
    frames = [
        pd.DataFrame({"method": method} | asked | {name: values[name].float().numpy() for name in METRICS})
        for method, values in measured.items()
    ]
    return pd.concat(frames, ignore_index=True)


def from_found(
    measured: dict[str, dict[str, Tensor]], drawings: np.ndarray, some: dict[str, Tensor]
) -> dict[str, dict[str, dict[str, dict[str, float] | None]]]:
    """Returns paired differences to other methods of pictures drawn from the found drawing, of `some` targets each."""
    return {
        f"{method} - {other}": {
            which: {
                metric: summarise(
                    (measured[method][metric] - measured[other][metric])[chosen], drawings[chosen.numpy()]
                )
                for metric in ("style_accuracy", "concept_accuracy", "main_colour", "lpips_truth")
            }
            for which, chosen in some.items()
        }
        for method in measured
        if method.startswith("oracle_from_found")
        for other in ("found", "oracle_4_steps", "none")
        if other in measured
    }


def find_siblings(data: LookData, targets: Sequence[LookTarget]) -> Tensor:
    """Returns whether each candidate look's artist is of the true one's family, bool `(B, CANDIDATES)`.

    A family are the artists whose names begin alike: Noto, its first version and its line art.
    """
    choice, rows = LookChoice(data, spread=0.0), []  # candidates don't depend on it
    for one in targets:
        looks = choice.candidates((data.drawings.artists[one.row], one.finish), random.Random(one.seed))
        families = [artist.partition("-")[0] for artist, _ in looks]
        rows.append([family == families[0] for family in families])
    return torch.tensor(rows)


@torch.no_grad()
def measure(judging: LookJudging, pictures: Tensor, siblings: Tensor) -> dict[str, Tensor]:
    """Returns each metric's value a picture, `(B,)`; ``artist`` and ``family``: NaN where the finish was mistaken.

    Of the ten candidate looks those of the true finish count for them: the own, and three by other artists.
    `siblings` are as `find_siblings` returns them.
    """
    values = judging.measure(pictures)
    picked = values.pop("picked")
    finish = (picked == 0) | ((picked > SAME_ARTIST) & (picked <= SAME_ARTIST + SAME_FINISH))
    family = siblings[torch.arange(len(picked)), picked].float()
    return values | {
        "artist": torch.where(finish, (picked == 0).float(), torch.nan),
        "family": torch.where(finish, family, torch.nan),
    }


@torch.no_grad()
def distances(perceptual: PerceptualDistance, pictures: Tensor, truth: Tensor) -> Tensor:
    """Returns LPIPS of pictures to their truths, `(B,)`."""
    pairs = zip(pictures.split(BATCH), truth.split(BATCH), strict=True)
    return torch.cat([perceptual(a, b) for a, b in pairs])


def shares(measured: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, float]]:
    """Returns values of each method that is told the look as shares of those of the truth and of `none`.

    Nothing if `none` wasn't drawn.
    """
    if "none" not in measured:
        return {}
    means = {method: {name: float(values.mean()) for name, values in row.items()} for method, row in measured.items()}
    none, best, truth = (means[name] for name in ("none", "vae_reconstruction", "truth"))
    return {
        method: {
            "style_of_truth": told["style_accuracy"] / truth["style_accuracy"],
            "style_of_truth_second": told["style_accuracy_second"] / truth["style_accuracy_second"],
            "main_colour_of_reconstruction": told["main_colour"] / best["main_colour"],
            "lpips_gap_closed": (none["lpips_truth"] - told["lpips_truth"])
            / (none["lpips_truth"] - best["lpips_truth"]),
            "finish_error_of_none": told["finish_error"] / none["finish_error"],
            "finish_error_of_truth": told["finish_error"] / truth["finish_error"],
        }
        for method, told in means.items()
        if method.startswith(("oracle", "found"))
    }


def write_table(results: dict[str, Any], into: Path) -> str:
    """Writes table.md: a row a group, kind of drawing and method."""
    head = ("group", "drawings", "method", *METRICS.values())
    rows = [
        [group, which, method, *(format_interval(row[metric]) if row[metric] else "–" for metric in METRICS)]
        for group, result in results["groups"].items()
        for which, methods in result["methods"].items()
        for method, row in methods.items()
    ]
    text = to_markdown_table(head, rows, names=3)
    atomic_write_text(into / "table.md", text)
    return text


def load(options: argparse.Namespace) -> Study:
    """Returns the study that the command line asks for, with its models."""
    looks = ["data=looks", "scenario=looks", "method=sdedit_trained", f"plugins=[{','.join(options.plugins)}]"]
    cfg = pmg.compose("generate", overrides=[*looks, f"generator={options.generator}"])
    if not {"denoiser", "codec"} <= set(cfg.generator):
        raise SystemExit(
            f"generator={options.generator} has no keys denoiser.folder and codec.folder, which are replaced here"
        )
    denoiser = Path(options.models, *Path(cfg.generator.denoiser.folder).parts[-2:])
    cfg.generator.denoiser.folder, cfg.generator.codec.folder = str(denoiser), str(denoiser.parent / "vae")
    data = instantiate(cfg.data)
    generator = LookGenerator.from_folder(str(denoiser.parent), instantiate(cfg.generator))
    trained = denoiser.parent / Path(cfg.method.sdedit_trained.start_denoiser.folder).name
    if (names := TargetNames.of(generator.generator)) is None:
        raise SystemExit(f"{denoiser} has no names.json, the titles that it draws and their other names")
    image_encoder = StyleImageEncoder(str(denoiser.parent / "style_encoder"), generator.generator.codec)
    if not trained.is_dir():
        print(f"{trained} is missing: nothing is drawn from found drawings (methods found and oracle_from_found_…)")
    folder = Path(options.judge or options.models)
    judges = (
        LookJudge.from_folder(str(folder / "look_judge")).float(),
        AlexNetJudge.from_folder(str(folder / "look_judge_alexnet")).float(),
    )
    shipped = vars(options) == vars(read_options([]))  # what experiments/world records
    return Study(
        options, data, generator,
        found=FoundDrawings(data, image_encoder, UNetDenoiser.from_folder(str(trained))) if trained.is_dir() else None,
        judges=judges, perceptual=PerceptualDistance.from_folder(f"{cfg.paths.assets_dir}/lpips"),
        scene=cfg.scenario.scene_words[0], names=names,
        into=options.into or (HERE if shipped else HERE.parents[1] / "outputs" / "world"),
    )  # fmt: skip


def main(options: argparse.Namespace) -> None:
    """Draws, judges and writes everything."""
    study = load(options)
    study.into.mkdir(parents=True, exist_ok=True)
    file = study.into / "results.json"
    settings = {name: str(value) for name, value in vars(options).items() if name != "into"}
    begun = {"revision": (git_state() or {}).get("revision"), "settings": settings, CONTENTS: digest_assets(*READ)}
    found = json.loads(file.read_text()) if file.is_file() else {}
    resumed = {name: found.get(name) for name in begun} == begun
    results: dict[str, Any] = found if resumed else begun | {"groups": {}}
    if not resumed:
        for rows in study.into.glob(ROWS.format("*")):  # of other pictures
            rows.unlink()
    for group in track([one for one in options.groups if one not in results["groups"]], "Groups of targets"):
        results["groups"][group] = judge_group(study, group)
        atomic_write_json(file, results)  # what an interrupted run resumes
    if not options.methods:  # else a quick look
        draw_grid(study).save(study.into / "grid.webp", quality=QUALITY)
        results["synonyms"] = judge_synonyms(study)
        atomic_write_json(file, results)
    print(write_table(results, study.into))
    print(json.dumps({group: result["shares"] for group, result in results["groups"].items()}, indent=1))


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options of a command line; None: of this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="assets", help="folder of the two judges and the generator")
    parser.add_argument("--generator", default="looks", help="option of the config group, e.g. looks_transformer")
    parser.add_argument("--plugins", nargs="*", default=[], help="modules of a generator of your own")
    parser.add_argument("--judge", help="folder of the two judges, where it is another one")
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--groups", nargs="+", default=list(MORE_GROUPS), choices=MORE_GROUPS)
    parser.add_argument(
        "--methods", nargs="+", default=[], help="those that are drawn, e.g. none oracle_4_steps; else all"
    )
    parser.add_argument("--count", type=int, default=600, help="targets of each group")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--target-scale", type=float, default=3.0)
    parser.add_argument("--style-scale", type=float, default=3.5)
    parser.add_argument(
        "--strengths", nargs="+", type=float, default=[0.33, 0.4], help="of what is drawn from a found drawing"
    )
    parser.add_argument("--into", type=Path, help="experiments/world; with any other option: outputs/world")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(read_options())
