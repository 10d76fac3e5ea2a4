"""The example lines of docs/data.md are read by the readers that they are about."""

from __future__ import annotations

import re

import pytest
from PIL import Image

import pmg
from pmg.configuration.instantiate import instantiate


@pytest.fixture
def published(root, tmp_path):
    """The files of the document, with a picture an item."""
    text = (root / "docs" / "data.md").read_text()
    block = re.search(r"```text\n(# movielens.*?)```", text, re.DOTALL)[1]
    for name, lines in re.findall(r"^# (\S+)\n(.*?)(?=^# |\Z)", block, re.DOTALL | re.MULTILINE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(lines)
    for name in ("posters/9909.jpg", "photos/i31.jpg", "photos/farm1_31.jpg", "packs/cat_01/31.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    return tmp_path


CASES = {
    "movielens": ["source={0}/movielens", "posters={0}/posters", "named_by=tmdbId"],
    "pog": ["source={0}/pog", "images={0}/photos", "outfits=true"],
    "flickr_aes": ["source={0}/flickr_aes", "images={0}/photos"],
    "stickers": ["images={0}/packs", "annotations={0}/stickers/all_annos.json"],
}


@pytest.mark.parametrize("name", CASES)
def test_each_example_line_is_an_item_with_a_picture_and_an_interaction(published, name):
    options = [f"source.read.{option.format(published)}" for option in CASES[name]]
    tables = instantiate(pmg.compose("prepare", [f"data={name}", *options]).source.read)()
    assert len(tables.items) == 1
    assert len(tables.interactions) >= 1
    assert set(tables.pictures) == set(tables.items["id"])
    assert not tables.drops.counts
