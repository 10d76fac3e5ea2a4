"""Imports run one way, heavy ones wait inside commands, and files and functions stay short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "pmg"
FILES = sorted(SOURCE.rglob("*.py"))
FLOORS = [
    {
        "domain",
        "ranges",
        "schemas",
        "targets",
        "composition",
        "config",
        "identity",
        "cache",
        "losses",
        "process",
        "provenance",
        "ending",
        "run_folder",
        "locks",
    },
    {"models"},
    {"data", "language", "tracking", "training", "run"},
    {"generation"},
    {"evaluation"},
    {"reporting"},
    {"commands"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
HOMES = {
    "hydra": {"config", "run", "commands"},
    "omegaconf": {"config", "run", "run_folder", "ending", "commands"},
    "pytorch_lightning": {"tracking", "training", "run", "commands"},
}
LIGHT = {"ranges", "schemas", "config", "identity", "cache", "domain", "run", "run_folder", "process", "provenance"}
LIGHT |= {"composition", "locks", "ending", "commands", "targets"}
HEAVY = {
    "torch",
    "torchvision",
    "pytorch_lightning",
    "diffusers",
    "transformers",
    "torchmetrics",
    "lpips",
    "wandb",
}
HEAVY |= {"pandas", "scipy", "pyarrow", "safetensors", "matplotlib", "numpy", "PIL"}


def short(path):
    """Returns a file's path inside the package."""
    return str(path.relative_to(SOURCE))


def part(path):
    """Returns the top-level part that a file belongs to, e.g. ``models``."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(tree):
    """Returns every dotted name that is imported under `tree`."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "pmg":
            names += [f"pmg.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return names


def outer_imports(tree):
    """Returns what is imported when the module is: not inside functions, not for type checkers alone."""
    return [name for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)) for name in imports(node)]


def parse(path):
    return ast.parse(path.read_text())


def test_files_are_found():
    assert len(FILES) > 10


@pytest.mark.parametrize("path", FILES, ids=short)
def test_imports_run_downward(path):
    if path == SOURCE / "__init__.py":
        pytest.skip("the package itself has no floor")
    inner = {name.split(".")[1] for name in imports(parse(path)) if name.startswith("pmg.")} - {
        "conf",
        "__version__",
    }
    upward = sorted(name for name in inner if FLOOR.get(name, 0) > FLOOR[part(path)])
    assert not upward, f"{part(path)} may not import {upward}"


@pytest.mark.parametrize("path", FILES, ids=short)
def test_frameworks_stay_at_home(path):
    roots = {name.split(".")[0] for name in imports(parse(path))}
    strays = sorted(name for name, homes in HOMES.items() if name in roots and part(path) not in homes)
    assert not strays
    assert "lightning" not in roots, "its classes are not those of pytorch_lightning"


@pytest.mark.parametrize("path", [p for p in FILES if part(p) in LIGHT], ids=lambda p: str(p.relative_to(SOURCE)))
def test_shell_imports_heavy_libraries_late(path):
    assert not HEAVY & {name.split(".")[0] for name in outer_imports(parse(path))}


def test_instantiate_has_one_door():
    callers = [path.name for path in FILES if "hydra.utils.instantiate" in path.read_text()]
    assert callers == ["config.py"]


@pytest.mark.parametrize("path", FILES, ids=short)
def test_files_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) <= 300
    functions = [node for node in ast.walk(parse(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    long = [node.name for node in functions if body_length(node) > 60]
    assert not long


def body_length(node):
    """Returns the lines of a function without its docstring."""
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node):
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_no_utils_module():
    assert not [path for path in FILES if "utils" in path.stem or "utils" in path.parent.name]
