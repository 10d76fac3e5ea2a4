"""Files appear whole or not at all; the store recomputes what is damaged."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from pmg.cache import Cache, atomic_write_json, atomic_write_text


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


def _write(folder):
    for _ in range(20):
        Cache(folder).save("00key", {"a": torch.full((1000,), 7.0)})
        found = Cache(folder).load("00key")
        assert found is not None
        assert bool((found["a"] == 7).all())
    return True


def test_concurrent_writers(tmp_path):
    with ProcessPoolExecutor(2) as pool:
        assert all(pool.map(_write, [tmp_path] * 2))


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
