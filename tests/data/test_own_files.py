"""Your own items and interactions, in three forms and as an imagefolder."""

from __future__ import annotations

import json
import re

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from pmg.commands.prepare import body
from pmg.data.feedback import Feedback
from pmg.data.image_shards import Packing
from pmg.data.interactions import InteractionData
from pmg.data.own_files import OwnFiles
from pmg.data.prepared_tables import load, prepare
from pmg.data.windowing import Windows
from pmg.domain import PmgError
from pmg.orchestration.run import execute

ITEMS = [
    {"id": 1, "title": "red mug", "keywords": "mug | red", "topic": "mugs", "image": "a.png", "maker": "Ann"},
    {"id": 2, "title": "blue mug", "keywords": None, "topic": "mugs", "image": "b.png", "maker": None},
    {"id": 3, "title": "plate, flat", "keywords": "plate", "topic": None, "image": None, "maker": "Bo"},
]
ROWS = [
    {"user": "u", "item": 1, "action": "bought", "timestamp": 30},
    {"user": "u", "item": 3, "action": "returned", "timestamp": 20},
    {"user": "v", "item": 2, "action": None, "timestamp": 10},
]


@pytest.fixture
def write(tmp_path):
    """Writes rows in a form; returns the path."""

    def file(rows, name, **how):
        path, table = tmp_path / name, pd.DataFrame(rows, dtype=object)
        path.parent.mkdir(exist_ok=True, parents=True)
        if path.suffix == ".csv":
            table.to_csv(path, index=False, **how)
        elif path.suffix == ".parquet":
            table.infer_objects().to_parquet(path, index=False)
        else:
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), **how)
        return str(path)

    return file


def read(items, interactions, images=None, item_columns=None, interaction_columns=None):
    return OwnFiles(items, interactions, images, item_columns or {}, interaction_columns or {})


def draw(path, color="red"):
    path.parent.mkdir(exist_ok=True, parents=True)
    image = Image.new("RGB", (20, 20), "white")
    image.paste(color, (0, 0, 10, 20) if color == "red" else (0, 0, 20, 6))
    image.save(path)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_three_forms_give_the_same_tables(write, ending):
    tables = read(write(ITEMS, f"items.{ending}"), write(ROWS, f"rows.{ending}"))()
    one, two, three = tables.items.to_dict("records")
    assert one == {
        "id": "1", "concept": "1", "title": "red mug", "keywords": ["mug", "red"], "topic": "mugs",
        "facts": {"maker": "Ann"},
    }  # fmt: skip
    assert (two["keywords"], two["facts"]) == ([], {"maker": "unknown"})
    assert (three["title"], three["topic"]) == ("plate, flat", "")
    rows = tables.interactions
    assert list(zip(rows["user"], rows["item"], rows["action"], rows["timestamp"], strict=True)) == [
        ("u", "1", "bought", 30), ("u", "3", "returned", 20), ("v", "2", "chose", 10),
    ]  # fmt: skip
    assert rows["rating"].isna().all()
    assert {item: path.name for item, path in tables.pictures.items()} == {"1": "a.png", "2": "b.png"}
    assert set(tables.files) == {f"items.{ending}", f"rows.{ending}"}


def test_columns_may_have_other_names(write):
    items = write([{"sku": "x", "name": "mug", "tags": ["warm", "red"], "year": 1999}], "items.jsonl")
    rows = write([{"who": "u", "sku": "x", "stars": "4.5"}], "rows.csv")
    names = {"id": "sku", "title": "name", "keywords": "tags"}
    tables = read(items, rows, None, names, {"user": "who", "item": "sku", "rating": "stars"})()
    assert tables.items.iloc[0][["id", "title", "keywords", "facts"]].tolist() == [
        "x",
        "mug",
        ["warm", "red"],
        {"year": "1999"},
    ]
    assert tables.interactions.iloc[0].tolist() == ["u", "x", "chose", 4.5, 0]
    assert tables.pictures is None
    with pytest.raises(
        PmgError, match=r"no column label for topic: name it, source.read.item_columns.topic=COLUMN; it has sku"
    ):
        read(items, rows, None, {**names, "topic": "label"})()
    with pytest.raises(PmgError, match=r"source.read.item_columns knows no 'titel'; did you mean 'title'\?"):
        read(items, rows, None, {"titel": "name"})


def test_columns_that_are_null_are_not_read(write):
    items, rows = write(ITEMS, "items.csv"), write(ROWS, "rows.csv")
    tables = read(items, rows, None, {"image": None, "topic": None}, {"timestamp": None})()
    assert tables.pictures is None
    assert tables.items["facts"][0] == {"topic": "mugs", "image": "a.png", "maker": "Ann"}
    assert tables.interactions["timestamp"].tolist() == [0, 1, 2]
    with pytest.raises(
        PmgError, match=r"no column name for title: name it, source.read.item_columns.title=COLUMN; it has id"
    ):
        read(items, rows, None, {"title": "name"})()


