"""Pages of the API reference: a page for each public package, filled from docstrings by mkdocstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INTERNAL = ("commands", "orchestration")  # console scripts, and what runs them
PUBLIC_NAMES = ("PersonalizedPipeline", "compose", "instantiate", "PmgError")


def packages(root: Path) -> dict[str, list[str]]:
    """Returns the modules of each public package, by dotted name."""
    source = root / "src"
    found: dict[str, list[str]] = {}
    for path in sorted((source / "pmg").rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        if parts[-1] != "__init__" and not {*parts} & {*INTERNAL}:
            found.setdefault(".".join(parts[:-1]), []).append(".".join(parts))
    return found


def navigation(root: Path) -> list[Any]:
    """Returns the pages for the navigation."""
    return ["reference/api/index.md", *({name: f"reference/api/{name}.md"} for name in packages(root))]


def pages(root: Path) -> Iterator[tuple[str, str]]:
    """Yields ``(file name, Markdown)`` of the overview and of a page for each package."""
    yield "index.md", "".join(_overview(root))
    for package, modules in packages(root).items():
        blocks = "".join(f"::: {name}\n\n" for name in modules)
        yield f"{package}.md", f"# {package}\n\n{_summary(root, package)}\n\n{blocks}"


def _overview(root: Path) -> Iterator[str]:
    yield "# API reference\n\nWritten from docstrings. `import pmg` has four names:\n\n"
    yield "| name | meaning |\n| --- | --- |\n"
    for name in PUBLIC_NAMES:
        home = _homes(root)[name]
        yield f"| [`pmg.{name}`][{home}.{name}] | {_summary(root, home, name)} |\n"
    yield "\n## Packages\n\n| package | modules |\n| --- | --- |\n"
    for package, modules in packages(root).items():
        names = ", ".join(f"[`{name.rpartition('.')[2]}`][{name}]" for name in modules)
        yield f"| [`{package}`]({package}.md) | {names} |\n"


def _homes(root: Path) -> dict[str, str]:
    """Returns the modules that define the names of ``import pmg``."""
    for node in ast.parse((root / "src/pmg/__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOMES":
            return ast.literal_eval(node.value)
    raise LookupError("src/pmg/__init__.py has no _HOMES")


def _summary(root: Path, module: str, name: str = "") -> str:
    """Returns the first sentence of a module's docstring, or of a class or function in it."""
    path = root / "src" / Path(*module.split("."))
    tree: Any = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    if name:
        tree = next(node for node in tree.body if getattr(node, "name", "") == name)
    return (ast.get_docstring(tree) or "").partition("\n")[0]
