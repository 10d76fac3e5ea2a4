"""Shards are a partition of whole batches, and merge to what one process makes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pmg.domain import PmgError
from pmg.records.shards import Shard, merge_records
from pmg.records.storage import RECORDS, Candidate, Key, Record, RecordWriter, read_images, read_records

KEYS = [Key(f"e{number}", method, "own", 0) for method in ("none", "pmg_paper") for number in range(5)]


def write(folder, keys, config="a"):
    records = [
        Record(k.example, "u", k.method, k.control, "u", k.seed, (Candidate(1, 1, None, 0.5, 0.0),)) for k in keys
    ]
    images = torch.stack([torch.full((3, 4, 4), KEYS.index(key) / 10) for key in keys])
    RecordWriter(folder).add(images, [_with(record, config) for record in records])
    return folder


def _with(record, config):
    return replace(record, hashes={"config": config})


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition_in_order(count):
    batches = list("abcde")
    shards = [Shard(index, count).select(batches) for index in range(count)]
    assert sorted(batch for part in shards for batch in part) == batches
    assert all(part == sorted(part) for part in shards)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_does_not_exist_is_refused(index, count):
    with pytest.raises(PmgError, match=f"shard.index={index} of shard.count={count}"):
        Shard(index, count)


@pytest.mark.parametrize("links", [True, False])
def test_merged_records_are_those_of_one_process(tmp_path, monkeypatch, links):
    def refuse(*_):
        raise OSError("a file system without hard links")

    if not links:
        monkeypatch.setattr("pmg.records.shards.os.link", refuse)
    whole = write(tmp_path / "whole", KEYS)
    parts = [write(tmp_path / str(index), KEYS[index::2]) for index in range(2)]
    for _ in range(2):  # a second merge changes nothing
        merge_records(parts, tmp_path / "merged", KEYS)
        assert (tmp_path / "merged" / RECORDS).read_bytes() == (whole / RECORDS).read_bytes()
    images = [read_images(folder, read_records(folder)) for folder in (whole, tmp_path / "merged")]
    assert torch.equal(*images)


def test_a_shard_without_a_batch_adds_nothing(tmp_path):
    parts = [write(tmp_path / "0", KEYS), tmp_path / "1"]
    RecordWriter(parts[1])
    merge_records(parts, tmp_path / "merged", KEYS)
    assert (tmp_path / "merged" / RECORDS).read_bytes() == (parts[0] / RECORDS).read_bytes()


def test_a_missing_picture_is_named_and_nothing_is_merged(tmp_path):
    parts = [write(tmp_path / "0", KEYS[:4]), write(tmp_path / "1", KEYS[5:])]
    with pytest.raises(PmgError, match=r"1 of 10 pictures are in none of the shards .* e\.g\. e4/none/own/0"):
        merge_records(parts, tmp_path / "merged", KEYS)
    assert not (tmp_path / "merged" / RECORDS).exists()


def test_shards_of_different_configs_are_not_merged(tmp_path):
    parts = [write(tmp_path / "0", KEYS[::2]), write(tmp_path / "1", KEYS[1::2], config="b")]
    with pytest.raises(PmgError, match="made with another config"):
        merge_records(parts, tmp_path / "merged", KEYS)