def test_command_prepares_what_the_template_names(write, tmp_path, compose, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    items = [{"sku": "x", "title": "mug", "image": "a.png"}, {"sku": "y", "title": "cup", "image": "a.gif"}]
    write(items, "items.csv")
    write([{"user": "u", "item": "x"}, {"user": "u", "item": "y"}], "rows.csv")
    draw(tmp_path / "a.png")
    files = ["source.read.items=items.csv", "source.read.interactions=rows.csv", "source.read.item_columns.id=sku"]
    cfg = compose("prepare", "data=own_files", "data.folder=mine", *files, "source.max_missing_pictures=0.5")
    execute(cfg, "prepare", body)
    told = capsys.readouterr().out
    assert "pictures: 1" in told
    assert "pictures_left_out: {'picture file is missing': 1}" in told
    assert (tmp_path / "mine" / "pictures" / "00000.arrow").is_file()


def test_shipped_template_names_the_columns_of_the_schema(root):
    shipped = yaml.safe_load((root / "conf/source/own_files.yaml").read_text())["read"]
    given = {name: value for name, value in shipped.items() if name != "_target_"}
    reader = OwnFiles(**given)
    assert all(name == column for name, column in {**reader.item_columns, **reader.interaction_columns}.items())


def test_template_of_the_guide_runs(root, tmp_path):
    items, rows = re.findall(r"```csv\n(.*?)```", (root / "docs/own_data.md").read_text(), re.DOTALL)
    (tmp_path / "items.csv").write_text(items)
    (tmp_path / "interactions.csv").write_text(rows)
    for name in ("red_mug.png", "blue_mug.png"):
        draw(tmp_path / name, name.split("_")[0])
    files = str(tmp_path / "items.csv"), str(tmp_path / "interactions.csv")
    counts = prepare(
        read(*files, None, {"id": "sku"}, {"item": "sku"}), str(tmp_path / "made"), max_missing_pictures=0.4
    )
    assert (counts["users"], counts["items"], counts["pictures"], counts["dropped"]) == (1, 3, 2, {})
    data = InteractionData("shop", str(tmp_path / "made"), Feedback(), {"test": 1.0}, 1, 0, windows=Windows(1))
    (example,) = data.examples("test")
    assert ([item.title for item in example.liked], example.target.title) == (["red mug"], "blue mug")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_imagefolder_is_prepared_and_asked(write, tmp_path, ending):
    names = ["one.png", "deep/two.png"]
    for name, color in zip(names, ("red", "blue"), strict=True):
        draw(tmp_path / "shop" / name, color)
    write([{"file_name": name, "text": f"a drawing {name}"} for name in names], f"shop/metadata.{ending}")
    rows = write([{"user": "u", "item": name} for name in names], "rows.csv")
    source = read(str(tmp_path / "shop"), rows, None, {"title": "text"})
    counts = prepare(source, str(tmp_path / "made"), pictures=Packing(16))
    assert (counts["pictures"], counts["items"]) == (2, 2)
    data = InteractionData("shop", str(tmp_path / "made"), Feedback(), {"test": 1.0}, 1, 0, windows=Windows(1))
    (example,) = data.examples("test")
    assert (example.liked[0].id, example.target.title) == ("one.png", "a drawing deep/two.png")
    assert read(str(tmp_path / "shop"), rows, None, {"title": "text", "image": None})().pictures is None
    (tmp_path / "shop" / "metadata.parquet").write_bytes(b"")
    with pytest.raises(PmgError, match=r"shop has 2 of metadata.csv, metadata.jsonl, metadata.parquet, one is needed"):
        source()


def test_pictures_may_lie_elsewhere(write, tmp_path):
    draw(tmp_path / "photos" / "a.png")
    draw(tmp_path / "photos" / "b.png")
    source = read(write(ITEMS, "items.csv"), write(ROWS, "rows.csv"), str(tmp_path / "photos"))
    counts = prepare(source, str(tmp_path / "made"), pictures=Packing(16), max_missing_pictures=0.4)
    assert counts["pictures_left_out"] == {"picture file is missing": 1}
    assert load(str(tmp_path / "made"), "own_files")[0]["picture"].tolist() == [0, 1, -1]


def test_times_are_seconds_dates_or_the_order_of_rows(write):
    times = [5, "1970-01-01T00:00:07+00:00", "1970-01-01", "1970-01-01T01:00:00+01:00", "yesterday"]
    rows = [{"user": "u", "item": 1, "timestamp": time} for time in times]
    items = write(ITEMS, "items.csv")
    for name in ("rows.csv", "rows.jsonl"):
        tables = read(items, write(rows, name))()
        assert tables.interactions["timestamp"].tolist() == [5, 7, 0, 0]
        assert tables.drops.counts == {"has a timestamp that is neither seconds nor ISO 8601, e.g. 2024-12-31": 1}
        assert "timestamp yesterday" in next(iter(tables.drops.first.values()))
    dates = [{"user": "u", "item": 1, "timestamp": pd.Timestamp(9, unit="s")}]
    assert read(items, write(dates, "rows.parquet"))().interactions["timestamp"].tolist() == [9]
    plain = [{"user": "u", "item": item} for item in (3, 1, 3)]
    tables = read(items, write(plain, "plain.csv"))()
    assert tables.interactions["timestamp"].tolist() == [0, 1]
    assert tables.drops.counts == {"repeats an earlier row": 1}


def test_ratings_of_one_day_stay_in_the_order_of_the_file(write, tmp_path):
    """Neither is a repetition of the other, and the last counts; half an emoji is no reason to stop."""
    rows = [
        {"user": "u", "item": item, "rating": rating, "timestamp": "2024-02-01"}
        for item, rating in ((3, 5), (1, 5), (3, 1))
    ]
    items = [{"id": item["id"], "title": "mug \ud83d"} for item in ITEMS]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    prepare(read(str(tmp_path / "items.jsonl"), write(rows, "rows.csv")), str(tmp_path / "made"))
    kept = pd.read_parquet(tmp_path / "made" / "interactions.parquet")
    assert list(zip(kept["item"], kept["rating"], strict=True)) == [("3", 5), ("1", 5), ("3", 1)]
    assert set(pd.read_parquet(tmp_path / "made" / "items.parquet")["title"]) == {"mug ?"}


def test_bad_rows_are_counted_and_named(write, tmp_path):
    items = [*ITEMS, {"id": 1, "title": "again"}, {"id": None, "title": "x"}, {"id": 9, "title": " "}]
    rows = [
        *ROWS, ROWS[0], {"user": None, "item": 1, "timestamp": 1}, {"user": "u", "item": 77, "timestamp": 1},
        {"user": "u", "item": 1, "rating": "good", "timestamp": 1}, {"user": "u", "item": 1, "timestamp": "soon"},
    ]  # fmt: skip
    plain = [{name: value for name, value in item.items() if name != "image"} for item in items]
    source = read(write(plain, "items.csv"), write(rows, "rows.csv"))
    counts = prepare(source, str(tmp_path / "made"), max_dropped=0.9)
    assert counts["dropped"] == {
        "is an item without id or title": 2, "is an item that repeats an earlier id": 1, "lacks a user or an item": 1,
        "has a rating that is no number": 1,
        "has a timestamp that is neither seconds nor ISO 8601, e.g. 2024-12-31": 1,
        "names an item that the items lack": 1, "repeats an earlier row": 1,
    }  # fmt: skip
    assert counts["interactions"] == 3
    assert source().drops.first["has a rating that is no number"].startswith("row 8: user u, item 1")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.csv", b"id,title\n1,caf\xe9\n", r"items.csv is not UTF-8 \(byte 14, line 2\); docs/own_data.md"),
        ("items.csv", b"id,name\n1,mug\n", r"items.csv has no column title for title: name it"),
        ("items.csv", b"id;title\n1;mug\n", r"items.csv separates its columns by ';': save it with commas"),
        ("items.csv", b"id, id,title\n1,2,mug\n", r"items.csv has two columns id"),
        ("items.csv", b"id,title,maker,maker\n1,mug,Ann,Bo\n", r"items.csv has two columns maker"),
        (
            "items.jsonl",
            b'{"id": 1, "title": "mug", "image": {"bytes": "x"}}\n',
            r"items.jsonl: column image holds dict: write pictures as files, name those",
        ),
        ("items.jsonl", b'{"id": 1}\n{"id": ', r"items.jsonl: line 2 is no JSON \(Expecting value, column 8\)"),
        ("items.jsonl", b"\n[1]\n", r"items.jsonl: line 2 is no JSON object"),
        ("items.jsonl", b'{"id": "\xff"}\n', r"items.jsonl is not UTF-8 \(byte 8, line 1\)"),
        ("items.parquet", b"PAR1 cut", r"items.parquet is damaged \("),
        ("items.xlsx", b"", r"items.xlsx is neither .csv nor .jsonl nor .parquet"),
        ("nothing.csv", None, r"nothing.csv is no file; docs/own_data.md has the schema"),
    ],
)
def test_bad_files_are_named(write, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PmgError, match=message):
        read(str(tmp_path / name), write(ROWS, "rows.csv"))()


