"""Every script and notebook of examples/ runs; pictures that the documents show are what the scripts draw."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path

import pytest

from pmg import PersonalizedPipeline

STUDY = json.loads((Path(__file__).parents[2] / "experiments" / "components" / "results.json").read_text())
RECORDED = STUDY["paired"]["keywords-none"]["lpips_truth"]
SCRIPTS = {  # what each script prints a part of
    "alpha": "alpha 1.0: candidate",
    "guidance": "",
    "history_length": "8 interactions: ",
    "image_metrics": "shifted: LPIPS",
    "keywords": "the first, who dislikes the second's:",
    "own_shop": "bought",
    "paired_differences": "keywords - none: {mean:+.3f} [{low:+.3f}, {high:+.3f}]".format_map(RECORDED),
    "two_users": " -> ",
}
IN_CI = {"image_metrics", "paired_differences", "configs_and_data"}  # the others draw as the quickstart does
pytestmark = pytest.mark.slow


def listed(names):
    """Returns the names as parameters of a test."""
    return [pytest.param(name, marks=pytest.mark.ci if name in IN_CI else ()) for name in names]


@pytest.fixture(autouse=True)
def in_checkout(root, monkeypatch):
    """Runs in the checkout, as the documents say; the pipeline is loaded once."""
    monkeypatch.chdir(root)
    monkeypatch.setattr(PersonalizedPipeline, "from_pretrained", load_once)


@cache
def load_once(source):
    return LOAD(source)


LOAD = PersonalizedPipeline.from_pretrained


def test_every_example_is_listed(root):
    assert {path.stem for path in (root / "examples").glob("*.py")} == set(SCRIPTS)


@pytest.mark.parametrize("name", listed(SCRIPTS))
def test_script_runs(root, tmp_path, capfd, name):
    spec = importlib.util.spec_from_file_location(name, root / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path)
    assert SCRIPTS[name] in capfd.readouterr().out
    drawn = {path.name for path in tmp_path.glob("*.png")}
    shown = {path.name for path in (root / "examples" / "images").glob(f"{name}.png")}
    assert drawn == shown


@pytest.mark.parametrize("name", listed(["configs_and_data", "first_images"]))
def test_notebook_runs(root, name):
    cells = json.loads((root / "examples" / f"{name}.ipynb").read_text())["cells"]
    names: dict = {}
    for cell in cells:
        assert not cell.get("outputs"), "outputs are not kept: run it to see them"
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
