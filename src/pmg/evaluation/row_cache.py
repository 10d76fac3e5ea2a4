"""Rows of images that were judged before, so that an interrupted evaluation resumes."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pmg.cache import atomic_write_bytes

log = logging.getLogger(__name__)


class RowCache:
    """Stores tables by key, one checksummed file each; a damaged one is computed again.

    Args:
        folder: of the files; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fetch(self, key: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Returns the rows of `key`, computed and stored first where they are absent."""
        path = self.folder / f"{key}.parquet"
        try:
            return pq.read_table(path, page_checksum_verification=True).to_pandas()
        except FileNotFoundError:
            pass
        except (OSError, pa.ArrowException) as error:
            log.warning("%s is damaged (%s): judged again", path, type(error).__name__)
        rows, buffer = compute(), io.BytesIO()
        rows.to_parquet(buffer, index=False, write_page_checksum=True)
        atomic_write_bytes(path, buffer.getvalue())
        return rows

    def drop(self) -> None:
        """Removes the stored rows; they belong to one version of the code."""
        shutil.rmtree(self.folder, ignore_errors=True)
