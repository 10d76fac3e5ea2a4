"""Lists that language models write, repaired."""

from __future__ import annotations

import pytest

from pmg.preferences.keyword_decoding import parse_list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" red, navy blue, gold", ["red", "navy blue", "gold"]),
        ("1. red\n2. navy blue\n3) gold", ["red", "navy blue", "gold"]),
        ("1. red 2. navy blue 3. gold", ["red", "navy blue", "gold"]),
        ("- red\n- navy blue\n* gold\n• teal", ["red", "navy blue", "gold", "teal"]),
        ("red\nnavy blue\ngold", ["red", "navy blue", "gold"]),
        ("\"red\", 'navy blue', “gold”, `teal`, **pink**", ["red", "navy blue", "gold", "teal", "pink"]),
        ("red; navy blue; and gold.", ["red", "navy blue", "gold"]),
        ("**Colours:** red, **navy blue**", ["red", "navy blue"]),
        ("1. **Minimalist** – clean lines\n2. **Retro** — old posters", ["Minimalist", "Retro"]),
        ("red,\nnavy blue,\ngold", ["red", "navy blue", "gold"]),
        ("Sure! Here are the keywords: red, gold", ["red", "gold"]),
        ("Here is a list:\n\n1. red\n\n2. gold\n\nThese fit.", ["red", "gold"]),
        ("red, gold. I hope this helps!", ["red", "gold"]),
        ("red, gold\n\nThese are warm, bright", ["red", "gold"]),
        ("red, gold\nTheir favourite food: cake, pie", ["red", "gold"]),
        ("red\ngold\n\nNote: both are warm", ["red", "gold"]),
        ("sci-fi, 3D, 1980s, black-and-white, 2.5D, 80s", ["sci-fi", "3D", "1980s", "black-and-white", "2.5D", "80s"]),
        ("レトロ、水彩画，かわいい", ["レトロ", "水彩画", "かわいい"]),
        ("винтаж, акварель; ретро", ["винтаж", "акварель", "ретро"]),
        ("कला, चित्र", ["कला", "चित्र"]),
        ("قديم، ملون", ["قديم", "ملون"]),
        ("Red, red, RED, Straße, STRASSE, gold", ["Red", "Straße", "gold"]),
        ("Dr. Seuss, Samuel L. Jackson, rock 'n' roll", ["Dr. Seuss", "Samuel L. Jackson", "rock 'n' roll"]),
        ("black and white", ["black and white"]),
        ("red,, , -, gold", ["red", "gold"]),
        ("It is hard to say what this person would like best", []),
        ("", []),
        ("...\n\n", []),
    ],
)
def test_lists_are_repaired(text, expected):
    assert list(parse_list(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("red, navy bl", ["red"]), ("red\ngo", ["red"]), ("red", ["red"]), ("red,", ["red"])]
)
def test_half_a_word_at_the_end_is_left_out(text, expected):
    assert list(parse_list(text, cut=True)) == expected


def test_a_list_that_is_read_again_stays():
    words = parse_list("1. sci-fi\n2. 3D\n3. レトロ")
    assert parse_list(", ".join(words)) == words
