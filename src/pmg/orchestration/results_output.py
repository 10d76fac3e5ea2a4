"""What a command does with its results once they are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmg.orchestration.run import Run


def publish(folder: Path, run: Run, results: Mapping[str, Any], files: Mapping[str, str] | None = None) -> None:
    """Gives results to run and trackers, and prints the headline table and the paths of all tables and of `files`."""
    from rich.console import Console

    from pmg.evaluation.result_tables import ResultTables
    from pmg.evaluation.table_rendering import print_table
    from pmg.evaluation.tracker_logging import headline, record_results

    run.measure(headline(results))
    record_results(run.tracking, results, folder)
    print_table(*ResultTables.of(results).headline(results), Console())
    for name, file in {"all tables": "table.md", **(files or {})}.items():
        print(f"{name}: {folder / file}")
