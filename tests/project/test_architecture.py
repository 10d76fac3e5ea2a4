"""Imports go from later layers to earlier ones, heavy ones are inside functions of commands; functions are short."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "pmg"
FILES = sorted(SOURCE.rglob("*.py"))
spec = importlib.util.spec_from_file_location("structure", SOURCE.parents[1] / ".ci" / "structure.py")
structure = importlib.util.module_from_spec(spec)
spec.loader.exec_module(structure)
LAYERS = [
    {"domain", "cache", "seeding", "installation", "paths", "progress"},
    {"configuration"},
    {"runs"},
    {"models"},
    {"data", "tracking"},
    {"preferences"},
    {"training"},
    {"records"},
    {"generation"},
    {"api"},
    {"evaluation"},
    {"reporting", "html_document"},
    {"orchestration"},
    {"commands"},
    {"looks", "families", "methods", "recommendation", "studio"},
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
HOMES = {
    "hydra": {"configuration", "orchestration", "commands"},
    "omegaconf": {"configuration", "runs", "reporting", "orchestration", "commands", "recommendation", "studio"},
    "pytorch_lightning": {"tracking", "training", "orchestration", "commands", "looks"},
}
LIGHT = {"domain", "cache", "configuration", "runs", "orchestration", "commands"}
HEAVY = {"torch", "torchvision", "pytorch_lightning", "diffusers", "transformers", "torchmetrics", "lpips", "wandb"}
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


@cache
def parse(path):
    return ast.parse(path.read_text())


def test_files_are_found():
    assert len(FILES) > 10


def offenders(find, files=FILES):
    """Returns what `find` returns of each file, by its path, where that is not empty."""
    found = {short(path): find(path) for path in files}
    return {name: names for name, names in found.items() if names}


def test_imports_go_to_the_same_layer_or_an_earlier_one():
    def later(path):
        inner = {name.split(".")[1] for name in imports(parse(path)) if name.startswith("pmg.")}
        inner -= {"conf", "__version__"}
        return sorted(name for name in inner if LAYER.get(name, 0) > LAYER[part(path)])

    assert not offenders(later, [path for path in FILES if path != SOURCE / "__init__.py"])  # that is in no layer


@pytest.mark.slow
def test_leaves_are_imported_by_nothing_else():
    """What `pyproject.toml` registers as a plug-in."""
    assert structure.leaves() == ["pmg.families", "pmg.looks", "pmg.methods", "pmg.recommendation", "pmg.studio"]
    assert not structure.outward()


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("group", [str, structure.sub_package_of, structure.package_of])
def test_nothing_imports_itself_through_others(group):
    assert not structure.circles(group)


def test_frameworks_are_imported_in_their_packages_alone():
    """The classes of `lightning` are not those of `pytorch_lightning`."""

    def strays(path):
        roots = {name.split(".")[0] for name in imports(parse(path))}
        strayed = sorted(name for name, homes in HOMES.items() if name in roots and part(path) not in homes)
        return strayed + sorted(roots & {"lightning"})

    assert not offenders(strays)


def test_commands_and_what_they_import_first_import_heavy_libraries_in_functions():
    light = [path for path in FILES if part(path) in LIGHT]
    assert not offenders(lambda path: HEAVY & {name.split(".")[0] for name in outer_imports(parse(path))}, light)


def test_one_module_calls_hydras_instantiate():
    callers = [path.name for path in FILES if "hydra.utils.instantiate" in path.read_text()]
    assert callers == ["instantiate.py"]


def test_functions_are_short():
    assert not offenders(lambda path: [node.name for node in functions(path) if body_length(node) > 60])


def body_length(node):
    """Returns the lines of a function without its docstring."""
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node):
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_no_utils_module():
    assert not [path for path in FILES if "utils" in path.stem or "utils" in path.parent.name]


def functions(path):
    """Returns every function and method of a file, nested ones included."""
    return [node for node in ast.walk(parse(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def positional(node):
    """Returns the names of the parameters that may be given by position."""
    return [one.arg for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in {"self", "cls"}]


def test_functions_take_at_most_six_positional_arguments():
    assert not offenders(lambda path: [node.name for node in functions(path) if len(positional(node)) > 6])


def test_constructors_take_at_most_ten_arguments():
    """Dataclasses are exempt: records of named values, e.g. a row of a file, a schema or what was measured."""

    def wide(path):
        constructors = [node for node in functions(path) if node.name == "__init__"]
        return [node.lineno for node in constructors if len(positional(node)) + len(node.args.kwonlyargs) > 10]

    assert not offenders(wide)


def test_wide_records_are_built_by_the_names_of_their_fields():
    classes = [node for path in FILES for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef)]
    wide = {node.name for node in classes if sum(isinstance(one, ast.AnnAssign) for one in node.body) > 10}
    calls = [node for path in FILES for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
    assert not [ast.unparse(node) for node in calls if getattr(node.func, "id", "") in wide and len(node.args) > 6]


def test_public_classes_and_functions_are_documented():
    def bare(path):
        classes = [node for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef)]
        public = [node for node in (*classes, *functions(path)) if not node.name.startswith("_")]
        return [node.name for node in public if not ast.get_docstring(node)]

    assert not offenders(bare)
