"""The shipped catalogue, and what happens when it is damaged."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pmg.data.emoji.catalogue import MANIFEST, TABLE, Catalogue, write_table
from pmg.domain import PmgError


@pytest.fixture
def folder(root, tmp_path):
    """A copy of the shipped catalogue that a test may damage."""
    return shutil.copytree(root / "assets" / "emoji", tmp_path / "emoji")


def test_manifest_tells_source_licence_and_checksum_of_every_set(root, emoji):
    manifest = json.loads((root / "assets" / "emoji" / MANIFEST).read_text())
    assert {entry["style"] for entry in manifest["sets"]} == set(emoji.styles)
    for entry in manifest["sets"]:
        assert all(entry[name] for name in ("package", "version", "author", "license", "url", "sha256"))


def test_table_is_small_and_holds_ten_styles_of_many_concepts(root):
    path = root / "assets" / "emoji" / TABLE
    table = pq.read_table(path, columns=["concept", "style"])
    assert path.stat().st_size <= 20 * 2**20
    assert len(set(table["style"].to_pylist())) == 10
    assert len(set(table["concept"].to_pylist())) >= 700


def test_images_are_drawings_on_white(emoji):
    images = emoji.images.pixels(torch.arange(50))
    assert images.shape == (50, 3, 64, 64)
    assert images.min() >= -1
    assert images.max() == 1
    assert (images[:, :, 0, 0] == 1).float().mean() > 0.9


def test_facts_hide_the_artists_hand(emoji):
    assert all("artist_style" not in item.facts and "pack" in item.facts for item in emoji.images.items)


def test_damaged_table_is_refused(folder, emoji):
    data = bytearray((folder / TABLE).read_bytes())
    data[1000] ^= 1
    (folder / TABLE).write_bytes(data)
    with pytest.raises(PmgError, match=r"catalogue\.parquet does not match the checksum.*git checkout"):
        Catalogue.load(str(folder), emoji.styles)


def test_missing_table_is_refused(folder, emoji):
    (folder / TABLE).unlink()
    with pytest.raises(PmgError, match=r"catalogue\.parquet is missing.*make catalogue"):
        Catalogue.load(str(folder), emoji.styles)


def test_unreadable_image_names_file_and_row(folder, emoji):
    rows = pq.read_table(pa.BufferReader((folder / TABLE).read_bytes())).slice(0, 3).to_pylist()
    rows[1]["image"] = b"no image"
    write_table(folder, rows, {})
    with pytest.raises(PmgError, match=rf"{TABLE}: the image of row '{rows[1]['id']}' can't be read"):
        Catalogue.load(str(folder), emoji.styles)


def test_unknown_topic_is_named(root, emoji):
    with pytest.raises(PmgError, match="animal-unicorn"):
        Catalogue.load(str(root / "assets" / "emoji"), emoji.styles, ["plant-flower", "animal-unicorn"])


def test_same_rows_are_written_bit_for_bit(tmp_path, root):
    rows = pq.read_table(root / "assets" / "emoji" / TABLE).slice(0, 20).to_pylist()
    assert write_table(tmp_path / "a", rows, {}) == write_table(tmp_path / "b", rows, {})
