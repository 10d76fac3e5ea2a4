"""The shipped catalogue, and what happens when it is damaged."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pmg.domain import Item, PmgError
from pmg.installation import find_assets
from pmg.looks.catalogue import MANIFEST, TABLE, TargetCaptions, write_table
from pmg.looks.drawings import Drawings
from pmg.models.vision.perceptual import PerceptualDistance


@pytest.fixture
def folder(root, tmp_path):
    """A copy of the shipped catalogue that a test may damage."""
    return shutil.copytree(root / "assets" / "drawings", tmp_path / "drawings")


def test_manifest_tells_source_licence_and_checksum_of_every_set(root, looks):
    manifest = json.loads((root / "assets" / "drawings" / MANIFEST).read_text())
    assert {entry["style"] for entry in manifest["sets"]} == set(looks.drawings.artists)
    for entry in manifest["sets"]:
        assert all(entry[name] for name in ("package", "version", "author", "license", "url", "sha256"))


def test_table_is_small_and_holds_thirteen_artists_of_many_concepts(root):
    path = root / "assets" / "drawings" / TABLE
    table = pq.read_table(path, columns=["concept", "style"])
    assert path.stat().st_size <= 30 * 2**20
    assert len(set(table["style"].to_pylist())) == 13
    assert len(set(table["concept"].to_pylist())) >= 700


def test_images_are_drawings_with_transparency(looks):
    pixels = looks.drawings.pixels[:50]
    assert pixels.shape == (50, 4, 64, 64)
    assert (pixels[:, 3, 0, 0] == 0).all()
    assert (pixels[:, 3].flatten(1).amax(1) == 255).all()


def test_damaged_table_is_refused(folder):
    data = bytearray((folder / TABLE).read_bytes())
    data[1000] ^= 1
    (folder / TABLE).write_bytes(data)
    with pytest.raises(PmgError, match=r"catalogue\.parquet does not match the checksum.*git checkout"):
        Drawings.load(str(folder))


def test_missing_table_is_refused(folder):
    (folder / TABLE).unlink()
    with pytest.raises(PmgError, match=r"catalogue\.parquet is missing.*make catalogue"):
        Drawings.load(str(folder))


def test_unreadable_image_names_file_and_row(folder):
    rows = pq.read_table(pa.BufferReader((folder / TABLE).read_bytes())).slice(0, 3).to_pylist()
    rows[1]["image"] = b"no image"
    write_table(folder, rows, {})
    with pytest.raises(PmgError, match=rf"{TABLE}: the image of row '{rows[1]['id']}' can't be read"):
        Drawings.load(str(folder))


def test_unknown_topic_is_named(root):
    with pytest.raises(PmgError, match="animal-unicorn"):
        Drawings.load(str(root / "assets" / "drawings"), ["plant-flower", "animal-unicorn"])
    with pytest.raises(PmgError, match=r"data.topics=\[\] leaves no drawing"):
        Drawings.load(str(root / "assets" / "drawings"), [])


def test_same_rows_are_written_bit_for_bit(tmp_path, root):
    rows = pq.read_table(root / "assets" / "drawings" / TABLE).slice(0, 20).to_pylist()
    assert write_table(tmp_path / "a", rows, {}) == write_table(tmp_path / "b", rows, {})


def test_drawings_of_one_concept_by_two_artists_are_nearer_than_those_of_two_concepts(looks):
    perceptual = PerceptualDistance.from_folder(f"{find_assets()}/lpips")
    by_id = {item.id: item for item in looks.drawings.items}

    def picture(concept, artist):
        return looks.images.pixels(looks.images.rows([by_id[f"{concept}@{artist}"]]))

    same = perceptual(picture("red-apple", "noto"), picture("red-apple", "twemoji"))
    other = perceptual(picture("red-apple", "noto"), picture("banana", "twemoji"))
    assert same < other


def test_captions_name_title_keywords_and_other_names(tmp_path):
    item, names = Item("1", "car", "automobile", ("drive", "road", "wheel", "motor")), tmp_path / "names.json"
    plain = [
        "automobile",
        "automobile, sticker",
        "automobile, drive, road, sticker",
        "automobile, road, drive, sticker",
    ]
    assert TargetCaptions("sticker", keywords=2)(item) == plain
    names.write_text('{"automobile": ["car"], "dog": ["hound"]}')
    assert TargetCaptions("sticker", 2, str(names))(item) == plain
    assert TargetCaptions("sticker", 2, str(names), by_names=True)(item) == [*plain, "car, sticker"]


@pytest.mark.parametrize("text", ["{", None, '["car"]', '{"automobile": "car"}'])
def test_names_that_cannot_be_read_are_refused(tmp_path, text):
    if text:
        (tmp_path / "names.json").write_text(text)
    with pytest.raises(PmgError, match=r"names=.*names.json can't be read"):
        TargetCaptions("sticker", names=str(tmp_path / "names.json"))


def test_every_concept_of_the_shipped_generator_has_names_of_its_own(root):
    names = json.loads((root / "assets" / "look_generator" / "unet" / "names.json").read_text())
    titles = set(pq.read_table(root / "assets" / "drawings" / TABLE, columns=["title"])["title"].to_pylist())
    assert set(names) == titles
    every = [name.casefold() for title, some in names.items() for name in (title, *some)]
    assert len(set(every)) == len(every)
    assert min(map(len, names.values())) >= 4
