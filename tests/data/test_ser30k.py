"""SER30K in the authors' own format: themes, annotations, and users who are no people."""

from __future__ import annotations

import json

import pytest
import yaml
from PIL import Image

from pmg.data.image_shards import Packing
from pmg.data.prepared_tables import prepare
from pmg.data.publishers.ser30k import USERS_ARE, Stickers
from pmg.domain import PmgError

FILES = ["01-panda-bear/sticker_10.jpg", "01-panda-bear/sticker_9.jpg", "cute-ghost/sticker_1.png"]
PANDA = {"topic": "01-panda-bear", "anno1": 4, "anno2": 4, "anno3": 5}
ANNOTATIONS = [
    {**PANDA, "file_name": "sticker_9.jpg", "text": "GOOD NIGHT", "anno": 4},
    {**PANDA, "file_name": "sticker_10.jpg", "text": "", "anno": 6},
]


@pytest.fixture
def emotions(root):
    return yaml.safe_load((root / "conf/source/stickers.yaml").read_text())["read"]["emotions"]


@pytest.fixture
def authors(tmp_path, emotions):
    """Writes three stickers of two themes, and annotations."""

    def write(annotations, name="all_annos.json", words=emotions):
        for file in FILES:
            path = tmp_path / "Images" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), "red").save(path)
        text = annotations if isinstance(annotations, str) else json.dumps({"annotations": annotations})
        (tmp_path / name).write_text(text, encoding="utf-8")
        return Stickers(str(tmp_path / "Images"), str(tmp_path / name), words)

    return write


def test_themes_become_pseudo_users_and_the_manifest_says_so(authors, tmp_path):
    (tmp_path / "Images" / "cute-ghost").mkdir(parents=True)
    (tmp_path / "Images" / "cute-ghost" / "Thumbs.db").write_bytes(b"x")
    counts = prepare(authors(ANNOTATIONS), str(tmp_path / "made"), max_dropped=0.3, pictures=Packing(16))
    assert (counts["users"], counts["items"], counts["pictures"]) == (2, 3, 3)
    assert counts["dropped"] == {"is no picture by its name": 1}
    assert json.loads((tmp_path / "made" / "manifest.json").read_text())["users_are"] == USERS_ARE


def test_names_sort_as_people_count_and_facts_come_from_the_annotations(authors):
    tables = authors(ANNOTATIONS)()
    rows = tables.interactions
    assert list(zip(rows["user"], rows["item"], rows["timestamp"], strict=True)) == [
        ("theme:01-panda-bear", FILES[1], 0), ("theme:01-panda-bear", FILES[0], 1), ("theme:cute-ghost", FILES[2], 0),
    ]  # fmt: skip
    nine, ten, ghost = tables.items.to_dict("records")
    assert (nine["title"], nine["topic"], nine["keywords"]) == ("panda bear", "01-panda-bear", ["happiness"])
    assert nine["facts"] == {"emotion": "happiness", "text": "GOOD NIGHT"}
    assert ten["facts"] == {"emotion": "sadness", "text": "none"}
    assert (ghost["facts"], ghost["keywords"]) == ({"emotion": "unknown", "text": "none"}, [])


def test_annotated_pictures_that_are_missing_are_counted(authors, tmp_path):
    gone = {**ANNOTATIONS[0], "topic": "gone-theme"}
    with pytest.raises(PmgError, match=r"1 of 4 items have no usable picture.* item gone-theme/sticker_9.jpg"):
        prepare(authors([*ANNOTATIONS, gone]), str(tmp_path / "made"))


def test_a_table_has_words_and_no_annotations_are_no_fault(authors, emotions):
    table = authors("topic,file_name,text,emotion\ncute-ghost,sticker_1.png,BOO!,fear\n", "mine.csv")()
    assert table.items["facts"].tolist()[2] == {"emotion": "fear", "text": "BOO!"}
    assert table.files.keys() == {"mine.csv"}
    with pytest.raises(PmgError, match=r"mine.csv: row 3 has no topic or no file_name"):
        authors("topic,file_name,text,emotion\na,b,,\n,c,,\n", "mine.csv")()
    plain = Stickers(authors([]).images, None, emotions)()
    assert {facts["emotion"] for facts in plain.items["facts"]} == {"unknown"}


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (
            '{"annotations": [',
            r"all_annos.json has no list of annotations with topic, file_name, anno \(JSONDecodeError",
        ),
        ('{"annos": []}', r"has no list of annotations .*KeyError\('annotations'\)"),
        ([{"topic": "a", "file_name": "b"}], r"KeyError\('anno'\)"),
        ([{"topic": "a", "anno": 1}], r"has no topic or no file_name; ask for it at https"),
        ([{**ANNOTATIONS[0], "anno": 8}], "source.read.emotions has no word for '8'"),
    ],
)
def test_bad_annotations_are_named(authors, annotations, message):
    with pytest.raises(PmgError, match=message):
        authors(annotations)()


@pytest.mark.parametrize("names", [{"4": "Happiness"}, {"happiness": 4}, {}, ["anything"], {"9": "joy"}])
def test_names_in_the_file_agree_with_ours(authors, names):
    authors(json.dumps({"annotations": ANNOTATIONS, "categories": names}))()


@pytest.mark.parametrize("names", [{"4": "neutral"}, {"neutral": 4}])
def test_names_in_the_file_that_differ_from_ours_are_refused(authors, names):
    message = r"all_annos.json calls emotion 4 'neutral', source.read.emotions 'happiness'"
    with pytest.raises(PmgError, match=message):
        authors(json.dumps({"annotations": ANNOTATIONS, "categories": names}))()


def test_missing_files_say_where_to_ask(emotions, authors, tmp_path):
    with pytest.raises(PmgError, match=r"Images is no folder of pictures; ask for it at https"):
        Stickers(str(tmp_path / "Images"), None, emotions)()
    images = authors([]).images
    with pytest.raises(PmgError, match=r"gone.json is no file of annotations; .*source.read.annotations=null"):
        Stickers(images, str(tmp_path / "gone.json"), emotions)()
    (tmp_path / "gone.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(PmgError, match=r"gone.json is not UTF-8 \(byte 7\)"):
        Stickers(images, str(tmp_path / "gone.json"), emotions)()
