"""FLICKR-AES in the authors' own format."""

from __future__ import annotations

import pytest
from PIL import Image

from pmg.data.feedback import Feedback
from pmg.data.image_shards import Packing
from pmg.data.interactions import InteractionData
from pmg.data.prepared_tables import prepare
from pmg.data.publishers.flickr_aes import FILE, FlickrAes
from pmg.data.windowing import Windows
from pmg.domain import PmgError

RATINGS = """worker, imagePair, score
A1,farm1_2_a.jpg,5
A1,farm1_2_b.jpg,1
B2,farm1_2_a.jpg,3
A1,farm1_2_c.jpg,4
A1,farm1_2_d.jpg,5
"""


@pytest.fixture
def authors(tmp_path):
    """Writes the ratings, and photos with different stripes."""

    def write(text=RATINGS, encoding="utf-8"):
        (tmp_path / FILE).write_text(text, encoding=encoding)
        (tmp_path / "40K").mkdir(exist_ok=True)
        for number, name in enumerate("abcd"):
            photo = Image.new("RGB", (64, 48), "white")
            for place in range(0, 64, 8 * (number + 1)):
                photo.paste("navy", (place, 12 * number, place + 4 + number, 48))
            photo.save(tmp_path / "40K" / f"farm1_2_{name}.jpg")
        return FlickrAes(str(tmp_path), str(tmp_path / "40K"))

    return write


def test_ratings_become_likes_in_the_order_of_their_rows(authors, tmp_path):
    counts = prepare(authors(), str(tmp_path / "made"), pictures=Packing(32))
    assert counts == {
        "users": 2, "items": 4, "interactions": 5, "dropped": {}, "items_without_interactions": 0,
        "pictures": 4, "pictures_left_out": {},
        "pictures_changed": {},
    }  # fmt: skip
    data = InteractionData("flickr_aes", str(tmp_path / "made"), Feedback(), {"test": 1.0}, 1, 0, windows=Windows(2))
    (worker,) = data.timelines("test")
    assert [(b.item.id[8], b.action, b.liked, b.timestamp) for b in worker.interactions] == [
        ("a", "rated 5", True, 2), ("b", "rated 1", False, 3), ("c", "rated 4", True, 5), ("d", "rated 5", True, 6),
    ]  # fmt: skip
    (example,) = data.examples("test")
    assert ([b.item.id[8] for b in example.history], example.target.id[8]) == (["a", "b", "c"], "d")
    assert example.target.title == "photo"


def test_bad_ratings_are_counted(authors, tmp_path):
    bad = "A1,farm1_2_a.jpg,5\nA1,farm1_2_a.jpg,6\nA1,farm1_2_a.jpg,good\n,farm1_2_a.jpg,4\nC3,gone.jpg, 4\n"
    counts = prepare(
        authors(RATINGS + bad), str(tmp_path / "made"), max_dropped=0.5, pictures=Packing(16), max_missing_pictures=0.2
    )
    assert counts["dropped"] == {
        "has no score from 1 to 5": 2,
        "lacks a worker or a photo": 1,
        "repeats an earlier row": 1,
    }
    assert counts["pictures_left_out"] == {"picture file is missing": 1}


def test_missing_and_wrong_files_are_named(authors, tmp_path):
    with pytest.raises(PmgError, match=r"has no FLICKR-AES_image_labeled_by_each_worker.csv; get it from https"):
        FlickrAes(str(tmp_path), "40K")()
    with pytest.raises(PmgError, match=r"has no column imagePair; it has worker, image, score"):
        authors(RATINGS.replace("imagePair", "image"))()
    with pytest.raises(PmgError, match=r"is not UTF-8 \(byte 0, line 1\)"):
        authors(encoding="utf-16")()
    authors()
    with pytest.raises(PmgError, match=r"elsewhere is no folder of pictures; get it from https"):
        FlickrAes(str(tmp_path), "elsewhere")()
