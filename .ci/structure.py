"""Counts what the structure of the code is measured by, and fails where a bound is exceeded.

    python .ci/structure.py         # the table
    python .ci/structure.py --show  # each finding too

Lines are all lines of ``src/pmg``. The core is everything but the leaves: the packages that ``pyproject.toml``
registers as plug-ins. A sub-package is a folder below a package, e.g. ``pmg.models.language``; imports inside
functions and for type checkers count. A function takes a config if a parameter is annotated ``DictConfig`` or called
``cfg``.
A config node is a mapping with a ``_target_`` and at least two arguments; it is written twice if another file has it.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parent.parent
SOURCE, CONF = ROOT / "src", ROOT / "conf"
Graph = dict[str, set[str]]


@cache
def modules() -> Mapping[str, Path]:
    """Returns the file of each module by its dotted name."""
    found = {}
    for path in sorted((SOURCE / "pmg").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def parse(path: Path) -> ast.Module:
    """Returns the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def leaves() -> list[str]:
    """Returns the dotted names of the leaves, as the project registers them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sorted(project["entry-points"]["pmg.plugins"].values())


def leaf_of(module: str) -> str | None:
    """Returns the leaf that a module belongs to; None: it is the core's."""
    return next((leaf for leaf in leaves() if module == leaf or module.startswith(f"{leaf}.")), None)


@cache
def imports() -> Graph:
    """Returns the modules of pmg that each module imports."""
    graph: Graph = {name: set() for name in modules()}
    for name, path in modules().items():
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                found = [one if one in modules() else node.module for one in inner]
            else:
                continue
            graph[name] |= {one for one in found if one in modules() and one != name}
    graph["pmg"] = set()  # its public names are imported on first use
    return graph


def outward() -> list[str]:
    """Returns the imports from the core to a leaf, and from one leaf to another."""
    return [
        f"{name} -> {found}"
        for name, inner in imports().items()
        for found in sorted(inner)
        if leaf_of(found) not in (None, leaf_of(name))
    ]


def package_of(module: str) -> str:
    """Returns the package directly below ``pmg`` that a module is in."""
    return ".".join(module.split(".")[:2])


def sub_package_of(module: str) -> str:
    """Returns the folder that a module is in; a module that lies directly in a package is alone."""
    parts = module.split(".")
    is_folder = modules()[module].name == "__init__.py"
    return module if len(parts) <= 3 or is_folder else ".".join(parts[:-1])


def circles(group: Any) -> list[list[str]]:
    """Returns the groups of modules that import each other, each as a list of names.

    Args:
        group: of a module's name.
    """
    graph: Graph = defaultdict(set)
    for name, inner in imports().items():
        graph[group(name)] |= {group(one) for one in inner} - {group(name)}
    found = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
            return found
        except CycleError as error:
            circle = _component(graph, error.args[1][0])
            found.append(sorted(circle))
            for one in circle:
                graph[one] -= circle


def _component(graph: Graph, start: str) -> set[str]:
    """Returns the nodes that `start` reaches and that reach it."""
    back: Graph = defaultdict(set)
    for name, inner in graph.items():
        for one in inner:
            back[one].add(name)
    return _reached(graph, start) & _reached(back, start)


def _reached(graph: Graph, start: str) -> set[str]:
    seen, waiting = {start}, [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


def config_functions() -> list[str]:
    """Returns the functions that take a config."""
    found = []
    for name, path in modules().items():
        for node in ast.walk(parse(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if any(one.arg == "cfg" or "DictConfig" in ast.unparse(one.annotation or one) for one in arguments):
                    found.append(f"{name}.{node.name}")
    return found


def repeated_nodes() -> list[str]:
    """Returns the config nodes that several files have, each with the places of the others."""
    places = defaultdict(list)
    for path in sorted(CONF.rglob("*.yaml")):
        tree = OmegaConf.to_container(OmegaConf.load(path))
        for key, node in _nodes(tree, ""):
            if "_target_" in node and len(node) > 2:
                places[json.dumps(node, sort_keys=True)].append(f"{path.relative_to(CONF)}:{key}")
    return [f"{first}: {', '.join(others)}" for first, *others in places.values() if others]


def _nodes(tree: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(tree, dict):
        yield key, tree
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in items:
        yield from _nodes(value, f"{key}.{name}".lstrip("."))


def lines(core: bool = False) -> int:
    """Returns the lines of all modules, or of the core's."""
    names = [name for name in modules() if not (core and leaf_of(name))]
    return sum(len(modules()[name].read_text(encoding="utf-8").splitlines()) for name in names)


def main() -> int:
    """Prints the table, and returns 1 if a bound is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--show", action="store_true", help="print each finding")
    show = parser.parse_args().show
    findings: dict[str, tuple[list[Any], int]] = {
        "imports from the core or a leaf to another leaf": (outward(), 0),
        "circles of packages": (circles(package_of), 0),
        "circles of sub-packages": (circles(sub_package_of), 0),
        "functions that take a config": (config_functions(), 35),
        "config nodes written more than once": (repeated_nodes(), 0),
    }
    # the core and all lines were 27,000 and 36,500 when leaves were made; each feature since has brought its own
    counts = {"lines": (lines(), 37_860), "lines of the core": (lines(core=True), 25_770)}
    counts |= {name: (len(found), bound) for name, (found, bound) in findings.items()}
    for name, (count, bound) in counts.items():
        print(f"{count:7,d}  {name} (at most {bound:,d})")
        for one in findings[name][0] if show and name in findings else ():
            print(f"         {one if isinstance(one, str) else ' <-> '.join(one)}")
    return int(any(count > bound for count, bound in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
