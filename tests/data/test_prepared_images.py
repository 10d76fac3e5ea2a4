"""Published pictures become equal squares; what can't be used, or was changed, is counted and named."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from photos import noise
from pmg.data import image_files as picture_files
from pmg.data.image_shards import FITS, Packing
from pmg.data.interactions import as_item
from pmg.data.prepared_tables import Drops, PreparedImages, Tables, load, prepare
from pmg.domain import PmgError


@pytest.fixture
def source(tmp_path):
    """Writes pictures by item and returns a reader of tables with one user who used all items."""

    def write(**pictures):
        folder, paths = tmp_path / "published", {}
        folder.mkdir(exist_ok=True)
        for item, content in pictures.items():
            path = paths[item] = folder / f"{item}.png"
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content is not None:
                content.save(path)
        names = list(pictures)
        items = pd.DataFrame({"id": names, "concept": names, "title": names, "topic": ""})
        items = items.assign(keywords=[[] for _ in names], facts=[{} for _ in names])
        rows = pd.DataFrame({"user": "u", "item": names, "action": "sent", "rating": np.nan, "timestamp": 1})
        return lambda: Tables(items, rows, Drops(), {}, paths)

    return write


def opened(folder):
    """The pictures of a prepared folder, and its items by id."""
    table, _ = load(str(folder), "mine")
    items = {row["id"]: as_item(row) for row in table.to_dict("records")}
    return PreparedImages.load(str(folder), "mine", table, items), items


def encoded(image, **how):
    buffer = io.BytesIO()
    image.save(buffer, **how)
    return buffer.getvalue()


def test_pictures_come_back_by_item_and_lossless(source, tmp_path):
    names = ["a", "b", "c"]
    prepare(source(**{name: noise(n) for n, name in enumerate(names)}), str(tmp_path / "made"), pictures=Packing(32))
    pictures, items = opened(tmp_path / "made")
    rows = pictures.rows([items["c"], items["a"]])
    pixels = pictures.pixels(rows)
    assert (pixels.shape, pixels.dtype) == ((2, 3, 32, 32), torch.float32)
    expected = np.asarray(FITS["crop"](noise(2), (32, 32), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    torch.testing.assert_close((pixels[0] + 1) * 127.5, torch.tensor(expected).float())
    assert [item.id for item in pictures.items] == names
    assert pictures.pixels(rows[:0]).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_fit_cuts_the_middle_square_or_adds_white(source, tmp_path, fit):
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("blue", (30, 0, 60, 30))
    prepare(source(a=wide), str(tmp_path / "made"), pictures=Packing(30, fit))
    pictures, items = opened(tmp_path / "made")
    corner, middle = (pictures.pixels(pictures.rows([items["a"]]))[0][:, place, place] for place in (1, 15))
    assert middle.tolist() == [-1, -1, 1]
    assert corner.tolist() == ([-1, -1, 1] if fit == "crop" else [1, 1, 1])


def test_unusable_pictures_are_counted_named_and_keep_their_items(source, tmp_path):
    whole = encoded(noise(0, (200, 200)), format="PNG")
    read = source(good=noise(1), empty=b"", text=b"<html>404</html>", cut=whole[: len(whole) // 2], absent=None)
    counts = prepare(read, str(tmp_path / "made"), pictures=Packing(16), max_missing_pictures=0.8)
    assert (counts["items"], counts["pictures"]) == (5, 1)
    assert counts["pictures_left_out"] == {
        picture_files.EMPTY: 1, picture_files.NO_IMAGE: 1, picture_files.DAMAGED: 1, picture_files.MISSING: 1,
    }  # fmt: skip
    manifest = json.loads((tmp_path / "made" / "manifest.json").read_text())
    assert manifest["first"][picture_files.NO_IMAGE] == "item text: text.png"
    pictures, items = opened(tmp_path / "made")
    assert [pictures.has(items[name]) for name in ("good", "cut")] == [True, False]
    with pytest.raises(PmgError, match=r"item 'cut' of .* has no picture"):
        pictures.rows([items["cut"]])


def test_an_eps_that_is_called_png_starts_no_program(source, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "check_call", pytest.fail)  # by which Pillow starts Ghostscript
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    counts = prepare(source(good=noise(1), other=drawing), str(tmp_path / "made"), max_missing_pictures=0.8)
    assert counts["pictures_left_out"] == {picture_files.NO_IMAGE: 1}


def test_too_many_missing_pictures_are_refused_and_nothing_is_left(source, tmp_path):
    made = tmp_path / "made"
    with pytest.raises(
        PmgError, match=r"1 of 2 items have no usable picture, source.max_missing_pictures allows 10%: 1 x p"
    ):
        prepare(source(a=noise(0), b=None), str(made), max_missing_pictures=0.1)
    assert not made.exists()
    with pytest.raises(PmgError, match=r"1 x picture file is no image \(first: item b: b.png\)"):
        prepare(source(a=noise(0), b=b"text"), str(made), max_missing_pictures=0.1)
    assert not list(made.iterdir())


def test_refused_pictures_leave_the_old_ones_whole(source, tmp_path):
    prepare(source(a=noise(0)), str(tmp_path / "made"), pictures=Packing(16))
    with pytest.raises(PmgError, match="no usable picture"):
        prepare(source(a=b"text"), str(tmp_path / "made"), pictures=Packing(16))
    pictures, items = opened(tmp_path / "made")
    assert pictures.pixels(pictures.rows([items["a"]])).shape == (1, 3, 16, 16)


def test_unusual_pictures_are_converted_and_counted(source, tmp_path):
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    deep = Image.fromarray(np.full((20, 20), 65535, np.uint16))
    frames = [Image.new("RGB", (20, 20), color) for color in ("lime", "black")]
    counts = prepare(
        source(
            cmyk=encoded(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), format="JPEG"),
            clear=clear,
            opaque=Image.new("RGBA", (20, 20), "blue"),
            palette=encoded(Image.new("P", (20, 20)), format="GIF", transparency=0),
            moving=encoded(frames[0], format="GIF", save_all=True, append_images=frames[1:]),
            deep=deep,
            grey=Image.new("L", (20, 20), 255),
        ),
        str(tmp_path / "made"),
        pictures=Packing(16),
    )
    assert counts["pictures_left_out"] == {}
    assert counts["pictures_changed"] == {
        picture_files.CMYK: 1,
        picture_files.CLEAR: 2,
        picture_files.ANIMATED: 1,
        picture_files.DEEP: 1,
    }
    pictures, items = opened(tmp_path / "made")
    colors = pictures.pixels(pictures.rows(items.values()))[:, :, 8, 8]
    expected = {
        "cmyk": [1, -1, -1], "clear": [1, 1, 1], "opaque": [-1, -1, 1], "palette": [1, 1, 1],
        "moving": [-1, 1, -1], "deep": [1, 1, 1], "grey": [1, 1, 1],
    }  # fmt: skip
    assert dict(zip(items, colors.tolist(), strict=True)) == expected


def test_photos_are_turned_upright(source, tmp_path):
    lying = Image.new("RGB", (40, 40), "red")
    lying.paste("blue", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    counts = prepare(source(a=encoded(lying, format="PNG", exif=exif)), str(tmp_path / "made"), pictures=Packing(16))
    pictures, items = opened(tmp_path / "made")
    assert pictures.pixels(pictures.rows([items["a"]]))[0, :, 2, 8].tolist() == [1, -1, -1]
    assert counts["pictures_changed"] == {picture_files.TURNED: 1}


def test_shards_hold_their_share_and_rows_cross_them(source, tmp_path, monkeypatch):
    for module in ("image_shards", "prepared_tables"):
        monkeypatch.setattr(f"pmg.data.{module}.PER_SHARD", 2)
    content = {f"i{n}": (None if n == 1 else Image.new("RGB", (8, 8), (n, 0, 0))) for n in range(6)}
    prepare(source(**content), str(tmp_path / "made"), pictures=Packing(8), max_missing_pictures=0.2)
    assert len(list((tmp_path / "made" / "pictures").iterdir())) == 3
    pictures, items = opened(tmp_path / "made")
    reds = pictures.pixels(pictures.rows([items[name] for name in ("i5", "i0", "i3")]))[:, 0, 0, 0]
    assert ((reds + 1) * 127.5).round().tolist() == [5, 0, 3]


def test_files_that_are_not_ours_are_not_replaced(source, tmp_path):
    made = tmp_path / "made"
    (made / "pictures").mkdir(parents=True)
    mine = made / "pictures" / "mug.jpg"
    mine.write_bytes(b"mine")
    with pytest.raises(
        PmgError, match=r"mug.jpg would be replaced, and pmg-prepare did not make it; prepare into anoth"
    ):
        prepare(source(a=noise(0)), str(made))
    assert mine.read_bytes() == b"mine"
    mine.unlink()
    (made / "items.parquet").write_bytes(b"mine")
    with pytest.raises(PmgError, match=r"items.parquet would be replaced"):
        prepare(source(a=noise(0)), str(made))
    (made / "items.parquet").unlink()
    for _ in range(2):  # and once more over our own
        assert prepare(source(a=noise(0)), str(made))["pictures"] == 1


@pytest.mark.parametrize("limit", ["PIL.Image.MAX_IMAGE_PIXELS", "pmg.data.image_files.MOST_PIXELS"])
def test_huge_pictures_are_not_decoded(source, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(limit, 100)
    counts = prepare(source(a=noise(0)), str(tmp_path / "made"), max_missing_pictures=1.0)
    assert counts["pictures_left_out"] == {picture_files.TOO_LARGE: 1}


def test_damaged_shard_is_refused_when_it_is_opened(source, tmp_path):
    prepare(source(a=noise(0)), str(tmp_path / "made"), pictures=Packing(16))
    shard = tmp_path / "made" / "pictures" / "00000.arrow"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    pictures, _ = opened(tmp_path / "made")
    with pytest.raises(
        PmgError, match=r"00000.arrow is missing or not what its manifest says; make it again: pmg-pre"
    ):
        pictures.pixels(torch.tensor([0]))


def test_hashes_of_copies_are_near_and_of_others_far(source, tmp_path):
    photo = noise(0, (200, 200))
    copies = {"jpeg": encoded(photo, format="JPEG", quality=60), "small": photo.resize((90, 90)), "photo": photo}
    others = {f"other{n}": noise(n, (200, 200)) for n in range(1, 6)}
    prepare(source(**copies, **others), str(tmp_path / "made"), pictures=Packing(64))
    hashes = {row["id"]: int(row["phash"], 16) for row in load(str(tmp_path / "made"), "mine")[0].to_dict("records")}
    bits = {name: (value ^ hashes["photo"]).bit_count() for name, value in hashes.items()}
    assert max(bits[name] for name in copies) <= 4
    assert min(bits[name] for name in others) >= 16


def test_missing_packages_say_the_way_out(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(PmgError, match=r"pip install 'pmg-personalised\[images\]'"):
        prepare(source(a=noise(0)), str(tmp_path / "made"))


def test_data_without_pictures_have_none(source, tmp_path):
    tables = source(a=noise(0))()
    plain = Tables(tables.items, tables.interactions, Drops(), {})
    counts = prepare(lambda: plain, str(tmp_path / "made"))
    assert set(counts) == {"users", "items", "interactions", "dropped", "items_without_interactions"}
    assert opened(tmp_path / "made")[0] is None
    assert not (tmp_path / "made" / "pictures").exists()


def test_a_broken_off_packing_goes_on_behind_its_last_shard(source, tmp_path, monkeypatch):
    monkeypatch.setattr("pmg.data.image_shards.PER_SHARD", 2)
    monkeypatch.setattr("pmg.data.image_shards.AT_ONCE", 2)
    pictures = {f"i{n}": noise(n) for n in range(6)} | {"i3": None}
    read, square, seen, broken = source(**pictures), Packing._square, [], []
    prepare(read, str(tmp_path / "whole"), max_missing_pictures=0.5)

    def breaks_at_the_fifth(packing, path, hasher):
        seen.append(path)
        if len(seen) == 5 and not broken:
            broken.append(path)
            raise KeyboardInterrupt
        return square(packing, path, hasher)

    monkeypatch.setattr(Packing, "_square", breaks_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        prepare(read, str(tmp_path / "made"), max_missing_pictures=0.5)
    first = (tmp_path / "made" / ".pictures" / "00000.arrow").stat().st_ino
    prepare(read, str(tmp_path / "made"), max_missing_pictures=0.5)
    assert (tmp_path / "made" / "pictures" / "00000.arrow").stat().st_ino == first
    assert len(seen) < 5 + len(pictures)
    seen.clear()
    prepare(read, str(tmp_path / "made"), max_missing_pictures=0.5)
    assert seen == []  # what is packed stays as it is
    flipped = tmp_path / "made" / "pictures" / "00001.arrow"
    flipped.write_bytes(flipped.read_bytes()[:-1])
    prepare(read, str(tmp_path / "made"), max_missing_pictures=0.5)
    whole, made = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("whole", "made")
    )
    assert made == whole


def test_pictures_of_another_size_or_content_replace_those_that_were_packed(source, tmp_path):
    def corner(read, size):
        prepare(read, str(tmp_path / "made"), pictures=Packing(size))
        pictures, items = opened(tmp_path / "made")
        pixels = pictures.pixels(pictures.rows(items.values()))
        return pixels.shape[-1], pixels[0, :, 0, 0].tolist()

    read = source(a=Image.new("RGB", (20, 20), "red"))
    assert [corner(read, size) for size in (16, 8)] == [(16, [1, -1, -1]), (8, [1, -1, -1])]
    assert corner(source(a=Image.new("RGB", (20, 20), "blue")), 8) == (8, [-1, -1, 1])


def test_tables_without_a_manifest_of_a_killed_preparation_are_ours(source, tmp_path):
    read = source(a=noise(0))
    prepare(read, str(tmp_path / "made"))
    (tmp_path / "made" / "manifest.json").unlink()
    prepare(read, str(tmp_path / "made"))
    assert (tmp_path / "made" / "manifest.json").is_file()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 1}', '{"sha256": {"items.parquet": "0"}}'])
def test_damaged_manifests_are_named(source, tmp_path, text):
    prepare(source(a=noise(0)), str(tmp_path / "made"), pictures=Packing(16))
    (tmp_path / "made" / "manifest.json").write_text(text)
    with pytest.raises(PmgError, match=r"manifest.json is damaged; make it again: pmg-prepare data=mine"):
        load(str(tmp_path / "made"), "mine")