def test_a_table_without_rows_is_named(write, tmp_path):
    (tmp_path / "rows.csv").write_text("user,item\n")
    source = read(write(ITEMS, "items.csv"), str(tmp_path / "rows.csv"))
    with pytest.raises(PmgError, match=r"there are no interactions: items.csv and rows.csv have no row"):
        prepare(source, str(tmp_path / "made"))


def test_rows_of_one_second_keep_their_order_of_time(write, tmp_path):
    rows = [
        {"user": "u", "item": 1, "action": name, "timestamp": f"2024-05-01T10:00:00.{part}00Z"}
        for name, part in (("returned", 9), ("bought", 1))
    ]
    items = [{"id": 1, "title": "red mug"}]
    prepare(read(write(items, "items.csv"), write(rows, "rows.csv")), str(tmp_path / "made"))
    assert [*load(str(tmp_path / "made"), "own_files")[1]["action"]] == ["bought", "returned"]


def test_what_other_programs_write_is_read_or_named(tmp_path):
    binary = pd.DataFrame({"id": [b"1", b"2"], "title": [b"red mug", "caf\u00e9".encode()]}).to_parquet
    binary(tmp_path / "items.parquet")
    odd = [{"user": "u", "item": 1, "action": action} for action in (["bought"], "\ud83d", None)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, odd)))
    tables = read(str(tmp_path / "items.parquet"), str(tmp_path / "rows.jsonl"))()
    assert [*tables.items["title"]] == ["red mug", "caf\u00e9"]
    assert [*tables.interactions["action"]] == ["['bought']", "?", "chose"]
    times = pa.table({"user": ["u"], "item": ["1"], "timestamp": pa.array([2**62], pa.timestamp("us"))})
    pq.write_table(times, tmp_path / "rows.parquet")
    with pytest.raises(PmgError, match=r"rows\.parquet is damaged \(.*range"):
        read(str(tmp_path / "items.parquet"), str(tmp_path / "rows.parquet"))()


