"""The wheel holds every module and config, and works from any directory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest


def test_every_package_is_listed(root):
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    source = root / "src"
    found = {".".join(path.parent.relative_to(source).parts) for path in (source / "pmg").rglob("__init__.py")}
    assert set(listed) == found | {"pmg.conf"}


def test_every_module_folder_is_a_package(root):
    folders = {path.parent for path in (root / "src" / "pmg").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_types_are_shipped_and_modules_of_the_type_checker_exist(root):
    tool = tomllib.loads((root / "pyproject.toml").read_text())["tool"]
    assert "py.typed" in tool["setuptools"]["package-data"]["pmg"]
    assert (root / "src" / "pmg" / "py.typed").exists()
    strict = [part for part in tool["mypy"]["overrides"] if "disallow_any_generics" in part]
    named = [name for part in strict for name in part["module"]]
    paths = [root.joinpath("src", *name.removesuffix(".*").split(".")) for name in named]
    assert not [str(path) for path in paths if not (path.with_suffix(".py").exists() or path.is_dir())]
    assert len(named) == len(set(named))


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """Builds the wheel from a copy, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("src", "conf"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")
        shutil.copytree(root / name, folder / "copy" / name, ignore=ignored)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(root / name, folder / "copy" / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder]
    subprocess.run([*build, folder / "copy"], check=True)
    return next(folder.glob("pmg-*.whl"))


@pytest.mark.slow
def test_wheel_holds_every_file(root, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(root / "src")) for path in (root / "src" / "pmg").rglob("*.py")}
    configs = {
        f"pmg/conf/{path.relative_to(root / 'conf')}"
        for path in (root / "conf").rglob("*.yaml")
        if path.relative_to(root / "conf").parts[0] != "local"
    }
    page = {f"pmg/reporting/page/page.{ending}" for ending in ("html", "css", "js")}
    assert modules | configs | page | {"pmg/py.typed"} <= names
    assert not [name for name in names if "assets" in name or name.startswith("tests")]


@pytest.mark.slow
def test_installed_wheel_composes_from_another_directory(shell, wheel, tmp_path):
    install = ["-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "site", wheel]
    assert shell(sys.executable, *install).returncode == 0
    where = shell(sys.executable, "-c", "import pmg; print(pmg.__file__)", PYTHONPATH=str(tmp_path / "site"))
    assert where.stdout.startswith(str(tmp_path / "site"))
    for script in ("pmg-prepare", "pmg-pretrain", "pmg-train", "pmg-generate", "pmg-evaluate"):
        program = tmp_path / "site" / "bin" / script
        done = shell(sys.executable, program, "--cfg", "job", PYTHONPATH=str(tmp_path / "site"))
        assert done.returncode == 0, done.stderr
        assert "run_dir" in done.stdout
