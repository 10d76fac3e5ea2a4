"""Records and images of a generation: round trips, resumed writing, damage."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import quote

import pytest
import torch
from PIL import Image

from pmg.domain import PmgError
from pmg.models.image_passes import fit_size
from pmg.records.storage import (
    RECORDS,
    Candidate,
    Key,
    Record,
    RecordWriter,
    StoredImages,
    StoredRecords,
    read_images,
    read_records,
)


def record(example="e0", method="pmg_paper", control="own", model="m", seed=0):
    candidates = (Candidate(0.5, 1.0, 0.3, 0.8, -0.7), Candidate(1.0, 1.0, 0.6, 0.7, -0.4))
    return Record(
        example,
        "u0",
        method,
        control,
        "u0",
        seed,
        candidates,
        1,
        ("apple", "fruit"),
        ("flat",),
        hashes={"model": model},
        negative_keywords=("gradients",),
        alpha=0.4,
        front=(0, 1),
    )


def pictures(count, seed=0):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_round_trip(tmp_path):
    images, records = pictures(3), [record("e0"), record("e1"), record("e0", control="mismatched")]
    RecordWriter(tmp_path).add(images, records)
    found = read_records(tmp_path)
    assert [entry.key for entry in found] == [entry.key for entry in records]
    assert found[0].chosen == Candidate(1.0, 1.0, 0.6, 0.7, -0.4)
    assert found[0].target_keywords == ("apple", "fruit")
    assert replace(found[0], image="", sha256="") == record("e0")
    torch.testing.assert_close(read_images(tmp_path, found), images, atol=1 / 255, rtol=0)


@pytest.mark.parametrize("attack", ["swapped", "red", "another seed"])
def test_a_picture_that_was_not_made_for_its_record_is_refused(tmp_path, attack):
    RecordWriter(tmp_path / "a").add(pictures(2), [record("e0"), record("e1")])
    first, second = read_records(tmp_path / "a")
    path = tmp_path / "a" / first.image
    if attack == "swapped":
        path.write_bytes((tmp_path / "a" / second.image).read_bytes())
    elif attack == "red":
        Image.new("RGB", (16, 16), "red").save(path)
    else:
        RecordWriter(tmp_path / "b").add(pictures(2).flip(0), [record("e0"), record("e1")])
        path.write_bytes((tmp_path / "b" / first.image).read_bytes())
    with pytest.raises(PmgError, match=r"e0-0\.png is not the picture that was made .*run pmg-generate again"):
        read_images(tmp_path / "a", [first, second])


def unsealed(line):
    """A line as it was written before there were checksums."""
    return re.sub(r', "crc32": "\w+"', "", line)


def test_dropped_keywords_are_recorded(tmp_path):
    writer = RecordWriter(tmp_path)
    writer.add(pictures(2), [replace(record("e0"), dropped_keywords=("warm", "3D")), record("e1")])
    assert [entry.dropped_keywords for entry in read_records(tmp_path)] == [("warm", "3D"), ()]


def test_a_record_without_its_checksum_is_refused(tmp_path):
    RecordWriter(tmp_path).add(pictures(1), [record()])
    path = tmp_path / RECORDS
    path.write_text(unsealed(path.read_text()))
    with pytest.raises(PmgError, match=r"row 1: not a record \(it is not what was written\)"):
        read_records(tmp_path)


def test_values_out_of_range_are_clipped(tmp_path):
    RecordWriter(tmp_path).add(torch.full((1, 3, 8, 8), 1.7), [record()])
    assert read_images(tmp_path, read_records(tmp_path)).unique().tolist() == [1.0]


def test_nothing_is_done_twice(tmp_path):
    first = pictures(1)
    RecordWriter(tmp_path).add(first, [record("e0")])
    writer = RecordWriter(tmp_path)
    assert writer.done == {Key("e0", "pmg_paper", "own", 0)}
    writer.add(pictures(2, seed=1), [record("e0"), record("e1")])
    found = read_records(tmp_path)
    assert [entry.example for entry in found] == ["e0", "e1"]
    torch.testing.assert_close(read_images(tmp_path, found[:1]), first, atol=1 / 255, rtol=0)


def test_resumes_after_a_line_cut_short_at_any_byte(tmp_path):
    RecordWriter(tmp_path).add(pictures(2), [record("e0"), record("e1")])
    path = tmp_path / RECORDS
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        assert [entry.example for entry in read_records(tmp_path)] == ["e0"]
        writer = RecordWriter(tmp_path)
        assert {key.example for key in writer.done} == {"e0"}
    writer.add(pictures(2), [record("e0"), record("e1")])
    assert path.read_bytes() == whole


def test_images_made_in_another_way_are_not_mixed(tmp_path):
    RecordWriter(tmp_path).add(pictures(1), [record(model="old")])
    writer = RecordWriter(tmp_path)
    with pytest.raises(PmgError, match="'pmg_paper' made with another model"):
        writer.add(pictures(1), [record("e1", model="new")])
    writer.add(pictures(1), [record("e1", method="none", model="new")])
    writer.check("none", {"model": "new"})
    assert len(read_records(tmp_path)) == 2


def test_refuses_what_is_no_generation(tmp_path):
    with pytest.raises(PmgError, match="nowhere is not a folder of generated images"):
        read_records(tmp_path / "nowhere")
    RecordWriter(tmp_path / "empty")
    with pytest.raises(PmgError, match="holds no record yet"):
        read_records(tmp_path / "empty")


@pytest.mark.parametrize("line", [b"{}", b"not json", b'{"example": 1, "candidates": []}', b"\xff\xfe"])
def test_damaged_row_is_named(tmp_path, line):
    RecordWriter(tmp_path).add(pictures(1), [record()])
    path = tmp_path / RECORDS
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(PmgError, match="row 2: not a record"):
        read_records(tmp_path)


def test_a_flipped_bit_is_never_a_record(tmp_path):
    RecordWriter(tmp_path).add(pictures(1), [record()])
    path = tmp_path / RECORDS
    whole = path.read_bytes()
    for bit in range(0, 8 * (len(whole) - 1), 7):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(PmgError):
            read_records(tmp_path)


def test_missing_and_broken_images_are_named(tmp_path):
    RecordWriter(tmp_path).add(pictures(1), [record()])
    found = read_records(tmp_path)
    file = tmp_path / found[0].image
    for content in (b"no image", file.read_bytes()[:-80], file.read_bytes()[:40]):
        file.write_bytes(content)
        with pytest.raises(PmgError, match=r"e0-0\.png \(row 'e0/pmg_paper/own/0' .* can't be read"):
            read_images(tmp_path, found)
    file.unlink()
    with pytest.raises(PmgError, match=r"e0-0\.png .* is missing"):
        read_images(tmp_path, found)


def test_stored_images_are_read_when_they_are_asked_for(tmp_path):
    images = pictures(2)
    RecordWriter(tmp_path).add(images, [record(), record("e1")])
    found = read_records(tmp_path)
    stored = StoredImages(tmp_path, StoredRecords(tmp_path), 16).check()
    first, second = (one.key for one in found)
    assert list(stored) == [first, second]
    assert stored[second].shape == (3, 16, 16)
    torch.testing.assert_close(fit_size(images[1:], 16)[0], stored[second], atol=2 / 255, rtol=0)
    (tmp_path / found[1].image).unlink()
    assert stored[first].shape == (3, 16, 16)
    for read in (stored.check, lambda: stored[second]):
        with pytest.raises(PmgError, match="is missing"):
            read()


def test_image_of_another_size_is_named(tmp_path):
    RecordWriter(tmp_path).add(pictures(1), [record()])
    RecordWriter(tmp_path).add(torch.zeros(1, 3, 4, 4), [record("e1")])
    with pytest.raises(PmgError, match=r"e1/pmg_paper/own/0.* is 4x4 pixels, others are 8x8"):
        read_images(tmp_path, read_records(tmp_path))


def test_bad_shapes_and_picks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="1 records came with images"):
        RecordWriter(tmp_path).add(pictures(2), [record()])
    with pytest.raises(ValueError, match="candidate 0 of 0"):
        Record("e", "u", "pmg_paper", "own", "u", 0, ())


@pytest.mark.parametrize("user", ["ж" * 30, "好" * 16, "a" * 3000])
def test_long_ids_of_any_letters_are_files(tmp_path, user):
    ids = [f"{quote(user, safe='')}-0-{number}" for number in range(2)]
    RecordWriter(tmp_path).add(pictures(2), [record(name) for name in ids])
    found = read_records(tmp_path)
    assert [each.example for each in found] == ids
    assert len({each.image for each in found}) == 2
    assert read_images(tmp_path, found).shape == (2, 3, 8, 8)


def test_an_id_with_slashes_stays_in_the_folder(tmp_path):
    folder, written = tmp_path / "run", record("../../../evil")
    RecordWriter(folder).add(pictures(1), [written])
    (found,) = read_records(folder)
    assert found.example == "../../../evil"
    assert [path.parent for path in tmp_path.rglob("*.png")] == [folder / "images" / "pmg_paper" / "own"]
    assert read_images(folder, [found]).shape == (1, 3, 8, 8)