def test_blank_lines_count_and_items_are_no_rows_of_interactions(write, tmp_path):
    rows = tmp_path / "rows.csv"
    for before in range(2):
        rows.write_text("\n" * before + "user,item,rating\n\n\nu,1,4\nu,2,good\n")
        drops = read(write(ITEMS, "items.csv"), str(rows))().drops
        assert drops.first["has a rating that is no number"].startswith(f"row {5 + before}: ")
    rows.write_text("user,item,rating\nu,1,4\n")
    items = [*ITEMS, *({"id": 10 + n, "title": None} for n in range(5))]
    plain = [{name: value for name, value in item.items() if name != "image"} for item in items]
    assert prepare(read(write(plain, "items.csv"), str(rows)), str(tmp_path / "made"))["interactions"] == 1


def test_one_bad_row_is_counted_and_named(write, tmp_path):
    items = [{"id": n, "title": f"thing {n}", "image": f"{n}.png"} for n in range(3)]
    items += [{"id": "long", "title": "thing", "image": "x" * 300 + ".png"}]
    for number in range(3):
        draw(tmp_path / f"{number}.png")
    good = [{"user": "u", "item": n % 4 if n % 4 < 3 else "long", "rating": 4, "timestamp": n} for n in range(60)]
    bad = [
        {"user": "u", "item": 1, "rating": 4, "timestamp": "9999-01-01"},
        {"user": "u", "item": 1, "rating": 4, "timestamp": 1e30},
        {"user": "u", "item": 1, "rating": 4, "timestamp": "inf"},
        {"user": "u", "item": 1, "rating": "inf", "timestamp": "2024-01-01"},
        {"user": "u", "item": 1, "rating": "-Infinity", "timestamp": "2024-01-01"},
    ]
    files = write(items, "items.csv"), write([*good, *bad], "rows.csv")
    counts = prepare(read(*files), str(tmp_path / "made"), 0.1, Packing(32), 0.25)
    assert counts["dropped"] == {
        "has a rating that is no number": 2, "has a time outside of the years 1678 to 2261": 3,
    }  # fmt: skip
    assert counts["pictures_left_out"] == {"picture file is missing": 1}
    manifest = json.loads((tmp_path / "made" / "manifest.json").read_text())
    assert manifest["first"]["has a time outside of the years 1678 to 2261"].startswith("row 62: user u, item 1")
    assert manifest["first"]["picture file is missing"].startswith("item long: xxx")
