"""Counts near copies, among the drawings of training, of the drawings that experiments/world asks for.

python experiments/world_copies.py  # writes experiments/world/copies.json

With them and without them, it measures what is drawn in four steps for the look alone.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import imagehash
import pandas as pd
import torch
from PIL import Image
from targets import MORE_GROUPS, draw_targets, reference_pictures, true_pictures
from torch import Tensor
from world import LookGenerator, distances

import pmg
from pmg.cache import atomic_write_json
from pmg.configuration.instantiate import instantiate
from pmg.data.duplicates import Hashes, NearCopies, mean_colours
from pmg.generation.guidance import LeaveOneOutScales
from pmg.looks.drawings import LookData, LookTarget
from pmg.looks.finishes import AS_DRAWN, Finish
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.models.vision.pixels import to_uint8
from pmg.progress import track
from pmg.runs.provenance import git_state

INTO = Path(__file__).resolve().parent / "world" / "copies.json"
COUNT, BATCH = 600, 50
WIDE = NearCopies(bits=14, colour=60.0)  # as drawn, of drawings that may be near copies under a finish
SCALES = LeaveOneOutScales(3.0, 3.0, 3.5)  # as in experiments/world


def hash_drawings(data: LookData, rows: list[int], finish: Finish, limits: NearCopies) -> Hashes:
    """Returns the hashes of drawings under a finish; the ids are those of their items as drawn."""
    pictures = to_uint8(data.drawings.pictures(torch.tensor(rows), [finish] * len(rows))).permute(0, 2, 3, 1)
    images = [Image.fromarray(picture) for picture in pictures.numpy()]
    table = {
        "id": [data.drawings.items[row].id for row in rows],
        "phash": [str(imagehash.phash(image)) for image in images],
        "colours": [mean_colours(image) for image in images],
    }
    return Hashes(pd.DataFrame(table), limits)


def count(data: LookData, group: str, targets: list[LookTarget], drawn: Hashes) -> tuple[dict[str, int], Tensor]:
    """Returns how many drawings and questions have a near copy in training, and which questions do, bool `(B,)`.

    `drawn` are the hashes of all drawings as drawn, within `WIDE`.
    """
    items, train = data.drawings.items, sorted(data.rows("train").tolist())
    strict = copy.copy(drawn)
    strict.limits = NearCopies()
    rows = sorted({one.row for one in targets})
    alike = {row: [other for other in train if drawn.is_copy(items[row], [items[other]])] for row in rows}
    copied = [row for row in rows if strict.is_copy(items[row], [items[other] for other in alike[row]])]
    under = []
    for one in track(targets, f"Near copies of {group}"):
        others = alike[one.row]
        hashes = hash_drawings(data, [one.row, *others], one.finish, NearCopies()) if others else None
        under.append(hashes is not None and hashes.is_copy(items[one.row], [items[other] for other in others]))
    counts = {
        "drawings": len(rows), "drawings_copied": len(copied),
        "questions": len(targets), "questions_copied": sum(under),
    }  # fmt: skip
    return counts, torch.tensor(under)


@torch.no_grad()
def measure(data: LookData, generator: LookGenerator, targets: list[LookTarget], scene: str) -> dict[str, Tensor]:
    """Returns LPIPS to the truth, `(B,)`, of `none`, of `oracle_4_steps` and of the truth through the autoencoder."""
    perceptual = PerceptualDistance.from_folder("assets/lpips")
    found: dict[str, list[Tensor]] = {"none": [], "oracle_4_steps": [], "vae_reconstruction": []}
    for first in track(range(0, len(targets), BATCH), "Batches of questions"):
        some = targets[first : first + BATCH]
        truth = true_pictures(data, some)
        texts = [f"{data.drawings.items[one.row].title}, {scene}" for one in some]
        codec, seeds = generator.generator, [one.seed for one in some]
        style = generator.read_style(reference_pictures(data, some))
        pictures = {
            "none": generator(texts, None, None, SCALES, 4, seeds),
            "oracle_4_steps": generator(texts, None, style, SCALES, 4, seeds),
            "vae_reconstruction": codec.decode(codec.encode_images(truth)),
        }
        for arm, drawn in pictures.items():
            found[arm].append(distances(perceptual, drawn, truth))
    return {arm: torch.cat(parts) for arm, parts in found.items()}


def main() -> None:
    """Counts, measures and writes."""
    cfg = pmg.compose("generate", overrides=["data=looks", "scenario=looks", "generator=looks"])
    data, scene = instantiate(cfg.data), cfg.scenario.scene_words[0]
    generator = LookGenerator.from_folder(str(Path(cfg.generator.denoiser.folder).parent), instantiate(cfg.generator))
    drawn = hash_drawings(data, list(range(len(data.drawings))), AS_DRAWN, WIDE)
    results: dict[str, Any] = {"revision": (git_state() or {}).get("revision"), "groups": {}}
    for group in (one for one in MORE_GROUPS if one != "trained"):
        targets = draw_targets(data, "test", group, COUNT)
        counts, copied = count(data, group, targets, drawn)
        values = measure(data, generator, targets, scene)
        shares = {}
        for which, chosen in {"all": copied | True, "copied": copied, "others": ~copied}.items():
            none, told, best = (float(each[chosen].mean()) for each in values.values())
            shares[which] = (none - told) / (none - best)
        results["groups"][group] = counts | {"lpips_gap_closed": shares}
        atomic_write_json(INTO, results)
        print(group, results["groups"][group])


if __name__ == "__main__":
    main()
