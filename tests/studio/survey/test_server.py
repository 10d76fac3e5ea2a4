"""The served survey: state, repeated requests, and requests that are refused in one line."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading

import pytest
from fastapi.testclient import TestClient

from pmg.domain import PmgError
from pmg.studio.http_server import bind, serve
from pmg.studio.survey.answers import DATABASE, read_answers
from pmg.studio.survey.materials import build_server, write_survey
from surveys import METHODS, answer, code, make_survey


@pytest.fixture
def survey(tmp_path):
    content, key = make_survey()
    write_survey(tmp_path, content, key)
    return tmp_path, key


@pytest.fixture
def client(survey):
    with TestClient(
        build_server(survey[0]), base_url="http://127.0.0.1:8000", raise_server_exceptions=False
    ) as client:
        yield client


def join(client, key):
    return client.post("/api/join", json={"survey": key["survey"], "consent": True}).json()


def test_a_rater_answers_all_tasks_and_continues_after_a_reload(client, survey):
    folder, key = survey
    state = join(client, key)
    given = answer(key, state["slot"])["answers"]
    for each in given[:3]:
        for _ in range(2):  # a double click
            assert client.post("/api/answer", json={"rater": state["rater"], **each}).json() == {"saved": each["task"]}
    reloaded = client.post("/api/state", json={"rater": state["rater"]}).json()
    assert list(reloaded["answers"]) == ["0", "1", "2"]
    for each in given[3:]:
        client.post("/api/answer", json={"rater": state["rater"], **each})
    (found,) = read_answers([folder], key["survey"])
    assert [each.model_dump() for each in found.answers] == given


def test_the_page_is_complete_and_names_no_method(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "connect-src &#39;self&#39;" in page.text or "connect-src 'self'" in page.text
    assert not [name for name in METHODS if name in page.text]
    assert page.headers["x-frame-options"] == "DENY"


GOOD = {"task": 0, "value": "left", "seconds": 1.0}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/answer", {**GOOD, "rater": code(99)}, 404),  # another browser's state
        ("/api/state", {"rater": code(99)}, 404),
        ("/api/state", {"rater": "' OR 1=1 --"}, 422),
        ("/api/answer", {**GOOD, "rater": "<script>"}, 422),
        ("/api/answer", {**GOOD, "rater": "JOINED", "task": 999}, 400),
        ("/api/answer", {**GOOD, "rater": "JOINED", "task": -1}, 422),
        ("/api/answer", {**GOOD, "rater": "JOINED", "value": {"accuracy": 1, "preference": 1}}, 400),
        ("/api/answer", {**GOOD, "rater": "JOINED", "value": "<img src=x>"}, 422),
        ("/api/answer", {**GOOD, "rater": "JOINED", "seconds": "fast"}, 422),
        ("/api/join", {"survey": "another", "consent": True}, 400),
        ("/api/join", {"survey": "SURVEY", "consent": False}, 422),
        ("/api/answer", "x" * 5000, 413),
        ("/../key.json", None, 404),
        ("/key.json", None, 404),
        ("/answers.sqlite", None, 404),
        ("/%2e%2e/key.json", None, 404),
    ],
)
def test_bad_requests_get_one_line(client, survey, path, body, status):
    folder, key = survey
    rater = join(client, key)["rater"]
    if isinstance(body, dict):
        body = {
            name: {"JOINED": rater, "SURVEY": key["survey"]}.get(str(value), value) for name, value in body.items()
        }
    reply = client.get(path) if body is None else client.post(path, json=body)
    assert reply.status_code == status
    assert "\n" not in reply.text
    assert METHODS[0] not in reply.text
    assert read_answers([folder], key["survey"])[0].answers == []


def test_forms_of_other_pages_are_refused(client, survey):
    text = json.dumps({"survey": survey[1]["survey"], "consent": True})
    assert client.post("/api/join", content=text, headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("/api/join", content="{", headers={"content-type": "application/json"}).status_code == 422
    names = (
        "evil.example",
        "evil.example:8000",
        "a{b.evil.example",
        "[::1",
        "127.0.0.1:8000@evil.example",
        "x:99999",
        "",
    )
    assert {client.get("/", headers={"host": name}).status_code for name in names} == {403}
    assert client.get("/", headers={"host": "[::1]:8000"}).status_code == 200
    parts = {"content-type": "application/json", "transfer-encoding": "chunked", "content-length": "10"}
    assert client.post("/api/join", content=iter([text.encode()]), headers=parts).status_code == 413
    assert client.delete("/api/join").status_code == 405


def test_pages_of_other_origins_are_refused_and_one_own_answers(client, survey):
    body = {"survey": survey[1]["survey"], "consent": True}
    for origin in ("http://evil.example", "http://127.0.0.1:8001", "null"):
        refused = client.post("/api/join", json=body, headers={"origin": origin})
        assert (refused.status_code, origin in refused.json()["error"]) == (403, True)
    assert client.post("/api/join", json=body, headers={"origin": "http://127.0.0.1:8000"}).status_code == 200


def test_all_errors_have_one_form_and_the_page_has_a_head(client):
    for reply in (client.get("/nothing"), client.post("/"), client.get("/api/join"), client.put("/")):
        assert list(reply.json()) == ["error"]
    head = client.head("/")
    assert (head.status_code, head.text) == (200, "")
    assert head.headers["content-length"] == str(len(client.get("/").content))


@pytest.mark.slow
def test_a_connection_without_whole_headers_is_closed(survey, monkeypatch):
    monkeypatch.setattr("pmg.studio.http_server.WITHIN", 0.3)
    listener = bind("127.0.0.1", 0)
    server = threading.Thread(target=serve, args=(build_server(survey[0]), listener), daemon=True)
    server.start()
    page = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    half = (
        b"POST /api/join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    )
    for slow in (b"", b"GET / HTTP/1.1\r\nHost: 127", half):
        with socket.create_connection(listener.getsockname(), timeout=10) as connection:
            connection.sendall(page)  # a whole request is answered, and the connection stays
            assert connection.recv(12) == b"HTTP/1.1 200"
            connection.sendall(slow)
            while connection.recv(2**16):
                pass  # to the end of the answer, and then of the connection


def test_a_locked_database_is_reported_and_the_answer_can_be_sent_again(client, survey, monkeypatch):
    monkeypatch.setattr("pmg.studio.survey.answers.BUSY_S", 0.05)
    folder, key = survey
    state = join(client, key)
    body = {"rater": state["rater"], **GOOD}
    other = sqlite3.connect(folder / DATABASE, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    refused = client.post("/api/answer", json=body)
    assert (refused.status_code, "locked" in refused.json()["error"]) == (503, True)
    other.execute("ROLLBACK")
    other.close()
    assert client.post("/api/answer", json=body).status_code == 200


def test_a_used_port_is_named():
    listener = bind("127.0.0.1", 0)
    with listener, pytest.raises(PmgError, match="can't listen"):
        bind("127.0.0.1", listener.getsockname()[1])
    with pytest.raises(PmgError, match="can't listen"):
        bind("192.0.2.1", 0)


def test_a_key_that_names_other_methods_than_were_shown_is_refused(survey):
    folder, key = survey
    images = {name: {**one, "method": METHODS[0]} for name, one in key["images"].items()}
    (folder / "key.json").write_text(json.dumps({**key, "images": images}))
    with pytest.raises(PmgError, match=r"key\.json can't be read"):
        build_server(folder)


def test_a_public_server_answers_to_every_name(survey):
    with TestClient(build_server(survey[0], "0.0.0.0"), base_url="http://lab.example") as client:
        assert client.get("/").status_code == 200


def test_a_folder_without_a_survey_is_named(tmp_path):
    with pytest.raises(PmgError, match="no folder of a survey"):
        build_server(tmp_path)
    (tmp_path / "content.json").write_text("{")
    with pytest.raises(PmgError, match="can't be read"):
        build_server(tmp_path)
