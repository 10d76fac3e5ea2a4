"""Files appear whole or not at all; the store recomputes what is damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from uuid import uuid4

import pytest
import torch

from pmg.cache import Cache, atomic_write_json, atomic_write_text, find_replaced, open_cache, replace_folder
from pmg.domain import PmgError


def test_atomic_write_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "deep" / "file.json"
    atomic_write_json(path, {"a": 1})
    atomic_write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_failed_write_keeps_the_old_content(tmp_path):
    path = tmp_path / "file.txt"
    atomic_write_text(path, "old")
    with pytest.raises(ValueError, match="JSON"):
        atomic_write_json(path, {"a": float("nan")})
    assert path.read_text() == "old"


def test_replacing_a_folder_leaves_its_neighbours_alone(tmp_path):
    source, target = tmp_path / "source", tmp_path / "models"
    source.mkdir()
    (source / "a").write_text("new")
    left, other = tmp_path / ".models.replaced-x" / "old", tmp_path / ".models.v2.replaced-y" / "old"
    left.mkdir(parents=True)
    other.mkdir(parents=True)
    assert find_replaced(target) == left
    replace_folder(source, target)
    assert (target / "a").read_text() == "new"
    assert other.exists()
    assert not left.exists()


def test_key_depends_on_content_not_on_order():
    assert Cache.key(a=1, b=[2, 3]) == Cache.key(b=[2, 3], a=1)
    assert Cache.key(a=1) != Cache.key(a=2)
    with pytest.raises(TypeError):
        Cache.key(a=object())


def test_fetch_computes_once(tmp_path):
    cache, calls = Cache(tmp_path), []

    def compute():
        calls.append(1)
        base = torch.arange(6.0)
        return {"a": base.view(2, 3).T, "b": base}  # a view and its base share storage

    first, second = cache.fetch(Cache.key(x=1), compute), cache.fetch(Cache.key(x=1), compute)
    assert len(calls) == 1
    assert torch.equal(first["a"], second["a"])
    assert torch.equal(second["b"], torch.arange(6.0))


def test_damaged_entry_is_computed_again(tmp_path, caplog):
    cache, key = Cache(tmp_path), Cache.key(x=1)
    cache.save(key, {"a": torch.ones(4)})
    path = next(tmp_path.rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-3])
    assert cache.load(key) is None
    assert "damaged" in caplog.text
    assert torch.equal(cache.fetch(key, lambda: {"a": torch.ones(4)})["a"], torch.ones(4))


def test_exchanged_entries_are_computed_again(tmp_path, caplog):
    cache, keys = Cache(tmp_path), [Cache.key(x=1), Cache.key(x=2)]
    for number, key in enumerate(keys):
        cache.save(key, {"a": torch.full((4,), float(number))})
    first, second = (tmp_path / key[:2] / f"{key}.safetensors" for key in keys)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert [cache.load(key) for key in keys] == [None, None]
    assert caplog.text.count("damaged") == 2


# writes and reads the same keys as others do, and one of its own; no read may see anything but an entry
WRITER = """
import sys
import torch
from pmg.cache import Cache

cache, number, rounds = Cache(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for _ in range(rounds):
    for place, key in enumerate(["00shared", "00other", "01third", f"00own{number}"]):
        cache.save(key, {"a": torch.full((200_000,), float(place))})
        assert cache.load(key)["a"].unique().tolist() == [place]
"""


def test_a_flipped_bit_is_never_a_value(tmp_path):
    cache, key = Cache(tmp_path), Cache.key(x=1)
    value = {"a": torch.arange(4.0), "crc32": torch.ones(1)}
    cache.save(key, value)
    path = next(tmp_path.rglob("*.safetensors"))
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 7):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert cache.load(key) is None, bit
    path.write_bytes(whole)
    assert torch.equal(cache.load(key)["a"], value["a"])
    path.write_bytes(whole.replace(b"crc32", b"other"))  # as written before there were seals
    assert cache.load(key) is None


@pytest.mark.ci
@pytest.mark.slow
def test_writers_at_once_of_whom_one_is_killed(tmp_path, caplog):
    def start(number, rounds):
        return subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), number, rounds])

    victim, other = start("1", "1000000"), start("0", "8")
    while victim.poll() is None and not any(tmp_path.rglob("00own1.safetensors")):
        time.sleep(0.01)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    assert other.wait() == 0
    for place, key in enumerate(["00shared", "00other", "01third", "00own0", "00own1"]):
        assert Cache(tmp_path).load(key)["a"].unique().tolist() == [min(place, 3)]
    assert "damaged" not in caplog.text


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path):
    cache = Cache(tmp_path)
    cache.save("00key", {"a": torch.ones(1)})
    left, fresh = (tmp_path / "00" / f".00other.safetensors.{name}" for name in ("left", "fresh"))
    for path in (left, fresh):
        path.write_bytes(b"half an ent")
    foreign = tmp_path / "00" / ".ipynb_checkpoints"
    foreign.mkdir()
    for path in (left, foreign):
        os.utime(path, (0, 0))
    cache.save("00key", {"a": torch.ones(1)})
    there = sorted(path.name for path in (tmp_path / "00").iterdir())
    assert there == [fresh.name, foreign.name, "00key.safetensors"]


def test_an_object_store_keeps_entries_too():
    cache, key = open_cache(f"memory://{uuid4()}/contexts"), Cache.key(x=1)
    assert cache.load(key) is None
    assert torch.equal(cache.fetch(key, lambda: {"a": torch.ones(3, 2).T})["a"], torch.ones(2, 3))
    assert torch.equal(cache.fetch(key, dict)["a"], torch.ones(2, 3))
    cache.store.pipe_file(cache._name(key), b"half an entry")
    assert cache.load(key) is None


def test_an_unknown_kind_of_store_is_refused_in_one_line():
    with pytest.raises(PmgError, match=r"paths\.contexts_dir=nowhere://x"):
        open_cache("nowhere://x")
