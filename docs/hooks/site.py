"""Hooks of MkDocs: adds the pages that are written from other files, and rewrites links between them.

Added are the README as the first page, the configuration reference and the table of models (``conf/``), the API
reference (docstrings), the studies (``experiments/``, ``benchmarks/``), and the gallery (``examples/``). A link to a
file of the repository that is no page of the site becomes text.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import api_reference
import config_reference
import model_table
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {  # page of the site: file of the repository
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "studies/index.md": "experiments/README.md",
    "studies/log.md": "experiments/LOG.md",
    "studies/log/2026-12.md": "experiments/log/2026-12.md",
    "studies/log/2026-11.md": "experiments/log/2026-11.md",
    "studies/benchmarks.md": "benchmarks/README.md",
    "gallery/plugin.md": "examples/plugin/README.md",
    "assets.md": "assets/README.md",
}
CONF = (ROOT / "conf", *sorted(ROOT.glob("plugins/*/src/*/conf")))
PICTURES = (".png", ".webp")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```\n", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replaces the entries ``generated: NAME`` of the navigation by lists of pages."""
    lists = {"api": api_reference.navigation(ROOT), "config": _config_navigation(), "studies": _study_navigation()}
    lists["gallery"] = [f"gallery/{path.stem}.md" for path in _examples()]
    config.nav = _expand(config.nav, lists)
    return config


def _expand(entries: list[Any], lists: dict[str, list[Any]]) -> list[Any]:
    """Returns a navigation with the lists in place of their names."""
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict) and "generated" in entry:
            found += lists[entry["generated"]]
        elif isinstance(entry, dict):
            found.append({name: _expand(x, lists) if isinstance(x, list) else x for name, x in entry.items()})
        else:
            found.append(entry)
    return found


def _config_navigation() -> list[Any]:
    names = sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir() and any(path.rglob("*.yaml")))
    return ["reference/config/index.md"] + [{n: f"reference/config/{n}.md"} for n in names if n != "local"]


def _study_navigation() -> list[Any]:
    log: list[Any] = ["studies/log.md", *(page for page in PAGES if page.startswith("studies/log/"))]
    studies = ({folder.name: f"studies/{folder.name}.md"} for folder in _studies())
    return ["studies/index.md", *studies, {"benchmarks": "studies/benchmarks.md"}, {"log": log}]


def _studies() -> list[Path]:
    pages = (path for name in ("experiments", "benchmarks") for path in (ROOT / name).glob("*/README.md"))
    return sorted((path.parent for path in pages), key=lambda folder: folder.name)


def _examples() -> list[Path]:
    """Returns scripts, then notebooks, by name."""
    return sorted((ROOT / "examples").glob("*.py")) + sorted((ROOT / "examples").glob("*.ipynb"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are written from other files, and the pictures of the repository."""
    for name, text in _generated():
        files.append(File.generated(config, name, content=text))
    for page, source in _sources().items():
        if page.endswith(".md"):
            files.append(File.generated(config, page, content=(ROOT / source).read_text()))
        else:
            files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def _sources() -> dict[str, str]:
    """Returns the pages and pictures whose source is a file outside of ``docs/``, with that file."""
    studies = {f"studies/{folder.name}.md": f"{folder.parent.name}/{folder.name}/README.md" for folder in _studies()}
    found = (path for name in ("assets", "benchmarks", "experiments", "examples") for path in (ROOT / name).rglob("*"))
    kept = [path.relative_to(ROOT).as_posix() for path in found if path.suffix in PICTURES]
    return PAGES | studies | {f"images/{name}": name for name in sorted(kept)}


def _generated() -> Iterator[tuple[str, str]]:
    """Yields pages whose text is written by code."""
    reader = config_reference.Reader(*CONF)
    for name, text in config_reference.pages(reader, ROOT / "docs"):
        yield f"reference/config/{name}", text
    yield "reference/models.md", model_table.page(reader, config_reference.groups(reader))
    for name, text in api_reference.pages(ROOT):
        yield f"reference/api/{name}", text
    for path in _examples():
        yield f"gallery/{path.stem}.md", _notebook(path) if path.suffix == ".ipynb" else _script(path)
    yield "gallery/index.md", "".join(_gallery())


def _script(path: Path) -> str:
    """Returns the page of a script: its docstring, its picture, its code."""
    text = path.read_text()
    found = re.match(r'"""(.*?)"""\n', text, re.DOTALL)
    title, _, rest = found[1].partition("\n") if found else (path.stem, "", "")
    code = text[found.end() :].strip() if found else text
    picture = f"![what the script draws](images/{path.stem}.png)\n\n" if _picture(path) else ""
    return f"# {title.rstrip('.')}\n\n{rest.strip()}\n\n{picture}`examples/{path.name}`:\n\n```python\n{code}\n```\n"


def _notebook(path: Path) -> str:
    """Returns the page of a notebook: its cells, one after another."""
    cells = json.loads(path.read_text())["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    parts = [
        text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        for cell, text in zip(cells, texts, strict=True)
    ]
    return "\n\n".join([*parts, f"The notebook is `examples/{path.name}`.\n"])


def _picture(path: Path) -> bool:
    return (path.parent / "images" / f"{path.stem}.png").is_file()


def _gallery() -> Iterator[str]:
    """Yields the overview of the examples."""
    yield "# Gallery\n\nShort programs that tests run. In the checkout: `.venv/bin/python examples/NAME.py`.\n\n"
    for path in _examples():
        page = _notebook(path) if path.suffix == ".ipynb" else _script(path)
        found = re.match(r"# ([^\n]*)\n\n(?:((?!```)[^\s#!].*?)\n\n)?", page, re.DOTALL)
        title, text = found.groups() if found else (path.stem, None)
        yield f"## [{title}]({path.stem}.md)\n\n{text + chr(10) * 2 if text else ''}"
        yield f"![](images/{path.stem}.png)\n\n" if _picture(path) else ""
    yield "## [A plug-in package](plugin.md)\n"


def _repository_path(page: str) -> str:
    """Returns the file of the repository that a page is written from."""
    if source := _sources().get(page):
        return source
    return f"examples/{posixpath.basename(page)}" if page.startswith("gallery/") else f"docs/{page}"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites links that lead out of ``docs/``, and keeps code as it is."""
    here = page.file.src_uri
    to_page = {source: name for name, source in _sources().items()}
    to_page |= {f"docs/{file.src_uri}": file.src_uri for file in files if f"docs/{file.src_uri}" not in to_page}

    def link(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target) or here.startswith("reference/"):
            return found[0]
        source = posixpath.normpath(posixpath.join(posixpath.dirname(_repository_path(here)), path))
        name = to_page.get(source)
        if name:
            relative = posixpath.relpath(name, posixpath.dirname(here) or ".")
            return f"{picture}[{text}]({relative}{'#' + anchor if anchor else ''})"
        return f"{text} (`{source}`)" if not picture and (ROOT / source).exists() else found[0]

    parts, end = [], 0
    for code in FENCE.finditer(markdown):
        parts += [LINK.sub(link, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, LINK.sub(link, markdown[end:])])


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Names the search dialog, which the theme leaves without a name for screen readers."""
    return output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )
