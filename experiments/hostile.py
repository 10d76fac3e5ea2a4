"""Loads pipeline folders from somebody who means harm: each is refused, and nothing of them runs or is written."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.progress import track

from pmg import PersonalizedPipeline
from pmg.domain import PmgError

ROOT = Path(__file__).resolve().parents[1]


def attack(place: Path) -> list[dict[str, Any]]:
    """Tries the hostile indices of the test of that name; one row for each pipeline that they are made of.

    Args:
        place: a folder to write them into.
    """
    cases = _test_module()
    place.mkdir(parents=True)
    shipped = json.loads((ROOT / "assets" / "pipeline" / cases.INDEX).read_text())
    bases = {"the shipped one": shipped, "one of other classes": cases.other_classes(shipped)}
    watch = cases.Watch()
    rows = []
    for name, base in bases.items():
        indices = list(cases.hostile_indices(base, str(place)))
        refused = acted = 0
        for index in track(indices, "hostile pipelines"):
            (place / cases.INDEX).write_text(json.dumps(index))
            watch.on, watch.seen = True, []
            try:
                PersonalizedPipeline.from_pretrained(place, "cpu", str(place / "cache"))
            except PmgError as error:
                refused += "\n" not in str(error)
            finally:
                watch.on = False
            acted += bool(watch.seen)
        rows.append({"base": name, "tried": len(indices), "refused": refused, "acted": acted})
    return rows


def _test_module() -> ModuleType:
    """The module with the hostile indices: tests are no package."""
    path = ROOT / "tests" / "api" / "test_hostile_pipelines.py"
    sys.path.append(str(ROOT / "tests" / "support"))  # where its helpers are
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for row in attack(Path(folder, "hostile")):
            print(*row.values(), sep=" | ")
