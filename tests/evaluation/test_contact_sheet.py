"""Contact sheets: every image, its column and its texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pmg.evaluation.contact_sheet import SAID_WIDTH, STRIP, TILE, SheetRow, contact_sheet, image_grid

RED = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(3, 16, 16)
BLUE = RED.flip(0)


def row(section="describable", **changes):
    values = {
        "text": "black and white",
        "target": "red apple",
        "history": torch.stack([BLUE] * 14),
        "truth": RED,
    }
    return SheetRow(**{"section": section, **values, "images": {"none": RED, "pmg_paper": BLUE}, **changes})


def count(sheet, colour):
    return int((np.asarray(sheet) == colour).all(-1).sum())


def test_every_image_is_on_the_sheet():
    sheet = contact_sheet([row(), row("indescribable")], ["none", "pmg_paper"])
    assert count(sheet, (255, 0, 0)) == 2 * 2 * TILE**2  # truth and none of two users
    assert count(sheet, (0, 0, 255)) == 2 * (TILE**2 + 12 * 40 * 40)  # pmg, and the latest twelve of the history


@pytest.mark.parametrize("history", [torch.zeros(0, 3, 16, 16), torch.stack([BLUE] * 14)])
def test_what_users_said_has_a_column_of_its_own(history):
    silent, short, long = (
        np.asarray(contact_sheet([row(history=history, said=texts)], ["pmg_paper"]))
        for texts in ((), ["I love neon."], ["I love neon."] * 50)
    )
    start = 28 + 190 + 10 + STRIP + 10
    assert np.array_equal(silent[:, :start], long[:, :start])
    assert np.array_equal(silent[60:, start:], long[60:, start + SAID_WIDTH + 10 :])  # below the line of the header
    changed = np.argwhere((short != long).any(-1))
    assert start <= changed[:, 1].min() < changed[:, 1].max() < start + SAID_WIDTH
    assert changed[:, 0].max() - changed[:, 0].min() < TILE


def test_rows_of_a_section_are_together():
    mixed = contact_sheet([row("a"), row("b"), row("a")], ["pmg_paper"])
    sorted_ = contact_sheet([row("a"), row("a"), row("b")], ["pmg_paper"])
    assert np.array_equal(np.asarray(mixed), np.asarray(sorted_))


def test_long_texts_stay_in_their_column():
    long = row(target="a very long title " * 9, text="many words " * 40)
    plain = row(target="", text="")
    a, b = (np.asarray(contact_sheet([r], ["none", "pmg_paper"])) for r in (long, plain))
    assert np.array_equal(a[:, 28 + 190 :], b[:, 28 + 190 :])
    assert not np.array_equal(a, b)


def test_grid_is_filled_row_by_row():
    grid = image_grid(torch.stack([RED, BLUE, BLUE, BLUE, BLUE, RED]), ["a", "b"], ["x", "y", "z"])
    red = (np.asarray(grid) == (255, 0, 0)).all(-1)
    ys, xs = np.nonzero(red)
    assert red.sum() == 2 * TILE**2
    first, last = xs[ys == ys.min()], xs[ys == ys.max()]
    assert last.min() - first.min() == 2 * (TILE + 10)


def test_letters_that_the_font_lacks_are_drawn_without_their_accents():
    accented, plain = (row(target=word, text=word, said=[f"At the {word}."]) for word in ("café", "cafe"))
    assert np.array_equal(*(np.asarray(contact_sheet([r], ["none", "pmg_paper"])) for r in (accented, plain)))
