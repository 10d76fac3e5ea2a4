"""Makes a shop: pictures of products by makers with a look each, and what customers bought and returned.

python -m experiments.shop.run outputs/shop   # items.csv, sales.csv and 960 pictures
python -m experiments.shop.run outputs/shop250 --pictures 250   # a part of them, and the sales of that part
"""

from __future__ import annotations

import argparse
import colorsys
import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image, ImageChops, ImageDraw, ImageFilter

HERE = Path(__file__).resolve().parent
SIZE, LARGE = 64, 256  # pixels of a picture, and of the canvas that it is drawn on
MAKERS, CUSTOMERS = 24, 320
BOUGHT, RETURNED = 9, 2  # of each customer
NOISE = 0.15  # share of what is bought from makers that the customer doesn't like
EXTRA = ("box", "ring", "line")  # primitives with a radius or width behind their points
Shape = tuple[str, str, tuple[int, ...]]  # part (body or trim), primitive, its numbers


def read_products() -> dict[str, tuple[Shape, ...]]:
    """Returns the shapes of each product, from ``shop/products.yaml``."""
    found = yaml.safe_load((HERE / "products.yaml").read_text())
    return {name: tuple(map(read_shape, shapes)) for name, shapes in found.items()}


def read_shape(text: str) -> Shape:
    """Returns a shape from a line such as ``body box 50 65 175 205 18``."""
    part, kind, *numbers = text.split()
    return part, kind, tuple(map(int, numbers))


@dataclass(frozen=True)
class Look:
    """How a maker's products are drawn.

    Attributes:
        body: two colours of the body, for its pattern.
        trim: colour of handles, seams and feet.
        ground: colour behind the product.
        pattern: plain, stripes, dots or checks.
        outline: width in pixels of the large canvas; 0: none.
    """

    body: tuple[str, str]
    trim: str
    ground: str
    pattern: str
    outline: int


def draw_look(rng: random.Random, number: int) -> Look:
    """Returns a maker's look: hues and patterns go round, the rest is drawn."""
    hue = number / MAKERS

    def colour(turn: float, saturation: float, value: float) -> str:
        rgb = colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value)
        return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)

    saturation, value = rng.choice(((0.75, 0.85), (0.35, 0.9), (0.6, 0.45)))
    grounds = ("#ffffff", colour(0.5, 0.18, 0.97), colour(0.45, 0.5, 0.25))
    return Look(
        body=(colour(0, saturation, value), colour(rng.choice((0.08, 0.5)), 0.5 * saturation, 0.5 + 0.5 * value)),
        trim=colour(rng.choice((0.12, 0.5)), 0.8, 0.6),
        ground=rng.choice(grounds),
        pattern=("plain", "stripes", "dots", "checks")[number % 4],
        outline=rng.choice((0, 0, 7)),
    )


def pattern(look: Look) -> Image.Image:
    """Returns the pattern of a look's bodies."""
    image = Image.new("RGB", (LARGE, LARGE), look.body[0])
    draw = ImageDraw.Draw(image)
    places = range(0, LARGE, 32)
    if look.pattern == "stripes":
        for x in places:
            draw.rectangle((x, 0, x + 14, LARGE), fill=look.body[1])
    elif look.pattern == "dots":
        for x in places:
            for y in places:
                draw.ellipse((x + 6, y + 6, x + 24, y + 24), fill=look.body[1])
    elif look.pattern == "checks":
        for x in places:
            for y in places:
                if (x + y) // 32 % 2:
                    draw.rectangle((x, y, x + 31, y + 31), fill=look.body[1])
    return image


def draw_shape(mask: Image.Image, shape: Shape, move: tuple[int, int]) -> None:
    """Draws one shape white into a mask, moved by some pixels."""
    _, kind, given = shape
    draw = ImageDraw.Draw(mask)
    points = [number + move[place % 2] for place, number in enumerate(given[: len(given) - (kind in EXTRA)])]
    if kind == "box":
        draw.rounded_rectangle(points, radius=given[-1], fill=255)
    elif kind == "ellipse":
        draw.ellipse(points, fill=255)
    elif kind == "ring":
        draw.ellipse(points, outline=255, width=given[-1])
    elif kind == "line":
        draw.line(points, fill=255, width=given[-1])
    else:
        draw.polygon(points, fill=255)


