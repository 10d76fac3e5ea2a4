"""Pictures for visual inspection: the contact sheet of an evaluation, and plain labelled grids."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pmg.data.dataset import ImageStore
from pmg.domain import Example
from pmg.evaluation.references import history_pixels
from pmg.models.vision.pictures import to_pictures
from pmg.preferences.stated import own_messages

TILE = 128  # pixels a side of an image
MARGIN, GAP = 28, 10  # pixels
LABEL_WIDTH = 190
THUMB, THUMB_GAP, THUMB_COLUMNS, THUMB_LINES = 40, 4, 4, 3  # of the history: twelve pictures
STRIP = THUMB_COLUMNS * (THUMB + THUMB_GAP) - THUMB_GAP  # pixels, width of the history
SAID_WIDTH, SAID_LINES = 230, 9  # of a conversation
HEADER = 34
INK, GREY, LINE, PAPER = "#1b1b1f", "#73737c", "#dcdce2", "#ffffff"


@dataclass(frozen=True)
class SheetRow:
    """One user of the contact sheet; all images are in [-1, 1]."""

    section: str  # heading; rows of one section are shown together
    text: str  # about the user
    target: str  # title of the target
    history: Tensor  # images of the items that the user liked, `(T, 3, H, W)`; the latest twelve are shown
    truth: Tensor  # one true image, `(3, H, W)`
    images: Mapping[str, Tensor] = field(default_factory=dict)  # by method, `(3, H, W)` each
    said: Sequence[str] = ()  # the user's messages; the latest lines are shown


def choose_examples(examples: Sequence[Example], labels: Sequence[str], count: int) -> list[Example]:
    """Returns examples for the sheet: of each set of labels in turn its first, then its second one, and so on.

    The choice looks at no result; examples with equal values of the first label are put together.
    """
    by_labels: dict[tuple[str, ...], list[int]] = {}
    for place, example in enumerate(examples):
        by_labels.setdefault(tuple(example.labels[name] for name in labels), []).append(place)
    turns = chain.from_iterable(zip_longest(*by_labels.values()))
    chosen = [examples[place] for place in turns if place is not None][:count]
    return sorted(chosen, key=lambda example: [example.labels[name] for name in labels[:1]])


def build_rows(
    examples: Sequence[Example], labels: Sequence[str], store: ImageStore, images: Mapping[str, Tensor]
) -> list[SheetRow]:
    """Returns the sheet's rows, an example each, with each method's `images` of them, `(N, 3, H, W)`.

    The first label is the heading of a section, the others describe the user.
    """
    return [
        SheetRow(
            section=", ".join(f"{name}: {example.labels[name]}" for name in labels[:1]),
            text=", ".join(example.labels[name].replace("_", " ") for name in labels[1:]),
            target=example.target.title,
            history=history_pixels(store, example),
            truth=store.pixels(store.rows(example.truth[:1]))[0],
            images={method: drawn[row] for method, drawn in images.items()},
            said=own_messages(example.conversation),
        )
        for row, example in enumerate(examples)
    ]


def contact_sheet(rows: Sequence[SheetRow], methods: Sequence[str]) -> Image.Image:
    """Draws for each user, of at least one, the history, the truth and each method's image side by side."""
    history = MARGIN + LABEL_WIDTH + GAP
    said = any(row.said for row in rows)
    first = history + STRIP + GAP + said * (SAID_WIDTH + GAP)
    sections = list(dict.fromkeys(row.section for row in rows))
    height = max(TILE, 3 * (THUMB + THUMB_GAP) - THUMB_GAP) + GAP
    width = first + GAP + (len(methods) + 1) * (TILE + GAP) - GAP + MARGIN
    canvas = Image.new("RGB", (width, 2 * MARGIN + HEADER + len(sections) * HEADER + len(rows) * height), PAPER)
    pen = ImageDraw.Draw(canvas)
    left = [first + GAP + number * (TILE + GAP) for number in range(len(methods) + 1)]
    _centred(pen, history, STRIP, MARGIN, "history")
    if said:
        _centred(pen, history + STRIP + GAP, SAID_WIDTH, MARGIN, "said")
    for x, name in zip(left, ["truth", *methods], strict=True):
        _centred(pen, x, TILE, MARGIN, name)
    y = MARGIN + HEADER
    for section in sections:
        pen.line((MARGIN, y + 2, width - MARGIN, y + 2), fill=LINE)
        pen.text((MARGIN, y + HEADER // 2 + 2), section, GREY, _font(14), anchor="lm")
        y += HEADER
        for row in [row for row in rows if row.section == section]:
            _draw_row(canvas, row, y, left, [row.truth, *(row.images[name] for name in methods)])
            y += height
    return canvas


def image_grid(images: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Image.Image:
    """Draws a grid of images `(len(rows) * len(columns), 3, H, W)` in [-1, 1], row by row, with these labels."""
    label = min(LABEL_WIDTH, max(int(_font(15).getlength(name)) for name in rows)) + GAP
    width = 2 * MARGIN + label + len(columns) * (TILE + GAP) - GAP
    height = MARGIN + HEADER + len(rows) * (TILE + GAP) - GAP + MARGIN
    canvas = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    for number, name in enumerate(columns):
        _centred(pen, MARGIN + label + number * (TILE + GAP), TILE, MARGIN, name)
    for number, name in enumerate(rows):
        middle = MARGIN + HEADER + number * (TILE + GAP) + TILE // 2
        pen.text((MARGIN, middle), _fit(name, 15, LABEL_WIDTH), INK, _font(15), anchor="lm")
    for number, picture in enumerate(_pictures(images, TILE)):
        row, column = divmod(number, len(columns))
        canvas.paste(picture, (MARGIN + label + column * (TILE + GAP), MARGIN + HEADER + row * (TILE + GAP)))
    return canvas


def _draw_row(canvas: Image.Image, row: SheetRow, y: int, left: Sequence[int], images: Sequence[Tensor]) -> None:
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, y + 4), _fit(row.target, 17, LABEL_WIDTH), INK, _font(17))
    for number, text in enumerate(_wrap(row.text, 13, LABEL_WIDTH)[:4]):
        pen.text((MARGIN, y + 32 + 18 * number), text, GREY, _font(13))
    shown = row.history[-THUMB_LINES * THUMB_COLUMNS :]
    for number, picture in enumerate(_pictures(shown, THUMB) if len(shown) else ()):
        line, column = divmod(number, THUMB_COLUMNS)
        x = MARGIN + LABEL_WIDTH + GAP + column * (THUMB + THUMB_GAP)
        canvas.paste(picture, (x, y + line * (THUMB + THUMB_GAP)))
    lines = [line for text in row.said for line in _wrap(text, 11, SAID_WIDTH)]
    for number, text in enumerate(lines[-SAID_LINES:]):
        pen.text((MARGIN + LABEL_WIDTH + 2 * GAP + STRIP, y + 14 * number), text, GREY, _font(11))
    for x, image in zip(left, images, strict=True):
        canvas.paste(_pictures(image[None], TILE)[0], (x, y))
        pen.rectangle((x - 1, y - 1, x + TILE, y + TILE), outline=LINE)


def _pictures(images: Tensor, size: int) -> list[Image.Image]:
    """Returns images `(B, 3, H, W)` in [-1, 1] as pictures `size` pixels wide and high."""
    return [picture.resize((size, size), Image.Resampling.LANCZOS) for picture in to_pictures(images)]


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _centred(pen: ImageDraw.ImageDraw, x: int, width: int, y: int, text: str) -> None:
    size = next((size for size in range(16, 10, -1) if _font(size).getlength(text) <= width), 11)
    pen.text((x + width // 2, y + HEADER // 2), _fit(text, size, width), INK, _font(size), anchor="mm")


def _fit(text: str, size: int, width: int) -> str:
    """Shortens a text to `width` pixels, with an ellipsis where it was cut, without accents, which the font lacks."""
    text = "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip(' ,')}…"


def _wrap(text: str, size: int, width: int) -> list[str]:
    """Breaks a text between words into lines of at most `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _font(size).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_fit(line, size, width) for line in lines if line]
