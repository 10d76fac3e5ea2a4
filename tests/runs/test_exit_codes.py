"""What ended a run, in one line that names the place to look at."""

from __future__ import annotations

import errno
import os

import pytest

from pmg.cache import atomic_write_bytes
from pmg.domain import PmgError
from pmg.runs.exit_codes import exit_code, is_interrupt, one_line


def lines(error, tmp_path):
    return one_line(error, tmp_path / "run", tmp_path / "run" / "train.log")


@pytest.mark.parametrize(("number", "remedy"), [(errno.ENOSPC, "make room"), (errno.EROFS, "make it writable")])
def test_the_folder_that_takes_no_more_is_named(tmp_path, number, remedy):
    error = OSError(number, os.strerror(number), str(tmp_path / "cache" / "entry"))
    assert lines(error, tmp_path) == (
        f"can't write into {tmp_path / 'cache'}: {os.strerror(number)}; {remedy} and run the same command again"
    )


def test_a_copy_that_fails_names_the_folder_of_its_target(tmp_path):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/copied", None, str(tmp_path / "train" / "last.ckpt"))
    assert lines(error, tmp_path).startswith(f"can't write into {tmp_path / 'train'}: No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data/0"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_errors_without_a_file_name_the_run_folder_or_that_of_temporary_files(tmp_path, error):
    (tmp_path / "run").mkdir()
    assert lines(error, tmp_path).startswith("can't write into /")
    assert ": No space left on device; make room" in lines(error, tmp_path)


def test_a_write_that_fails_names_its_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space") as caught:
        atomic_write_bytes(tmp_path / "cache" / "entry", b"x")
    assert "cache: No space left on device" in lines(caught.value, tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PmgError("a value is wrong:\n  0"), "a value is wrong: 0"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), "FileNotFoundError: [Errno 2] No such file: 'x'"),
        (ZeroDivisionError("division by zero\nmore"), "ZeroDivisionError: division by zero"),
    ],
)
def test_errors_of_users_have_no_traceback_and_others_name_the_log(tmp_path, error, line):
    log = "" if type(error) is PmgError else f" (traceback in {tmp_path / 'run' / 'train.log'})"
    assert lines(error, tmp_path) == f"{line}{log}"


def test_exit_codes_are_those_of_a_shell():
    lightning = SystemExit(1)
    lightning.__context__ = KeyboardInterrupt()
    found = [
        exit_code(error) for error in (KeyboardInterrupt(), lightning, SystemExit(3), SystemExit("text"), OSError())
    ]
    assert found == [130, 130, 3, 1, 1]
    assert is_interrupt(lightning)
    assert not is_interrupt(SystemExit(3))
