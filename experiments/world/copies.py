"""Counts near copies, among the drawings of training, of the drawings that experiments/world asks for.

python -m experiments.world.copies  # writes experiments/world/copies.json

With them and without them, it measures what is drawn in four steps for the look alone.
"""

from __future__ import annotations

from typing import Any

import imagehash
import pandas as pd
import torch
from experiments.world.run import HERE, distances, draw_methods, load, read_options
from experiments.world.targets import draw_targets
from PIL import Image
from torch import Tensor

from pmg.cache import atomic_write_json
from pmg.data.duplicates import Hashes, NearCopies, mean_colours
from pmg.looks.drawings import LookData, LookTarget
from pmg.looks.finishes import AS_DRAWN, Finish
from pmg.models.vision.pixels import to_uint8
from pmg.progress import track
from pmg.runs.provenance import git_state

INTO = HERE / "copies.json"
WIDE = NearCopies(bits=14, colour=60.0)  # as drawn, of drawings that may be near copies under a finish


def hash_drawings(data: LookData, rows: list[int], finish: Finish) -> pd.DataFrame:
    """Returns the columns that `Hashes` reads, of drawings under a finish; ids are those of their items as drawn."""
    pictures = to_uint8(data.drawings.pictures(torch.tensor(rows), [finish] * len(rows))).permute(0, 2, 3, 1)
    images = [Image.fromarray(picture) for picture in pictures.numpy()]
    table = {
        "id": [data.drawings.items[row].id for row in rows],
        "phash": [str(imagehash.phash(image)) for image in images],
        "colours": [mean_colours(image) for image in images],
    }
    return pd.DataFrame(table)


def count(data: LookData, targets: list[LookTarget], drawn: pd.DataFrame) -> tuple[dict[str, int], Tensor]:
    """Returns how many drawings and questions have a near copy in training, and which questions do, bool `(B,)`.

    `drawn` are the hashes of all drawings as drawn.
    """
    items, train = data.drawings.items, sorted(data.rows("train").tolist())
    wide, strict = Hashes(drawn, WIDE), Hashes(drawn, NearCopies())
    rows = sorted({one.row for one in targets})
    alike = {row: [other for other in train if wide.is_copy(items[row], [items[other]])] for row in rows}
    copied = [row for row in rows if strict.is_copy(items[row], [items[other] for other in alike[row]])]
    under = []
    for one in track(targets, "Near copies"):
        others = alike[one.row]
        hashes = Hashes(hash_drawings(data, [one.row, *others], one.finish), NearCopies()) if others else None
        under.append(hashes is not None and hashes.is_copy(items[one.row], [items[other] for other in others]))
    counts = {
        "drawings": len(rows), "drawings_copied": len(copied),
        "questions": len(targets), "questions_copied": sum(under),
    }  # fmt: skip
    return counts, torch.tensor(under)


def main() -> None:
    """Counts, measures and writes."""
    study = load(read_options(["--methods", "none", "oracle_4_steps", "--steps", "4"]))
    data, options = study.data, study.options
    drawn = hash_drawings(data, list(range(len(data.drawings))), AS_DRAWN)
    results: dict[str, Any] = {"revision": (git_state() or {}).get("revision"), "groups": {}}
    for group in track([one for one in options.groups if one != "trained"], "Groups of targets"):
        targets = draw_targets(data, options.split, group, options.count)
        counts, copied = count(data, targets, drawn)
        pictures, _ = draw_methods(study, targets)
        order = ("none", "oracle_4_steps", "vae_reconstruction")
        values = [distances(study.perceptual, pictures[method], pictures["truth"]) for method in order]
        shares = {}
        for which, chosen in {"all": copied | True, "copied": copied, "others": ~copied}.items():
            none, told, best = (float(each[chosen].mean()) for each in values)
            shares[which] = (none - told) / (none - best)
        results["groups"][group] = counts | {"lpips_gap_closed": shares}
        atomic_write_json(INTO, results)
        print(group, results["groups"][group])


if __name__ == "__main__":
    main()
