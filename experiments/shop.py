"""Makes a shop: pictures of products by makers with a look each, and what customers bought and returned.

python experiments/shop.py outputs/shop   # items.csv, sales.csv and 960 pictures; no drawing comes from the emoji catalogue
"""

from __future__ import annotations

import argparse
import colorsys
import csv
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIZE, LARGE = 64, 256  # pixels of a picture, and of the canvas that it is drawn on
MAKERS, CUSTOMERS = 24, 320
BOUGHT, RETURNED = 9, 2  # of each customer
NOISE = 0.15  # share of what is bought from makers that the customer doesn't like
Shape = tuple[str, str, tuple[int, ...]]  # part (body or trim), primitive, its numbers on the large canvas

# "box": left, top, right, bottom and radius of the corners; "ellipse": its box; "polygon": points; "ring": an ellipse's
# box and the line's width; "line": two points and a width
PRODUCTS: dict[str, tuple[Shape, ...]] = {
    "mug": (("trim", "ring", (140, 90, 215, 175, 20)), ("body", "box", (50, 65, 175, 205, 18))),
    "teacup": (("trim", "ring", (165, 95, 225, 150, 14)), ("body", "polygon", (45, 85, 190, 85, 160, 175, 75, 175)), ("trim", "ellipse", (30, 170, 205, 200))),
    "plate": (("body", "ellipse", (28, 28, 228, 228)), ("trim", "ring", (70, 70, 186, 186, 10))),
    "bowl": (("body", "polygon", (28, 100, 228, 100, 175, 200, 81, 200)), ("trim", "box", (22, 88, 234, 112, 12))),
    "teapot": (("trim", "ring", (165, 95, 235, 175, 16)), ("trim", "polygon", (20, 95, 50, 95, 95, 170, 70, 185)), ("body", "ellipse", (55, 80, 195, 205)), ("trim", "ellipse", (110, 55, 140, 88))),
    "bottle": (("body", "box", (85, 95, 171, 232, 22)), ("body", "box", (108, 45, 148, 110, 8)), ("trim", "box", (102, 22, 154, 52, 8))),
    "vase": (("body", "polygon", (100, 30, 156, 30, 146, 85, 195, 150, 165, 225, 91, 225, 61, 150, 110, 85)), ("trim", "box", (92, 22, 164, 40, 8))),
    "candle": (("body", "box", (90, 90, 166, 225, 10)), ("trim", "ellipse", (112, 30, 144, 86))),
    "lamp": (("trim", "box", (120, 130, 136, 215, 4)), ("trim", "ellipse", (75, 205, 181, 232)), ("body", "polygon", (90, 30, 166, 30, 215, 135, 41, 135))),
    "chair": (("trim", "box", (62, 150, 80, 235, 4)), ("trim", "box", (176, 150, 194, 235, 4)), ("body", "box", (62, 20, 194, 110, 16)), ("body", "box", (52, 128, 204, 160, 10))),
    "stool": (("trim", "line", (80, 110, 55, 230, 16)), ("trim", "line", (176, 110, 201, 230, 16)), ("trim", "line", (66, 180, 190, 180, 10)), ("body", "box", (48, 80, 208, 118, 18))),
    "table": (("trim", "box", (48, 105, 66, 225, 4)), ("trim", "box", (190, 105, 208, 225, 4)), ("body", "box", (20, 75, 236, 112, 10))),
    "sofa": (("body", "box", (45, 70, 211, 170, 24)), ("trim", "box", (18, 110, 60, 200, 18)), ("trim", "box", (196, 110, 238, 200, 18)), ("body", "box", (50, 145, 206, 200, 8))),
    "pillow": (("body", "polygon", (40, 55, 128, 72, 216, 55, 200, 128, 216, 201, 128, 184, 40, 201, 56, 128)), ("trim", "ellipse", (114, 114, 142, 142))),
    "towel": (("body", "box", (60, 35, 196, 220, 8)), ("trim", "box", (60, 180, 196, 200, 0)), ("trim", "box", (30, 25, 226, 45, 8))),
    "rug": (("body", "box", (28, 70, 228, 190, 6)), ("trim", "box", (28, 70, 46, 190, 0)), ("trim", "box", (210, 70, 228, 190, 0))),
    "clock": (("body", "ellipse", (35, 35, 221, 221)), ("trim", "line", (128, 128, 128, 65, 14)), ("trim", "line", (128, 128, 175, 150, 14))),
    "frame": (("trim", "box", (35, 45, 221, 211, 6)), ("body", "box", (65, 75, 191, 181, 0))),
    "mirror": (("trim", "ellipse", (60, 15, 196, 185)), ("body", "ellipse", (78, 33, 178, 167)), ("trim", "box", (116, 180, 140, 238, 6))),
    "basket": (("trim", "ring", (70, 25, 186, 190, 14)), ("body", "polygon", (35, 110, 221, 110, 195, 220, 61, 220)), ("trim", "box", (30, 100, 226, 122, 8))),
    "T-shirt": (("body", "polygon", (90, 40, 166, 40, 236, 85, 210, 130, 182, 112, 182, 222, 74, 222, 74, 112, 46, 130, 20, 85)), ("trim", "polygon", (98, 40, 158, 40, 128, 74))),
    "trousers": (("body", "polygon", (75, 30, 181, 30, 200, 230, 145, 230, 128, 105, 111, 230, 56, 230)), ("trim", "box", (72, 26, 184, 50, 4))),
    "skirt": (("body", "polygon", (95, 55, 161, 55, 220, 210, 36, 210)), ("trim", "box", (90, 35, 166, 60, 6))),
    "dress": (("body", "polygon", (90, 25, 112, 60, 144, 60, 166, 25, 160, 115, 212, 230, 44, 230, 96, 115)), ("trim", "box", (94, 105, 162, 125, 4))),
    "cap": (("body", "polygon", (50, 160, 60, 95, 100, 60, 150, 60, 190, 95, 200, 160)), ("trim", "ellipse", (130, 140, 245, 180))),
    "hat": (("body", "box", (80, 55, 176, 175, 26)), ("trim", "ellipse", (18, 150, 238, 200)), ("trim", "box", (80, 130, 176, 152, 0))),
    "scarf": (("body", "box", (60, 35, 196, 85, 24)), ("body", "polygon", (75, 70, 125, 70, 115, 225, 65, 225)), ("trim", "box", (62, 200, 120, 230, 0))),
    "sock": (("body", "polygon", (85, 30, 155, 30, 155, 140, 215, 175, 205, 215, 130, 220, 85, 175)), ("trim", "box", (80, 26, 160, 56, 6))),
    "shoe": (("body", "polygon", (35, 90, 100, 90, 135, 140, 220, 160, 228, 195, 30, 195)), ("trim", "box", (26, 188, 234, 212, 8))),
    "boot": (("body", "polygon", (80, 30, 155, 30, 155, 145, 225, 170, 225, 205, 80, 205)), ("trim", "box", (74, 200, 232, 225, 6))),
    "handbag": (("trim", "ring", (80, 30, 176, 160, 14)), ("body", "polygon", (45, 105, 211, 105, 230, 220, 26, 220))),
    "backpack": (("trim", "ring", (100, 15, 156, 80, 12)), ("body", "box", (60, 45, 196, 230, 36)), ("trim", "box", (82, 140, 174, 205, 12))),
    "umbrella": (("trim", "box", (122, 110, 134, 225, 4)), ("trim", "ring", (92, 190, 134, 236, 10)), ("body", "polygon", (20, 130, 50, 70, 128, 30, 206, 70, 236, 130))),
    "glove": (("body", "box", (75, 95, 180, 200, 26)), ("body", "box", (80, 35, 105, 130, 12)), ("body", "box", (112, 25, 137, 130, 12)), ("body", "box", (144, 35, 169, 130, 12)), ("trim", "box", (78, 190, 178, 228, 6))),
    "watch": (("trim", "box", (98, 15, 158, 241, 10)), ("body", "ellipse", (68, 68, 188, 188))),
    "necklace": (("trim", "ring", (55, 20, 201, 180, 12)), ("body", "polygon", (128, 155, 165, 195, 128, 240, 91, 195))),
    "notebook": (("body", "box", (60, 30, 205, 226, 8)), ("trim", "box", (50, 30, 80, 226, 6))),
    "pencil": (("body", "polygon", (60, 165, 170, 55, 200, 85, 90, 195)), ("trim", "polygon", (60, 165, 90, 195, 40, 215)), ("trim", "polygon", (170, 55, 190, 35, 220, 65, 200, 85))),
    "kite": (("body", "polygon", (128, 15, 205, 95, 128, 195, 51, 95)), ("trim", "line", (128, 190, 160, 240, 10))),
    "ball": (("body", "ellipse", (32, 32, 224, 224)), ("trim", "box", (32, 116, 224, 140, 0))),
}  # fmt: skip


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
    extra = {"box": 1, "ring": 1, "line": 1}.get(kind, 0)  # radius or width, behind the points
    points = [number + move[place % 2] for place, number in enumerate(given[: len(given) - extra])]
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


