"""``pmg-prepare`` records where a data set is, and later commands find it."""

from __future__ import annotations

import pytest

from pmg.configuration.masked_folders import mask_folders
from pmg.configuration.prepared_folders import RECORD, find_prepared, record_prepared
from pmg.domain import PmgError
from pmg.paths import display_path


def test_the_last_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_prepared("pog", "data") == "data/pog"
    record_prepared("pog", "elsewhere/pog", "data")
    record_prepared("stickers", "data/stickers", "data")
    assert find_prepared("pog", "data") == str(tmp_path / "elsewhere" / "pog")
    assert find_prepared("stickers", "data") == "data/stickers"
    record_prepared("pog", "data/pog", "data")
    assert find_prepared("pog", "data") == "data/pog"


@pytest.mark.parametrize("text", ["{", "[]", '{"pog": 3}'])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(PmgError, match=rf"{RECORD} is damaged\. Delete it and run pmg-prepare again"):
        find_prepared("pog", str(tmp_path))


def test_every_command_composes_with_the_recorded_folder(compose, tmp_path):
    own = ["data=own_files", f"paths.data_dir={tmp_path}"]
    before = mask_folders(compose("train", *own))
    record_prepared("own_files", str(tmp_path / "shop"), str(tmp_path))
    assert compose("train", *own).data.folder == str(tmp_path / "shop")
    assert compose("prepare", *own).source.folder == str(tmp_path / "shop")
    assert compose("train", *own, "data.folder=other").data.folder == "other"
    assert mask_folders(compose("train", *own)) == before  # equal on machines that keep the data elsewhere


def test_paths_outside_of_the_current_folder_are_shown_in_full(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert str(display_path("data/shop")) == str(display_path(tmp_path / "here" / "data" / "shop")) == "data/shop"
    assert display_path("../shop") == tmp_path / "shop"
