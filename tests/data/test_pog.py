"""Alibaba iFashion in the publisher's own format."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from pmg.data.image_shards import Packing
from pmg.data.prepared_tables import load, prepare
from pmg.data.publishers.pog import Pog
from pmg.domain import PmgError

ITEMS = (
    "i1,c53,//img.alicdn.com/1.jpg,韩版 宽松 T恤\n"
    "i2,c7,//img.alicdn.com/2.jpg,连衣裙, 红色, 夏季\n"
    "i3,c7,//img.alicdn.com/3.jpg,短裙\n"
    "i4,c53,//img.alicdn.com/4.jpg,帽子\n"
    "never,c1,//img.alicdn.com/5.jpg,没有人点击\n"
)
USERS = "u1,i1;i2;i1,o1\nu2,i3,o2\nu1,i3,o2\nu3,i1,o1\n"
OUTFITS = "o1,i4;i2\no2,i4\n"


@pytest.fixture
def publisher(tmp_path):
    """Writes the publisher's files, and pictures of four items."""

    def write(items=ITEMS, users=USERS, outfits=OUTFITS, encoding="utf-8"):
        (tmp_path / "images").mkdir(exist_ok=True)
        for name in ("i1", "i2", "i3", "i4"):
            Image.new("RGB", (20, 20), "red").save(tmp_path / "images" / f"{name}.jpg")
        for name, text in {"item_data.txt": items, "user_data.txt": users, "outfit_data.txt": outfits}.items():
            (tmp_path / name).write_text(text, encoding=encoding)
        return lambda **options: Pog(str(tmp_path), str(tmp_path / "images"), **options)

    return write


def clicks(tables):
    rows = tables.interactions
    return [f"{row.user} {row.item} {row.action} {row.timestamp}" for row in rows.itertuples()]


def test_clicks_follow_each_other_and_titles_may_hold_commas(publisher):
    tables = publisher()()()
    assert clicks(tables) == [
        "u1 i1 clicked 0", "u1 i2 clicked 1", "u1 i1 clicked 2", "u2 i3 clicked 0", "u1 i3 clicked 3",
        "u3 i1 clicked 0",
    ]  # fmt: skip
    items = tables.items.set_index("id")
    assert items["title"].to_dict() == {"i1": "韩版 宽松 T恤", "i2": "连衣裙, 红色, 夏季", "i3": "短裙"}
    assert items.loc["i2", "facts"] == {"category": "c7"}
    assert set(tables.files) == {"item_data.txt", "user_data.txt"}
    assert tables.pictures["i1"].name == "i1.jpg"


def test_garments_of_the_clicked_outfit_follow_where_they_are_wanted(publisher):
    tables = publisher()(outfits=True, users=1)()
    assert clicks(tables) == [
        "u1 i1 clicked 0", "u1 i2 clicked 1", "u1 i1 clicked 2", "u1 i4 clicked in an outfit 3",
        "u1 i2 clicked in an outfit 4", "u1 i3 clicked 5", "u1 i4 clicked in an outfit 6",
    ]  # fmt: skip


def test_prepared_clicks_keep_repetitions_and_pictures(publisher, tmp_path):
    counts = prepare(publisher()(), str(tmp_path / "made"), pictures=Packing(16))
    assert (counts["users"], counts["items"], counts["interactions"], counts["pictures"]) == (3, 3, 6, 3)
    assert counts["dropped"] == {}
    assert load(str(tmp_path / "made"), "pog")[0]["picture"].tolist() == [0, 1, 2]


def test_bad_lines_are_counted_and_named(publisher, tmp_path):
    source = publisher(
        items=ITEMS + "i1,c53,//x,again\ni2,c7\ni3,c1,//x, \nbroken\n",
        users=USERS + "u4,i1;gone\n,i1,o1\nu5,i1;;i3;,o9\n",
    )
    counts = prepare(source(outfits=True), str(tmp_path / "made"), max_dropped=0.9, pictures=Packing(16))
    assert counts["dropped"] == {
        "is a line of user_data.txt without its 3 fields": 2,
        "is a clicked outfit that outfit_data.txt lacks": 1,
        "is an item that repeats an earlier id": 1,
        "is a line of item_data.txt without its 4 fields": 2,
    }
    first = json.loads((tmp_path / "made" / "manifest.json").read_text())["first"]
    assert first["is a line of user_data.txt without its 3 fields"] == "row 5: u4,i1;gone"
    missing = publisher(users="u1,i1;gone,o1\n")
    counts = prepare(missing(), str(tmp_path / "other"), max_dropped=0.5, pictures=Packing(16))
    assert counts["dropped"] == {"names an item that the items lack": 1}


def test_missing_and_wrongly_encoded_files_are_named(publisher, tmp_path):
    source = publisher(encoding="gb18030")
    with pytest.raises(PmgError, match=r"item_data.txt is not UTF-8 \(byte 30, line 1\); get it from https://github"):
        source()()
    publisher()
    (tmp_path / "outfit_data.txt").unlink()
    source()()
    with pytest.raises(PmgError, match=r"has no outfit_data.txt; get it from https://github.com/wenyuer/POG"):
        source(outfits=True)()
    with pytest.raises(PmgError, match=r"nowhere is no folder of pictures; it should hold a picture an item"):
        Pog(str(tmp_path), "nowhere")()


def test_bad_lines_of_items_that_nobody_clicked_do_not_count(publisher):
    tables = publisher(items=ITEMS + "never2,c1\n" * 50)()()
    assert set(tables.items["id"]) == {"i1", "i2", "i3"}
