"""Measures the decoder to 256 pixels beside the autoencoder's own, of held-out drawings and of generated latents.

python -m experiments.world.large_decoder DRAWINGS  # their folder at 256 pixels: conf/stage/look_large_decoder.yaml
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from experiments.world.run import LookGenerator, draw_all, load
from experiments.world.run import read_options as world_options
from experiments.world.targets import draw_targets, reference_pictures
from PIL import Image
from torch import Tensor

import pmg
from pmg.cache import atomic_write_json
from pmg.configuration.instantiate import instantiate
from pmg.looks.edge_measures import edge_width, flat_deviation, measure_edges
from pmg.looks.metrics import LookJudging, StyleReader
from pmg.looks.stages.autoencoder import measure_restored
from pmg.looks.stages.large_decoder import DrawingPairs
from pmg.models.image_passes import fit_size
from pmg.models.loading.device import processor_autocast
from pmg.models.vision.pixels import to_uint8
from pmg.reporting.study_pages import to_markdown_table

HERE = Path(__file__).resolve().parent
GROUPS = ("met", "unseen_artist")
SHEET = 8  # targets on a row of the contact sheet


def median_ms(draw: Callable[[], object], times: int = 30) -> float:
    """Returns the median milliseconds of a processor that a call takes, on one core."""
    torch.set_num_threads(1)
    seconds = []
    for _ in range(times):
        begun = time.process_time()
        draw()
        seconds.append(time.process_time() - begun)
    return 1000 * sorted(seconds)[times // 2]


def main(options: argparse.Namespace) -> None:
    """Writes large_decoder.json and large_decoder.webp, and prints a table."""
    study = load(world_options([]))
    small, style_encoder = study.generator.generator, study.generator.style_encoder
    large = instantiate(pmg.compose("generate", overrides=["generator=looks_large"]).generator)
    drawers = {"64 px, resized": study, "256 px": replace(study, generator=LookGenerator(large, style_encoder))}
    pairs, results, sheet = DrawingPairs(study.data, options.drawings), {}, []
    for group in GROUPS:
        targets = draw_targets(study.data, "test", group, options.count)
        rows, finishes = torch.tensor([one.row for one in targets]), [one.finish for one in targets]
        flat = torch.tensor([finish.surface == "flat" for finish in finishes])
        true_small, truth = pairs.pictures(rows, finishes, torch.zeros(len(rows), dtype=torch.bool))
        latents = small.encode_images(true_small)
        restored = {"64 px, resized": small.decode(latents), "256 px": large.decode(latents)}
        titles = [study.data.drawings.items[one.row].title for one in targets]
        style = study.generator.read_style(reference_pictures(study.data, targets))
        drawn = {name: draw_all(one, titles, targets, style, 4) for name, one in drawers.items()}
        judging = LookJudging(study.data, StyleReader(study.judges[0]), targets)
        found = {"truth": {"own_edge_width": edge_width(truth[flat])} | judge(judging, truth)}
        for name, pictures in drawn.items():
            whole, made = fit_size(restored[name], truth.shape[-1]), fit_size(pictures, truth.shape[-1])
            found[name] = {
                **measure_restored(study.perceptual, whole, truth),
                **measure_edges(whole[flat], truth[flat]),
                "flat_deviation": flat_deviation(whole[flat], truth[flat]),
                "own_edge_width": edge_width(made[flat]),
                **judge(judging, pictures),
            }
            sheet.append(torch.cat(list(whole[:SHEET]), 2))
            drawn[name] = made
        results[group] = found
        sheet += [torch.cat(list(part[:SHEET]), 2) for part in (truth, *drawn.values())]
    one = latents[:1]
    for dtype, lowered in (("float32", False), ("bfloat16", True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
            results[f"milliseconds_{dtype}"] = {
                "64 px, resized": median_ms(lambda: small.codec.decode(one)),
                "256 px": median_ms(lambda: large.codec.decode(one)),
            }
    atomic_write_json(options.into / "large_decoder.json", results)
    image = Image.fromarray(to_uint8(torch.cat(sheet, 1)).permute(1, 2, 0).numpy())
    image.save(options.into / "large_decoder.webp", quality=options.quality, method=6)
    keys = list(results[GROUPS[0]]["256 px"])
    table = [
        [group, name, *(f"{row[key]:.3f}" if key in row else "–" for key in keys)]
        for group in GROUPS
        for name, row in results[group].items()
    ]
    print(to_markdown_table(("group", "decoder", *keys), table, names=2))
    print({name: value for name, value in results.items() if name.startswith("milliseconds")})


def judge(judging: LookJudging, pictures: Tensor) -> dict[str, float]:
    """Returns style and concept accuracy of pictures at 64 pixels."""
    with processor_autocast():
        values = judging.measure(fit_size(pictures, 64))
    return {name: float(values[name].mean()) for name in ("style_accuracy", "concept_accuracy")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("drawings", help="folder of the drawings at 256 pixels")
    parser.add_argument("--count", type=int, default=150, help="test targets of each group")
    parser.add_argument("--quality", type=int, default=75, help="of the sheet")
    parser.add_argument("--into", type=Path, default=HERE)
    main(parser.parse_args())
