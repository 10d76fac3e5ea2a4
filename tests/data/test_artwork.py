"""From SVG packs to rows."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from pmg.data.artwork import Concept, IconPack, draw_rows, encode, rasterise, read_members, slugify
from pmg.domain import PmgError

CIRCLE = '<circle cx="8" cy="8" r="6" fill="red"/>'


@pytest.fixture
def pack():
    """One drawing and an alias of it."""
    icons = {"icons": {"ball": {"body": CIRCLE}}, "aliases": {"sphere": {"parent": "ball"}}, "width": 16, "height": 16}
    return IconPack("round", "@x/round", "1.0", "A", "MIT", "https://example.org", "0" * 64, icons)


@pytest.mark.parametrize(
    ("label", "slug"),
    [("Woman’s Hat", "womans-hat"), ("piñata", "pinata"), ("Mrs. Claus!", "mrs-claus"), ("8-ball", "8-ball")],
)
def test_slugs_are_those_of_the_packs(label, slug):
    assert slugify(label) == slug


def test_drawing_lies_on_white(pack):
    pixels = np.asarray(rasterise(pack.svg("ball"), 32))
    assert tuple(pixels[0, 0]) == (255, 255, 255)
    assert tuple(pixels[16, 16]) == (255, 0, 0)


def test_alias_draws_its_parent(pack):
    assert pack.svg("sphere") == pack.svg("ball")


def test_encoding_loses_nothing(pack):
    image = rasterise(pack.svg("ball"), 32)
    with Image.open(io.BytesIO(encode(image))) as again:
        assert np.array_equal(np.asarray(image), np.asarray(again.convert("RGB")))


def test_concepts_of_too_few_packs_are_left_out(pack):
    concepts = [Concept("ball", "ball", (), "g", "s"), Concept("cube", "cube", (), "g", "s")]
    assert [row["id"] for row in draw_rows([pack], concepts, 16, 1)] == ["ball@round"]
    assert list(draw_rows([pack], concepts, 16, 2)) == []


def test_truncated_archive_is_named(tmp_path):
    path = tmp_path / "pack.tgz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("package/icons.json"), io.BytesIO())
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(PmgError, match=r"pack\.tgz is damaged.*make catalogue"):
        read_members(path, ["icons.json"])
