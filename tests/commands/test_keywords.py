"""``pmg-prepare`` and ``pmg-keywords`` on the publisher's files, with a tiny language model."""

from __future__ import annotations

import json
import random

import pytest

from pmg.commands.keywords import popular
from pmg.data.dataset import Timeline
from pmg.domain import Example, Interaction, Item

GENRES = ("Action", "Comedy", "Drama", "War", "Western")
TINY = [
    "data=movielens",
    "language_model=tiny",
    "preference_encoder=text",
    "text_encoder=tiny",
    "paths.cache_dir=cache",
    "paths.data_dir=data",
]


@pytest.fixture
def publisher(tmp_path):
    """Forty users who like nine films each of thirty, and dislike one."""
    chance = random.Random(0)
    films = [f"{film},Film {film} (19{50 + film}),{'|'.join(chance.sample(GENRES, 2))}" for film in range(30)]
    rows = [
        f"{user},{film},5.0,{time}" for user in range(40) for time, film in enumerate(chance.sample(range(30), 10))
    ]
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml" / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]))
    (tmp_path / "ml" / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows]))


@pytest.mark.ci
@pytest.mark.slow
def test_prepared_users_get_keywords_that_are_compared_with_later_likes(publisher, pmg_here, tmp_path):
    done = pmg_here("prepare", "data=movielens", "source.read.source=ml", "paths.data_dir=data", "run_dir=p")
    assert done.returncode == 0, done.stderr
    assert "users: 40" in done.stdout
    done = pmg_here("keywords", *TINY, "run_dir=k", "history_items=6", "later_items=3")
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "k" / "results.json").read_text())
    assert set(results["methods"]) == {"popularity", "counting", "keywords"}
    assert set(results["methods"]["keywords"]) == {"precision_at_3", "ndcg_at_3"}
    assert "keywords-counting" in results["paired"]
    assert "keywords" in results["control"]
    assert "popularity" not in results["control"]
    lines = [json.loads(line) for line in (tmp_path / "k" / "keywords.jsonl").read_text().splitlines()]
    assert len(lines) == results["methods"]["keywords"]["ndcg_at_3"]["n"] == 33  # without seven of validation
    assert all(1 <= len(line["keywords"]) <= 3 for line in lines)


@pytest.mark.slow
def test_attributes_and_data_that_do_not_fit_are_refused(publisher, pmg_here):
    assert pmg_here("prepare", "data=movielens", "source.read.source=ml", "paths.data_dir=data").returncode == 0
    done = pmg_here("keywords", *TINY, "attribute=gnre")
    assert "has no 'gnre' with options (it has genre); did you mean 'genre'?" in done.stderr
    done = pmg_here("keywords", *TINY)
    assert "no user of train and test liked 17 items or more" in done.stderr
    done = pmg_here("keywords", *TINY, "data=looks", "scenario=film_genres")
    assert "has no likes in time, which pmg-keywords compares: use data=movielens" in done.stderr
    done = pmg_here("train", *TINY, "generator=tiny", "scorer=tiny")
    assert "data=movielens has no pictures to learn from" in done.stderr


def test_popularity_leaves_out_a_users_own_likes():
    """Three users of training: the first likes a Western, which nobody else does."""
    films = {genre: Item(genre, genre, genre, (genre,)) for genre in GENRES}
    likes = {"a": ["Western"] * 3, "b": ["Drama", "Drama", "War"], "c": ["War", "Drama"], "new": ["Comedy"]}
    timelines = {
        user: Timeline(user, tuple(Interaction(films[genre], "rated", time) for time, genre in enumerate(genres)))
        for user, genres in likes.items()
    }
    examples = [
        Example(user, user, line.interactions, films["Drama"], (films["Drama"],)) for user, line in timelines.items()
    ]
    found = popular([timelines[user] for user in "abc"], examples, GENRES)
    assert found["a"].words[:2] == ("Drama", "War")
    assert found["b"].words[:3] == ("Western", "Drama", "War")
    assert found["new"].words[:3] == ("Drama", "Western", "War")
