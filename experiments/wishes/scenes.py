"""Scenes for people who write wishes: a user's pictures, one drawn for them, and one that they would rather have.

``python -m experiments.wishes.scenes --into FOLDER`` draws a page of five scenes a file, and writes ``scenes.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from PIL import Image, ImageDraw
from torch.nn.functional import interpolate

import pmg
from pmg.domain import Example, Item
from pmg.looks.finishes import Finish, encode_finish
from pmg.looks.users import Picture
from pmg.seeding import stable_number

USERS_SEED = 2  # no other study has these users
SPLITS = {"test": 100, "validation": 25}  # scenes of each
EDITS = {
    "ground": ("ground",),
    "outline": ("outline", "outline_colour"),
    "surface": ("surface", "degree"),
    "palette": ("hue", "saturation", "lightness", "contrast", "duotone", "dark", "light"),
}
"""Parts of a finish that a wish changes, with their fields."""
SIDE, GAP, A_PAGE = 128, 8, 5  # pixels of a picture, between pictures; scenes a page


def main() -> None:
    """Draws the scenes and writes what each shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, required=True)
    folder = parser.parse_args().into
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for split in SPLITS for row in draw_scenes(split, folder)]
    (folder / "scenes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def draw_scenes(split: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Yields what the scenes of a split show, and writes their pages."""
    config = pmg.compose("generate", [f"data.users.seed={USERS_SEED}", "data.users.targets=1", "data.users.several=0"])
    data, captioner = instantiate(config.data), instantiate(config.captioner)
    page = []
    for number, example in enumerate(data.examples(split, SPLITS[split])):
        before, wanted, parts = _edit(data, captioner, example)
        liked = [one.item for one in example.history][-4:]
        name = f"{split}-{number:03d}"
        page.append((name, _pixels(data, liked), _pixels(data, [before, wanted])))
        words = captioner.describe(_pixels(data, [before, wanted]))
        yield {
            "scene": name, "user": example.user, "liked": [item.id for item in liked], "target": example.target.title,
            "before": before.id, "wanted": wanted.id, "parts": parts, "words": words,
        }  # fmt: skip
        if len(page) == A_PAGE:
            _draw_page(page).save(folder / f"{split}-{number // A_PAGE:02d}.png")
            page = []


def _edit(data: Any, captioner: Any, example: Example) -> tuple[Item, Item, list[str]]:
    """Returns the target in the user's look and in one where a part or two are others, and which."""
    rng = random.Random(stable_number("wish", example.user))
    picture = data.images.picture(example.truth[0])
    before = data.images.item(picture)
    shown = captioner.describe(_pixels(data, [before]))[0]
    while True:
        parts = rng.sample(sorted(EDITS), 2 if rng.random() < 0.35 else 1)
        other = data.space.sample(rng)
        fields = {field: getattr(other, field) for part in parts for field in EDITS[part]}
        finish: Finish = replace(picture.finish, **fields)
        wanted = data.images.item(Picture(picture.row, finish))
        words = captioner.describe(_pixels(data, [wanted]))[0]
        if all(_differs(part, shown, words) for part in parts):
            assert encode_finish(finish) in wanted.id
            return before, wanted, parts


def _differs(part: str, one: dict[str, str], other: dict[str, str]) -> bool:
    """Returns whether two pictures' words say that a part of the finish differs."""
    names = ("palette", "colour") if part == "palette" else (part,)
    return any(one[name] != other[name] for name in names)


def _pixels(data: Any, items: list[Item]) -> torch.Tensor:
    """Returns pictures of items, `(B, 3, H, W)` in [-1, 1]."""
    return data.images.pixels(data.images.rows(items))


def _draw_page(page: list[tuple[str, torch.Tensor, torch.Tensor]]) -> Image.Image:
    """Returns scenes below each other: the liked pictures, then the one drawn, then the wanted one."""
    canvas = Image.new("RGB", (6 * SIDE + 14 * GAP, len(page) * (SIDE + 3 * GAP) + 3 * GAP), "#777777")
    pen = ImageDraw.Draw(canvas)
    for column, text in ((0, "pictures this person likes"), (4, "NOW"), (5, "WANTED")):
        pen.text((GAP + column * (SIDE + GAP) + (3 * GAP if column > 3 else 0), 2), text, fill="white")
    for row, (name, liked, two) in enumerate(page):
        top = 3 * GAP + row * (SIDE + 3 * GAP)
        for place, pixels in [*enumerate(liked), (4, two[0]), (5, two[1])]:
            large = interpolate(pixels[None], size=(SIDE, SIDE), mode="nearest")[0]
            array = ((large + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
            left = GAP + place * (SIDE + GAP) + (3 * GAP if place > 3 else 0)
            canvas.paste(Image.fromarray(array), (left, top + GAP))
        pen.text((GAP, top - 4), name, fill="white")
    return canvas


if __name__ == "__main__":
    main()
