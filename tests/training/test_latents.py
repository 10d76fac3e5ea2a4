"""Latents in an array: the same batches as from memory, resumable, and checked."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pmg.domain import PmgError
from pmg.training import latents
from pmg.training.datamodule import ShuffledRows
from pmg.training.latents import encode_item_images, store_latents
from pmg.training.preference import PARTS, PreferenceBatches

zarr = pytest.importorskip("zarr", reason="the extra streaming")
SHAPE = (2, 3, 3)
VALUES = torch.randn(10, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Four latents a file."""
    monkeypatch.setattr(latents, "SHARD", 4)


def place(tmp_path, kind):
    return str(tmp_path / "latents") if kind == "folder" else f"memory://{tmp_path.name}/latents"


@pytest.mark.parametrize("kind", ["folder", "store"])
def test_rows_are_those_of_the_tensor(tmp_path, kind):
    stored = store_latents(place(tmp_path, kind), 10, SHAPE, lambda run: VALUES[run])
    assert len(stored) == 10
    for rows in ([3, 9, 3, 0], [5], list(range(10))):
        assert torch.equal(stored[torch.tensor(rows)], VALUES[rows])


def test_an_interrupted_writing_goes_on_and_a_finished_one_is_read(tmp_path):
    runs = []

    def encode(run):
        if len(runs) == 2:
            raise KeyboardInterrupt
        runs.append((run.start, run.stop))
        return VALUES[run]

    with pytest.raises(KeyboardInterrupt):
        store_latents(place(tmp_path, "folder"), 10, SHAPE, encode)
    runs.pop(0)
    stored = store_latents(place(tmp_path, "folder"), 10, SHAPE, encode)
    assert runs == [(4, 8), (8, 10)]  # the first four were not encoded again
    assert torch.equal(stored[torch.arange(10)], VALUES)
    again = store_latents(place(tmp_path, "folder"), 10, SHAPE, encode)  # which would be interrupted
    assert torch.equal(again[torch.arange(10)], VALUES)


def test_a_flipped_bit_is_never_a_latent(tmp_path):
    stored = store_latents(place(tmp_path, "folder"), 10, SHAPE, lambda run: VALUES[run])
    shard = next(path for path in (tmp_path / "latents" / "c").rglob("*") if path.is_file())
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(PmgError, match=r"latents in .* are damaged .*checksum.*remove it"):
        stored[torch.arange(10)]


def test_a_file_that_is_gone_is_noticed_and_made_again(tmp_path, caplog):
    runs = []

    def encode(run):
        runs.append((run.start, run.stop))
        return VALUES[run]

    there = place(tmp_path, "folder")
    stored = store_latents(there, 10, SHAPE, encode)
    shards = sorted(path for path in (tmp_path / "latents" / "c").rglob("*") if path.is_file())
    shards[1].unlink()
    assert torch.equal(stored[torch.arange(4)], VALUES[:4])
    with pytest.raises(PmgError, match=r"latents in .* are missing; run the command again"):
        stored[torch.arange(10)]
    runs.clear()
    again = store_latents(there, 10, SHAPE, encode)
    assert runs == [(4, 8)]
    assert torch.equal(again[torch.arange(10)], VALUES)
    assert "1 files of latents are missing" in caplog.text
    store_latents(there, 10, SHAPE, encode)
    assert runs == [(4, 8)]  # what lies behind the file was not forgotten


def test_another_array_in_its_place_is_named(tmp_path):
    there = place(tmp_path, "folder")
    store_latents(there, 10, SHAPE, lambda run: VALUES[run])
    with pytest.raises(PmgError, match=re.escape(f"{there} holds (10, 2, 3, 3), and (12, 2, 3, 3) are needed")):
        store_latents(there, 12, SHAPE, lambda run: VALUES[run])


def test_an_unknown_kind_of_store_is_refused_in_one_line():
    with pytest.raises(PmgError, match=r"paths\.latents_dir: nowhere://x"):
        store_latents("nowhere://x", 10, SHAPE, lambda run: VALUES[run])


def test_batches_and_shares_of_them_are_those_of_latents_in_memory(generator, tmp_path):
    stored = store_latents(place(tmp_path, "folder"), 10, SHAPE, lambda run: VALUES[run])
    options = {"samples": [[(user, 0), (9 - user, 1)] for user in range(8)], "tastes": list("abcdefgh"), "draws": 2}
    options |= {"generator": generator, "drop": dict.fromkeys(PARTS, 0.5)}
    held, read = (PreferenceBatches(latents=latents, **options) for latents in (VALUES, stored))
    rows = [ShuffledRows(torch.arange(8), 4, 0, batches, batches.read) for batches in (held, read)]
    whole, same = (loader.batch(3) for loader in rows)
    assert whole.keys() == same.keys() >= {"latents", "other_latents", "noise"}
    torch.testing.assert_close(same, whole, rtol=0, atol=0)
    rows[1].start_step, rows[1].rank, rows[1].ranks = 3, 1, 2
    second = {name: values.chunk(2)[1] for name, values in whole.items()}
    torch.testing.assert_close(next(iter(rows[1])), second, rtol=0, atol=0)


def test_drawings_are_encoded_the_same_into_memory_and_into_an_array(tmp_path, shop, generator):
    items = shop.picture_items[:6]
    held = encode_item_images(generator, shop.images, items, batch_size=2)
    stored = encode_item_images(generator, shop.images, items, str(tmp_path), batch_size=2)
    rows = torch.tensor([5, 0, 2])
    assert torch.equal(stored[rows], held[rows])
    encode_item_images(generator, shop.images, items[:3], str(tmp_path))
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2  # named after the items


def test_of_several_processes_one_encodes(tmp_path):
    encoded = []

    def encode(run):
        encoded.append(run.start)
        time.sleep(0.05)
        return VALUES[run]

    with ThreadPoolExecutor(3) as pool:
        stores = list(pool.map(lambda _: store_latents(place(tmp_path, "folder"), 10, SHAPE, encode), range(3)))
    assert encoded == [0, 4, 8]
    assert all(torch.equal(stored[torch.arange(10)], VALUES) for stored in stores)
