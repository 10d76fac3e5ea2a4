"""From published packs to rows."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from pmg.domain import PmgError
from pmg.looks.artwork import draw_rows, encode, framed, slugify
from pmg.looks.icon_packs import BitmapFilesPack, Concept, IconifyPack, SvgFilesPack, read_member

CIRCLE = '<circle cx="8" cy="8" r="6" fill="red"/>'
BALL = Concept("ball", "26BD-FE0F", "ball", (), "g", "s")


def archive(path, files):
    """An npm package of `files`, bytes by name."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def pack(tmp_path):
    """One drawing and an alias of it."""
    icons = {"icons": {"ball": {"body": CIRCLE}}, "aliases": {"sphere": {"parent": "ball"}}, "width": 16, "height": 16}
    return IconifyPack(archive(tmp_path / "icons.tgz", {"icons.json": json.dumps(icons).encode()}))


@pytest.mark.parametrize(
    ("label", "slug"),
    [("Woman’s Hat", "womans-hat"), ("piñata", "pinata"), ("Mrs. Claus!", "mrs-claus"), ("8-ball", "8-ball")],
)
def test_slugs_are_those_of_the_packs(label, slug):
    assert slugify(label) == slug


def test_a_drawing_is_transparent_around_its_shape(pack):
    pixels = np.asarray(pack.draw(BALL, 32))
    assert pixels.shape == (32, 32, 4)
    assert pixels[0, 0, 3] == 0
    assert tuple(pixels[16, 16]) == (255, 0, 0, 255)


def test_an_alias_has_the_drawing_of_its_parent(pack):
    assert pack.svg("sphere") == pack.svg("ball")


@pytest.mark.parametrize("name", ["26BD.svg", "26BD-FE0F.svg"])
def test_files_are_found_by_code_points_with_and_without_variation_selector(tmp_path, name):
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{CIRCLE}</svg>'
    pack = SvgFilesPack(archive(tmp_path / "a.tgz", {f"black/{name}": svg.encode()}), "black")
    assert pack.draws(BALL)
    assert not pack.draws(Concept("cube", "1F9CA", "cube", (), "g", "s"))
    assert tuple(np.asarray(pack.draw(BALL, 32))[16, 16]) == (255, 0, 0, 255)


def test_bitmaps_are_reduced(tmp_path):
    bitmap = encode(Image.new("RGBA", (64, 64), (0, 255, 0, 255)))
    pack = BitmapFilesPack(archive(tmp_path / "a.tgz", {"assets/26bd.webp": bitmap}), "assets")
    assert np.array_equal(np.asarray(pack.draw(BALL, 16)), np.full((16, 16, 4), (0, 255, 0, 255), np.uint8))


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(PmgError, match="no files in color"):
        SvgFilesPack(archive(tmp_path / "a.tgz", {"black/a.svg": b""}), "color")


def test_encoding_loses_nothing(pack):
    image = pack.draw(BALL, 32)
    with Image.open(io.BytesIO(encode(image))) as again:
        assert np.array_equal(np.asarray(image), np.asarray(again.convert("RGBA")))


def test_a_margin_and_a_ground_are_added(pack):
    image = framed(pack.draw(BALL, 24), 4, "white")
    pixels = np.asarray(image)
    assert (image.mode, image.size) == ("RGB", (32, 32))
    assert tuple(pixels[0, 0]) == (255, 255, 255)
    assert tuple(pixels[16, 16]) == (255, 0, 0)


def test_concepts_of_too_few_packs_are_left_out(pack):
    concepts = [BALL, Concept("cube", "1F9CA", "cube", (), "g", "s")]
    assert [row["id"] for row in draw_rows({"round": pack}, concepts, 16, 1)] == ["ball@round"]
    assert list(draw_rows({"round": pack}, concepts, 16, 2)) == []


def test_truncated_archive_is_named(tmp_path):
    path = archive(tmp_path / "pack.tgz", {"icons.json": b"{}" * 5000})
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(PmgError, match=r"pack\.tgz is damaged.*make catalogue"):
        read_member(path, "icons.json")
