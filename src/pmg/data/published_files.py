"""Reads published files from a folder or a .zip; errors contain file, row and byte."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pmg.domain import PmgError

MOST_ROWS = 20_000_000  # of a table


def read_files(source: str, names: Sequence[str], where: str) -> dict[str, bytes]:
    """Returns the bytes of files in a folder, or at any depth in a .zip; errors say `where` they come from.

    PmgError if a file is missing, or the .zip is damaged.
    """
    path = Path(source)
    if path.suffix == ".zip" and path.is_file():
        found = _unzip(path, names, where)
    else:
        found = {name: (path / name).read_bytes() for name in names if (path / name).is_file()}
    if missing := [name for name in names if name not in found]:
        raise PmgError(f"{source} has no {' and no '.join(missing)}; {where}")
    return {name: found[name] for name in names}


def _unzip(path: Path, names: Sequence[str], where: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {Path(member).name: member for member in archive.namelist()}
            return {name: archive.read(members[name]) for name in names if name in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise PmgError(f"{path} is damaged ({error}); {where}") from None


def read_table(content: bytes, path: str, columns: Sequence[str], where: str) -> pd.DataFrame:
    """Returns a CSV file as strings, indexed by the row number in the file (its header is row 1).

    The required `columns`, without spaces around their names, come first. PmgError, with the file's `path` and `where`
    it is from, if it is not UTF-8, no table, or lacks a column or has one twice.
    """
    try:
        options = {"dtype": str, "encoding": "utf-8", "keep_default_na": False, "skip_blank_lines": False}
        rows = content.lstrip(b"\r\n")
        table = pd.read_csv(io.BytesIO(rows), na_values=[""], **options)
        header = pd.read_csv(io.BytesIO(rows), header=None, nrows=1, **options).iloc[0].str.strip()
    except UnicodeDecodeError:
        raise PmgError(f"{path} is not UTF-8 ({_first_bad(content)}); {where}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise PmgError(f"{path} can't be read ({' '.join(str(error).split())}); {where}") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise PmgError(f"{path} has rows of more values than its header has names; {where}")
    table.columns = table.columns.str.strip()
    if len(table.columns) == 1 and (sign := next((one for one in ";\t|" if one in table.columns[0]), "")):
        raise PmgError(
            f"{path} separates its columns by {sign!r}: save it with commas, or as .jsonl or .parquet; {where}"
        )
    if twice := header[header.duplicated() & header.ne("")].tolist():  # pandas gives the second another name
        raise PmgError(f"{path} has two columns {twice[0]}; {where}")
    if missing := [name for name in columns if name not in table.columns]:
        raise PmgError(f"{path} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
    others = [name for name in table.columns if name not in columns]
    blank = content[: len(content) - len(rows)].count(b"\n")  # before the header
    return table.set_index(table.index + blank + 2)[[*columns, *others]].dropna(how="all")


def _first_bad(content: bytes) -> str:
    """Returns the position in the file of the first byte that is not UTF-8; pandas counts within a chunk."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"byte {error.start}, line {line}"
    return "a byte that the parser refuses"


def read_lines(path: Path, where: str) -> Iterator[tuple[int, str]]:
    """Yields numbers from 1 and lines, without line ends, of a file of any size.

    PmgError if the file doesn't exist, or a line is not UTF-8.
    """
    if not path.is_file():
        raise PmgError(f"{path.parent} has no {path.name}; {where}")
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise PmgError(f"{path} is not UTF-8 (byte {start + error.start}, line {number}); {where}") from None
            start += len(line)
            yield number, text.rstrip("\r\n")


def read_rows(path: Path, where: str) -> pd.DataFrame:
    """Returns a table with unchanged values (strings for a CSV file), indexed by the row number in the file.

    `path` is a ``.csv``, ``.jsonl`` or ``.parquet`` file; `where` is its source or a remedy, for errors. PmgError if
    the file doesn't exist, has another format, or is damaged.
    """
    if not path.is_file():
        raise PmgError(f"{path} is no file; {where}")
    if path.suffix == ".csv":
        return read_table(path.read_bytes(), str(path), (), where)
    if path.suffix == ".jsonl":
        rows = {number: _as_object(path, number, line) for number, line in read_lines(path, where) if line.strip()}
        return pd.DataFrame(rows.values(), index=list(rows), dtype=object)
    if path.suffix != ".parquet":
        raise PmgError(f"{path} is neither .csv nor .jsonl nor .parquet; {where}")
    try:
        if (rows := pq.read_metadata(path).num_rows) > MOST_ROWS:
            raise PmgError(f"{path} has {rows} rows; at most {MOST_ROWS} are read")
        table = pq.read_table(path)
        return pd.DataFrame(table.to_pylist(), columns=table.column_names, dtype=object)
    except (pa.ArrowInvalid, OSError, OverflowError) as error:  # the last: a time beyond the year 9999
        raise PmgError(f"{path} is damaged ({' '.join(str(error).split())}); {where}") from None


def _as_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise PmgError(f"{path}: line {number} is no JSON ({error.msg}, column {error.colno})") from None
    except RecursionError:
        raise PmgError(f"{path}: line {number} is nested too deeply") from None
    if not isinstance(value, dict):
        raise PmgError(f"{path}: line {number} is no JSON object; write one object of named values a line")
    return value
