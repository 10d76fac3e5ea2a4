"""Prepare data of your own.

A shop with eight mugs and six customers, drawn and written by the script, becomes a prepared data set; its first
sample is printed. [Your own data](../docs/own_data.md) has the schema.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from pmg import compose, instantiate

COLOURS = ("crimson", "orange", "gold", "olive", "teal", "navy", "purple", "black")


def write_shop(folder: Path) -> None:
    """Writes pictures, ``items.csv`` and ``sales.csv``: a customer buys six neighbouring colours."""
    folder.mkdir(parents=True, exist_ok=True)
    items = [["id", "title", "keywords", "image"]]
    for colour in COLOURS:
        picture = Image.new("RGB", (64, 64), "white")
        draw = ImageDraw.Draw(picture)
        draw.ellipse((38, 20, 58, 46), outline=colour, width=5)
        draw.rectangle((10, 14, 46, 54), fill=colour)
        picture.save(folder / f"{colour}.png")
        items.append([colour, f"{colour} mug", f"mug|{colour}", f"{colour}.png"])
    sales = [["user", "item"]]
    for user in range(6):
        sales += [[f"customer {user}", COLOURS[(user + step) % len(COLOURS)]] for step in range(6)]
    for name, rows in (("items.csv", items), ("sales.csv", sales)):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def main(folder: Path = Path("outputs/examples")) -> None:
    """Prepares the shop with `pmg-prepare` and prints the first sample of the training split."""
    shop = folder / "shop"
    write_shop(shop)
    data = ["data=own_files", f"paths.data_dir={folder / 'data'}"]
    source = [f"source.read.items={shop / 'items.csv'}", f"source.read.interactions={shop / 'sales.csv'}"]
    command = [sys.executable, "-m", "pmg.commands.prepare", *data, *source, "source.pictures.size=64"]
    subprocess.run([*command, f"run_dir={folder / 'prepare'}"], check=True)
    dataset = instantiate(compose("train", overrides=["experiment=real_users", *data]).data)
    example = next(iter(dataset.examples("train")))
    print(
        example.user, "bought", ", ".join(one.item.title for one in example.history), "and then", example.target.title
    )


if __name__ == "__main__":
    main()
