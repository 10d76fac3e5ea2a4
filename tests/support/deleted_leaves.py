"""A copy of the checkout from which leaves were deleted, as somebody would who has no use for them."""

from __future__ import annotations

import re
import shutil

LEAVES = ("families", "looks", "methods", "recommendation", "studio")
OTHER_DEFAULTS = {
    "data": "own_files", "scenario": "items", "captioner": "metadata", "scorer": "tiny", "image_encoder": "scorer",
    "generator": "tiny", "method": "pmg_paper", "preference": "default", "sampling": "default", "metrics": "distances",
    "stage": "null", "wishes": "null",
}  # fmt: skip
"""What bare commands choose in place of looks, by group."""
NO_CHECKOUT = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
"""
"""Python's start-up: what isn't in the copy is not taken from the installed checkout."""
PRODUCT = ("commands", "faults", "project")
"""Folders of tests whose subject is the whole product as it is shipped, with its documents and studies."""
PLUGINS = ("plugins",)
"""Folders of tests of packages of their own, which use leaves."""
OF_LOOKS = (
    "experiment/families", "experiment/faults", "method/mean_style", "method/pmg_sdedit", "method/pmg_sdedit_trained",
    "method/retrieve", "method/sdedit", "method/sdedit_trained",
)  # fmt: skip
"""Options that set keys of looks, or name its sources; all others build something of it, or choose such an option."""
OF_METHODS = ("method/pmg",)
"""Options with keys that methods build."""


def copy_without(root, folder, deleted):
    """Copies the checkout into a folder without some leaves, their options, tests and entry points.

    Bare commands choose something else where they chose an option that is gone.
    """
    ignored = shutil.ignore_patterns("__pycache__", ".*", "outputs", "site", "*.egg-info")
    for name in ("src", "conf", "tests", "docs", "examples"):
        shutil.copytree(root / name, folder / name, ignore=ignored)
    for name in ("assets", "README.md", "Makefile", "CHANGELOG.md", "benchmarks", "experiments"):
        (folder / name).symlink_to(root / name)
    text = (root / "pyproject.toml").read_text()
    for leaf in deleted:
        shutil.rmtree(folder / "src" / "pmg" / leaf)
        shutil.rmtree(folder / "tests" / leaf)
        for command in re.findall(rf'^(\w+) = "pmg\.{leaf}\..*Config"', text, re.MULTILINE):
            (folder / "conf" / f"{command}.yaml").unlink()
        text = re.sub(rf'^.*"pmg\.{leaf}[".:].*\n', "", text, flags=re.MULTILINE)
    (folder / "pyproject.toml").write_text(text)
    delete_options(folder / "conf", deleted)
    (folder / "src" / "pmg" / "conf").symlink_to(folder / "conf")  # where an installation has it
    (folder / "src" / "sitecustomize.py").write_text(NO_CHECKOUT)


def delete_options(conf, deleted):
    """Deletes the options that build something of a leaf, and those that choose such an option."""
    roots = [*conf.glob("*.yaml"), *(conf / "base").glob("*.yaml")]
    gone = {path for path in conf.rglob("*.yaml") if any(f"pmg.{leaf}." in path.read_text() for leaf in deleted)}
    for leaf, options in (("looks", OF_LOOKS), ("methods", OF_METHODS)):
        gone |= {conf / f"{option}.yaml" for option in options if leaf in deleted}
    while more := {path for path in conf.rglob("*.yaml") if path not in gone | set(roots) and chooses(path, gone)}:
        gone |= more
    names = {f"{path.parent.name}: {path.stem}" for path in gone}
    for path in gone:
        path.unlink()
    for path in roots:
        if path not in gone:
            path.write_text("\n".join(other_default(line, names) for line in path.read_text().split("\n")))


def chooses(path, gone):
    """Whether an option's defaults name one of some others."""
    text = path.read_text()
    for other in gone:
        group, name = other.parent.name, re.escape(other.stem)
        if path.parent == other.parent and re.search(rf"^defaults:\s*\[.*\b{name}\b", text, re.MULTILINE):
            return True
        if re.search(rf"(/|^\s*|\b){group}(@[\w.]+)?: (\[.*)?\b{name}\b", text, re.MULTILINE):
            return True
    return False


def other_default(line, gone):
    """Returns a line of a root file, which chooses something else if it chose an option that is gone."""
    found = re.match(r"(\s*- /?)(\w+): (\w+)", line)
    if found is None or f"{found[2]}: {found[3]}" not in gone:
        return line
    return f"{found[1]}{found[2]}: {OTHER_DEFAULTS[found[2]]}"
