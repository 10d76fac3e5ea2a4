"""``pmg-recommend`` before and after pictures were made for its candidates."""

from __future__ import annotations

import json
import shlex

import pytest

from shops import write_shop

DATA = ["folder=data", "min_likes=3"]
TINY = ["recommenders.bpr.arguments.max_iter=2", "recommenders.vbpr.arguments.n_epochs=1", "logger=csv"]
FEW = ["candidates.users=4", "candidates.each=3", "paths.cache_dir=cache"]


@pytest.mark.slow
def test_recommenders_are_compared_and_pictures_of_their_candidates_order_them(tmp_path, pmg_here):
    def pmg(verb, *arguments):
        done = pmg_here(verb, *arguments)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    write_shop(tmp_path, without=())
    pmg(
        "prepare", "data=own_files", "data.folder=data", "source.read.items=shop/items.csv",
        "source.read.interactions=shop/chosen.csv", "source.pictures.size=64",
    )  # fmt: skip
    told = pmg("recommend", *(f"data.{one}" for one in DATA), *TINY, *FEW, "run_dir=first")
    assert "3 items for each of 4 users" in told
    make, again = (shlex.split(line)[1:] for line in told.splitlines() if line.startswith("pmg-"))
    results = json.loads((tmp_path / "first" / "results.json").read_text())
    assert set(results["methods"]) == {"popularity", "bpr", "ease", "vbpr_own", "vbpr_shuffled", "vbpr_noise"}

    tiny = ["language_model=tiny", "sampling.steps=1", "sampling.batch_size=50", "sheet_users=1"]
    assert {"data=pairs", *(f"data.of.{one}" for one in DATA), "data.file=first/candidates.json"} <= set(make)
    pmg("generate", *make, *tiny, *FEW[2:])
    pmg("recommend", *again)
    other = json.loads((tmp_path / "first" / "candidates.json").read_text())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "candidates.json").write_text(json.dumps(dict(reversed(other.items()))))
    told = pmg_here("recommend", *again, "pictures.candidates=other", "run_dir=second").stderr
    assert "is of other pictures.candidates" in told
    folder = tmp_path / "first_with_pictures"
    methods = json.loads((folder / "results.json").read_text())["methods"]
    assert "vbpr_crowd" in methods
    assert methods["ease"] == results["methods"]["ease"]
    pairs = json.loads((folder / "pairs" / "results.json").read_text())
    assert set(pairs["methods"]) == {"recommender", "own_picture", "made_for_user", "made_for_another", "both"}
    assert {"made_for_user-made_for_another", "made_for_user-own_picture"} <= set(pairs["paired"])
