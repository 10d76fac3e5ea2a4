"""The app's work on a tiny pipeline, and its server."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

import pmg
from apps import encode, load_tiny
from pmg.domain import PmgError
from pmg.generation.selection import SMALLEST_COSINE
from pmg.studio.app.command import find_pipeline
from pmg.studio.app.jobs import CancelledError, Job
from pmg.studio.app.pictures import read_picture, to_data_uri
from pmg.studio.app.studio import Studio, Upload, Wish, build_app

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def studio(tmp_path_factory, looks):
    return Studio(load_tiny(tmp_path_factory.mktemp("pipeline")), looks, 3, 5, [0.5, 1.5], 0)


@pytest.fixture(scope="module")
def client(studio):
    with TestClient(build_app(studio), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def test_own_images_beside_those_of_another_user_and_nobody(studio):
    job = Job()
    wish = Wish(liked=studio.describe()["users"][0]["liked"], disliked=[len(studio.items) - 1], target=EVIL, other=1)
    studio.generate(wish, job)
    assert set(job.results) == {"own", "nobody", "other"}
    own, nobody = job.results["own"], job.results["nobody"]
    assert len(own["images"]) == len(own["record"]["candidates"]) == 2
    assert len(nobody["images"]) == 1
    assert len(own["scores"]) == len(own["record"]["preference_keywords"]) > 0
    assert set(own["front"]) <= {0, 1}
    candidates, picks = own["record"]["candidates"], own["picks"]
    assert (len(picks), nobody["picks"]) == (101, [0] * 101)
    kept = {name: [max(each[name], SMALLEST_COSINE) for each in candidates] for name in ("accuracy", "preference")}
    assert [picks[0], picks[100]] == [scores.index(max(scores)) for scores in kept.values()]
    assert picks[50] == max((0, 1), key=lambda place: candidates[place]["z"])  # of the pipeline's own alpha, 0.5
    assert len(own["captions"]) == len(wish.liked) + 1
    assert own["record"]["seed"] == nobody["record"]["seed"]


def test_a_combination_without_alpha_picks_the_same_candidate_for_every_alpha(studio, monkeypatch):
    monkeypatch.setattr(studio.pipe.pipeline, "combination", lambda d_p, d_t, alpha: -d_t)
    job = Job()
    studio.generate(Wish(liked=[0, 1], target="rocket"), job)
    own = job.results["own"]
    least = min((0, 1), key=lambda place: own["record"]["candidates"][place]["accuracy"])
    assert own["picks"] == [least] * 101


def test_titles_are_proposed_where_a_generator_draws_these_alone(client, studio, looks, tmp_path):
    ask = {"json": {"target": " Spaceship"}}
    assert client.post("/api/nearest", **ask).json() == {"titles": []}
    assert studio.describe()["only"] is False
    names = {"rocket": ["spaceship"], "dog": [], "cat": [], "hot beverage": ["coffee"]}
    pipe = load_tiny(tmp_path / "named", names=names)
    other = Studio(pipe, looks, 3, 5, [0.5], 0)
    with TestClient(build_app(other), base_url="http://127.0.0.1") as named:
        proposed = named.post("/api/nearest", **ask).json()["titles"]
    content = other.describe()
    assert (proposed[0], len(set(proposed))) == ("rocket", 3)
    assert (content["only"], content["titles"]) == (True, sorted(names))


def test_users_without_pictures_are_not_offered(studio, looks):
    examples = [replace(e, history=()) if place in (0, 2) else e for place, e in enumerate(looks.examples("test"))]
    some = SimpleNamespace(images=looks.images, examples=lambda *_: examples, taste_label=looks.taste_label)
    users = Studio(studio.pipe, some, 3, 5, [0.5], 0).users
    assert [name for name, _ in users] == [examples[place].user for place in (1, 3, 4)]
    assert all(items for _, items in users)


def test_own_users_have_their_ids_and_simulated_ones_numbers(studio, shop):
    first = shop.examples("test", None, 1)[0]
    named = Studio(studio.pipe, shop, 2, 0, [0.5], 0).describe()["users"]
    assert named[0]["name"].startswith(f"{first.user}: ")
    assert [user["name"].split(":")[0] for user in studio.describe()["users"]] == ["person 1", "person 2", "person 3"]


def test_the_same_wish_gives_the_same_images(studio):
    wish, jobs = Wish(liked=[0, 1], target="rocket", seed=3), [Job(), Job()]
    for job in jobs:
        studio.generate(wish, job)
    assert jobs[0].results["own"]["images"] == jobs[1].results["own"]["images"]
    assert jobs[0].results["own"]["images"][0] != jobs[0].results["own"]["images"][1]


def test_an_uploaded_picture_is_an_item_of_the_history(studio):
    upload = Upload(title=EVIL, picture=to_data_uri(read_picture(encode())))
    job = Job()
    studio.generate(Wish(uploads=[upload], target="rocket"), job)
    assert len(job.results["own"]["captions"]) == 1


def test_all_images_start_from_the_picture_of_the_target(studio):
    picture, jobs = to_data_uri(read_picture(encode())), [Job() for _ in range(3)]
    for job, given in zip(jobs, ({}, {"start": picture, "strength": 0.05}, {"start": picture}), strict=True):
        studio.generate(Wish(liked=[0, 1], target="rocket", other=2, **given), job)
    for owner in ("own", "nobody", "other"):
        assert len({job.results[owner]["images"][0] for job in jobs}) == 3
    with pytest.raises(PmgError, match="must be PNG in a data URI"):
        studio.check(Wish(liked=[0], target="rocket", start="x"))


@pytest.fixture(scope="module")
def talking(tmp_path_factory, looks):
    """A studio whose scenario reads messages."""
    scenario = pmg.instantiate(pmg.compose("generate", ["scenario=chat_sticker", "run_dir=unused"]).scenario)
    return Studio(load_tiny(tmp_path_factory.mktemp("chats"), scenario), looks, 3, 5, [0.5], 0)


def test_messages_change_the_images_and_are_enough(studio, talking):
    assert (studio.describe()["chats"], talking.describe()["chats"]) == (False, True)
    images = []
    for said in (["I love red."], ["I love red.", "But I can't stand dots."]):
        wish, job = Wish(said=said, target="rocket"), Job()
        talking.check(wish)
        talking.generate(wish, job)
        images.append(job.results["own"]["images"][0])
    assert images[0] != images[1]
    with pytest.raises(PmgError, match=r"reads no messages.* pmg-app scenario=look_chats"):
        studio.check(Wish(said=["I love red."], target="rocket"))
    with pytest.raises(PmgError, match="a message is empty"):
        talking.check(Wish(said=[" "], target="rocket"))


def test_a_job_is_cancelled_within_a_draw(studio):
    steps = []

    class Stopping(Job):
        """A job that is cancelled as soon as the first draw begins."""

        def report(self, step, progress):
            super().report(step, progress)
            steps.append(step)
            if step == "drawing for you":
                self.stopped.set()

    job = Stopping()
    with pytest.raises(CancelledError):
        studio.generate(Wish(liked=[0], target="rocket"), job)
    assert steps[-1] == "drawing for you"
    assert job.results == {}
    studio.generate(Wish(liked=[0], target="rocket"), other := Job())  # no check is left behind
    assert set(other.results) == {"own", "nobody"}


def test_the_server_generates(client):
    wish = {"liked": [0, 1], "target": "rocket", "other": 1}
    code = client.post("/api/generate", json=wish).json()["id"]
    for _ in range(600):
        state = client.post("/api/job", json={"id": code}).json()
        if state["status"] == "done":
            break
        time.sleep(0.05)
    assert set(state["results"]) == {"own", "nobody", "other"}


def test_the_page_is_complete(client):
    page = client.get("/").text
    assert page.count("<script") == 2
    assert "http:" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in page


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/generate", {"target": "rocket"}, 400),  # an empty history
        ("/api/generate", {"liked": [0], "target": " "}, 400),
        ("/api/generate", {"said": ["I love red."], "target": "rocket"}, 400),  # the scenario reads no messages
        ("/api/generate", {"said": ["x" * 501], "target": "rocket"}, 422),
        ("/api/generate", {"said": ["x"] * 25, "target": "rocket"}, 422),
        ("/api/generate", {"liked": [0], "target": "x" * 5000}, 422),
        ("/api/generate", {"liked": [10**6], "target": "rocket"}, 400),
        ("/api/generate", {"liked": [-1], "target": "rocket"}, 422),
        ("/api/generate", {"liked": ["../../etc/passwd"], "target": "rocket"}, 422),
        ("/api/generate", {"liked": [0], "target": "rocket", "other": 99}, 400),
        ("/api/generate", {"liked": [0], "target": "rocket", "steps": 10**9}, 422),
        ("/api/generate", {"liked": [0] * 1000, "target": "rocket"}, 422),
        ("/api/generate", {"uploads": [{"title": "x", "picture": "file:///etc/passwd"}], "target": "rocket"}, 400),
        ("/api/generate", {"liked": [0], "target": "rocket", "_target_": "os.system"}, 422),
        ("/api/job", {"id": "0" * 32}, 400),  # another browser's
        ("/api/cancel", {"id": EVIL}, 400),
    ],
)
def test_bad_requests_get_one_line(client, path, body, status):
    reply = client.post(path, json=body)
    assert (reply.status_code, list(reply.json())) == (status, ["error"])
    assert "\n" not in reply.json()["error"]


@pytest.mark.parametrize("content", [b"", b"no picture", encode("GIF", frames=2)])
def test_bad_uploads_get_one_line(client, content):
    reply = client.post("/api/upload", content=content, headers={"content-type": "application/octet-stream"})
    assert reply.status_code == 400
    assert "picture" in reply.json()["error"]


def test_a_good_upload_comes_back_small(client):
    reply = client.post("/api/upload", content=encode("JPEG"), headers={"content-type": "application/octet-stream"})
    assert reply.json()["picture"].startswith("data:image/png;base64,")


def test_a_run_without_a_pipeline_says_how_to_export_it(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(PmgError, match="pmg-export train_run="):
        find_pipeline(str(tmp_path))
    (tmp_path / "pipeline").mkdir()
    assert find_pipeline(str(tmp_path)) == str(tmp_path / "pipeline")