def draw_product(shapes: tuple[Shape, ...], look: Look, rng: random.Random) -> Image.Image:
    """Returns a picture of a product in a maker's look, `SIZE` pixels a side."""
    picture = Image.new("RGB", (LARGE, LARGE), look.ground)
    move = (rng.randint(-8, 8), rng.randint(-8, 8))
    masks = []
    for shape in shapes:
        mask = Image.new("L", (LARGE, LARGE))
        draw_shape(mask, shape, move)
        masks.append(mask)
    if look.outline:
        whole = masks[0]
        for mask in masks[1:]:
            whole = ImageChops.lighter(whole, mask)
        picture.paste("#202020", mask=whole.filter(ImageFilter.MaxFilter(2 * look.outline + 1)))
    body = pattern(look)
    for mask, (part, _, _) in zip(masks, shapes, strict=True):
        picture.paste(body if part == "body" else Image.new("RGB", (LARGE, LARGE), look.trim), mask=mask)
    return picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def draw_sales(products: Sequence[str], rng: random.Random) -> list[tuple[str, str, str, int]]:
    """Returns rows of customer, item, action and time: most customers like one maker, a quarter two."""
    rows = []
    for number in range(CUSTOMERS):
        liked = rng.sample(range(MAKERS), 1 if rng.random() < 0.75 else 2)
        others = [maker for maker in range(MAKERS) if maker not in liked]
        chosen = rng.sample(products, BOUGHT + RETURNED)
        for place, product in enumerate(chosen):
            returned = place in (2, 5)
            maker = rng.choice(others if returned or rng.random() < NOISE else liked)
            action = "returned" if returned else "bought"
            rows.append((f"customer {number}", item_id(product, maker), action, place))
    return rows


def item_id(product: str, maker: int) -> str:
    """Returns the id of a product of a maker."""
    return f"{product.replace(' ', '-')}-{maker:02}"


def write_table(path: Path, head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    """Writes a CSV file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def make_shop(folder: Path, pictures: int | None = None, seed: int = 0) -> None:
    """Writes pictures, ``items.csv``, ``sales.csv`` and ``sheet.png``, a part of the pictures.

    Args:
        folder: where the files go.
        pictures: how many of the items are sold, a random part of them; None: all.
        seed: of looks, pictures and sales.
    """
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    looks = [draw_look(rng, number) for number in range(MAKERS)]
    products = read_products()
    names = [item_id(product, maker) for product in products for maker in range(MAKERS)]
    kept = set(random.Random(seed).sample(names, len(names) if pictures is None else pictures))
    sheet = Image.new("RGB", (len(products) // 2 * SIZE, MAKERS // 2 * SIZE))
    items: list[tuple[object, ...]] = []
    for column, (product, shapes) in enumerate(products.items()):
        for maker, look in enumerate(looks):
            name = item_id(product, maker)
            picture = draw_product(shapes, look, rng)
            if name in kept:
                picture.save(folder / "pictures" / f"{name}.png")
                items.append((name, product, product, f"{name}.png", f"maker {maker:02}"))
            if column % 2 == 0 and maker % 2 == 0:
                sheet.paste(picture, (column // 2 * SIZE, maker // 2 * SIZE))
    sheet.save(folder / "sheet.png")
    write_table(folder / "items.csv", ("id", "title", "keywords", "image", "maker"), items)
    sales = [sale for sale in draw_sales(sorted(products), rng) if sale[1] in kept]
    write_table(folder / "sales.csv", ("user", "item", "action", "timestamp"), sales)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, help="how many items, a random part; default: all")
    given = parser.parse_args()
    make_shop(given.folder, given.pictures)
