"""Ten everyday messages, three tastes, three targets: what the shipped pipeline draws, as one sheet a taste.

``python -m experiments.wishes.ten --into FOLDER`` writes ``TASTE.webp`` and ``ten.json``, and a table into
``README.md``. Below each picture is whether the captioner reads what was asked for, and how many of the other
attributes are as in the picture without the message.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from textwrap import wrap
from typing import Any

import torch
from hydra.utils import instantiate
from PIL import Image, ImageDraw

import pmg
from pmg import PersonalizedPipeline
from pmg.looks.finishes import Finish
from pmg.models.vision.pictures import to_picture
from pmg.models.vision.pixels import from_uint8
from pmg.reporting.study_pages import fill, to_markdown_table

MESSAGES = {
    "make the background pink": ("ground", ".*pink ground"),
    "pink background, but keep the dots": ("ground", ".*pink ground"),
    "thick outline": ("outline", "thick .*"),
    "no outline please": ("outline", "no outline"),
    "I want it in green.": ("colour", "green"),
    "more colourful!": ("palette", "vivid colours"),
    "thanks, lovely": ("", ""),
    "smaller": ("", ""),
    "Bitte ein dunkler Hintergrund": ("", ""),
    "a drak backgroud plese": ("ground", "dark .*|black ground"),
}
"""What is asked for: an attribute, and a regular expression of its options; none: nothing that can be read."""
TASTES = {
    "dots": (
        "noto",
        Finish(ground=(0.05, 0.1, 0.35), outline=3.5, outline_colour=(1, 1, 1), surface="halftone", degree=0.5),
    ),
    "calm": ("openmoji", Finish(ground=(0.98, 0.93, 0.7), saturation=0.4, lightness=0.1)),
    "violet": (
        "noto",
        Finish(
            duotone=1.0, dark=(0.2, 0.05, 0.4), light=(0.9, 0.8, 1.0), ground=(0.8, 0.95, 0.85), outline=2.0,
            outline_colour=(0.1, 0.1, 0.1),
        ),
    ),
}  # fmt: skip
"""Artist and finish of four liked pictures."""
LIKED, TARGETS = ("dog", "red apple", "tent", "key"), ("rocket", "cat face", "penguin")
SIDE, TEXT = 128, 28


def main() -> None:
    """Draws all and writes what was read back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, required=True)
    into = parser.parse_args().into
    into.mkdir(parents=True, exist_ok=True)
    config = pmg.compose("generate", ["run_dir=unused"])
    data, captioner = instantiate(config.data), instantiate(config.captioner)
    pipe = PersonalizedPipeline.from_pretrained("assets/pipeline")
    pipe.set_progress_bar_config(disable=True)
    rows = []
    for taste, (artist, finish) in TASTES.items():
        history = draw_history(data, artist, finish)
        found, pictures = draw_taste(pipe, captioner, history)
        rows += [{"taste": taste, **row} for row in found]
        draw_sheet([one["image"] for one in history], found, pictures).save(into / f"{taste}.webp", quality=85)
    right = sum(row["right"] for row in rows)
    print(f"{right} of {len(rows)} as asked; seconds a message: {sum(row['seconds'] for row in rows) / len(rows):.1f}")
    (into / "ten.json").write_text(json.dumps(rows, indent=1))
    fill(Path(__file__).with_name("README.md"), "ten", to_table(rows))


def to_table(rows: list[dict[str, Any]]) -> str:
    """Returns how many targets of each message and taste are as asked, and the share of other attributes kept."""
    cells = []
    for message in MESSAGES:
        own = [row for row in rows if row["message"] == message]
        right = [sum(row["right"] for row in own if row["taste"] == taste) for taste in TASTES]
        kept = sum(row["kept"] for row in own) / sum(row["of"] for row in own)
        cells.append([message, *(f"{one} of {len(TARGETS)}" for one in right), f"{kept:.2f}"])
    total = [sum(row["right"] for row in rows if row["taste"] == taste) for taste in TASTES]
    kept = sum(row["kept"] for row in rows) / sum(row["of"] for row in rows)
    cells.append(["**all**", *(f"**{one} of {len(TARGETS) * len(MESSAGES)}**" for one in total), f"**{kept:.2f}**"])
    return to_markdown_table(["message", *(f"{taste}: as asked" for taste in TASTES), "others kept"], cells)


def draw_history(data: Any, artist: str, finish: Finish) -> list[dict[str, Any]]:
    """Returns liked items with pictures in one look."""
    by_title = {(data.drawings.items[row].title, data.drawings.artists[row]): row for row in range(len(data.drawings))}
    chosen = [title for title in LIKED if (title, artist) in by_title]
    pictures = data.drawings.pictures(
        torch.tensor([by_title[title, artist] for title in chosen]), [finish] * len(chosen)
    )
    return [{"title": title, "image": to_picture(picture)} for title, picture in zip(chosen, pictures, strict=True)]


def draw_taste(
    pipe: PersonalizedPipeline, captioner: Any, history: list[dict[str, Any]]
) -> tuple[list[Any], list[Any]]:
    """Returns for each message and target what was read, and the pictures; the first row is without a message."""
    rows: list[dict[str, Any]] = []
    pictures: list[list[Image.Image]] = []
    before: list[dict[str, str]] = []
    for message, (name, options) in {"": ("", ""), **MESSAGES}.items():
        pictures.append([])
        for number, target in enumerate(TARGETS):
            said = [("user", message)] if message else []
            start = time.perf_counter()
            output = pipe(history, target, conversation=said, generator=torch.Generator().manual_seed(number))
            seconds, image = time.perf_counter() - start, output.images[0]
            pictures[-1].append(image)
            (words,) = captioner.describe(
                from_uint8(torch.tensor(list(image.tobytes())).view(1, *image.size, 3).permute(0, 3, 1, 2).byte())
            )
            if not message:
                before.append(words)
                continue
            kept = [words[other] == before[number][other] for other in words if other != name]
            right = bool(re.fullmatch(options, words[name])) if name else all(kept)
            told = bool(output.records[0]["note"]) == (not name)
            rows.append({
                "message": message, "target": target, "right": right and told, "kept": sum(kept), "of": len(kept),
                "read": words, "named": output.records[0]["preference_keywords"], "note": output.records[0]["note"],
                "seconds": seconds,
            })  # fmt: skip
    return rows, pictures


def draw_sheet(liked: list[Image.Image], rows: list[dict[str, Any]], pictures: list[list[Image.Image]]) -> Image.Image:
    """Returns the liked pictures, those without a message, and those of each message, in columns."""
    columns = [
        ("liked", liked[: len(TARGETS)]),
        ("no message", pictures[0]),
        *zip(MESSAGES, pictures[1:], strict=True),
    ]
    sheet = Image.new("RGB", (len(columns) * (SIDE + 6), len(TARGETS) * (SIDE + 14) + TEXT), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (title, column) in enumerate(columns):
        left = place * (SIDE + 6)
        pen.multiline_text((left, 0), "\n".join(wrap(title, 20)), fill="black")
        for number, picture in enumerate(column):
            top = TEXT + number * (SIDE + 14)
            sheet.paste(picture.resize((SIDE, SIDE)), (left, top))
            if place > 1:
                row = rows[(place - 2) * len(TARGETS) + number]
                pen.text(
                    (left, top + SIDE),
                    f"{'as asked' if row['right'] else 'not so'}, {row['kept']}/{row['of']} kept",
                    fill="black",
                )
    return sheet


if __name__ == "__main__":
    main()
