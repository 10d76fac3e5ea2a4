"""A tiny shop: items with pictures, and what people chose."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from PIL import Image

WORDS = ("lamp", "chair", "vase", "clock", "rug", "shelf", "mirror", "stool", "bowl", "basket")


def write_shop(folder, people=30, without=(3, 17)):
    """Writes thirty things, some without a picture, and people who chose some; returns the folder."""
    rng = np.random.default_rng(0)
    (folder / "shop").mkdir()
    rows = []
    for number in range(30):
        picture = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((80, 60))
        if number not in without:
            picture.save(folder / "shop" / f"{number}.png")
        rows.append(f"i{number},{WORDS[number % 10]} {number},red|round,home,{number}.png,wood")
    (folder / "shop" / "items.csv").write_text("id,title,keywords,topic,image,material\n" + "\n".join(rows) + "\n")
    dice = random.Random(0)
    chosen = [
        f"u{user},i{item},{10 * user + place}"
        for user in range(people)
        for place, item in enumerate(dice.sample(range(30), 9))
    ]
    (folder / "shop" / "chosen.csv").write_text("user,item,timestamp\n" + "\n".join(chosen) + "\n")
    return folder


def with_tastes(examples):
    """Returns a shop's examples with a label: what kind of thing a user chose first stands for their taste."""
    return [replace(example, labels={"taste": example.liked[0].title.split()[0]}) for example in examples]