def draw_sales(rng: random.Random) -> list[tuple[str, str, str, int]]:
    """Returns rows of customer, item, action and time: most customers like one maker, a quarter two."""
    rows = []
    for number in range(CUSTOMERS):
        liked = rng.sample(range(MAKERS), 1 if rng.random() < 0.75 else 2)
        others = [maker for maker in range(MAKERS) if maker not in liked]
        products = rng.sample(sorted(PRODUCTS), BOUGHT + RETURNED)
        for place, product in enumerate(products):
            returned = place in (2, 5)
            maker = rng.choice(others if returned or rng.random() < NOISE else liked)
            action = "returned" if returned else "bought"
            rows.append((f"customer {number}", item_id(product, maker), action, place))
    return rows


def item_id(product: str, maker: int) -> str:
    """Returns the id of a product of a maker."""
    return f"{product.replace(' ', '-')}-{maker:02}"


def write_table(path: Path, head: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Writes a CSV file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def make_shop(folder: Path, seed: int = 0) -> None:
    """Writes pictures, ``items.csv``, ``sales.csv`` and ``sheet.png``, a part of the pictures."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    looks = [draw_look(rng, number) for number in range(MAKERS)]
    sheet = Image.new("RGB", (len(PRODUCTS) // 2 * SIZE, MAKERS // 2 * SIZE))
    items: list[tuple[object, ...]] = []
    for column, (product, shapes) in enumerate(PRODUCTS.items()):
        for maker, look in enumerate(looks):
            name = item_id(product, maker)
            picture = draw_product(shapes, look, rng)
            picture.save(folder / "pictures" / f"{name}.png")
            items.append((name, product, product, f"{name}.png", f"maker {maker:02}"))
            if column % 2 == 0 and maker % 2 == 0:
                sheet.paste(picture, (column // 2 * SIZE, maker // 2 * SIZE))
    sheet.save(folder / "sheet.png")
    write_table(folder / "items.csv", ("id", "title", "keywords", "image", "maker"), items)
    write_table(folder / "sales.csv", ("user", "item", "action", "timestamp"), draw_sales(rng))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    make_shop(parser.parse_args().folder)
