"""What the documents and the Makefile name exists: commands, targets, options, versions."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import hydra
import pytest
import yaml

import pmg
from plugins import write_examples
from pmg.configuration.compose import own_hydra
from pmg.configuration.plugins import read_override, searched
from pmg.configuration.schemas import find_schemas
from pmg.installation import DISTRIBUTION

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
COMMANDS = [ROOT / "experiments" / "record.yaml", *sorted((ROOT / "experiments").glob("*/study.yaml"))]
MAKEFILE = (ROOT / "Makefile").read_text()
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
STUDIES = {path.parent.name for path in (ROOT / "experiments").glob("*/study.yaml")}
TARGETS = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.MULTILINE)) - STUDIES
PLACEHOLDER = re.compile(r"[A-Z]{3,}|[<>$…]|\.\.\.")


def commands(text):
    """Returns (verb, overrides) for each ``pmg-VERB …`` written in code."""
    found = []
    for verb, rest in re.findall(
        r"(?<![\w/.-])(?:\$\(BIN\)/)?pmg-([a-z]+)\b([^\n`&|;#)]*)", text.replace(DISTRIBUTION, "")
    ):
        words = [word.strip("'\"") for word in rest.split()]
        found.append((verb, [w for w in words if re.match(r"[\w+~/@.]+=", w) and not PLACEHOLDER.search(w)]))
    return found


BY_DEFAULT = ("README.md", "quickstart.md")
ALSO_IN_TEST_EXTENDING = "extending"  # and its further pages


def marks_of(path):
    """When a document's commands are composed: always, before a merge, or with the slow tests alone."""
    if path.name in BY_DEFAULT:
        return ()
    return pytest.mark.slow if path.name.startswith(ALSO_IN_TEST_EXTENDING) else (pytest.mark.slow, pytest.mark.ci)


def text_of(path):
    """Returns a document's text, or the commands of a file of studies, a line each."""
    text = path.read_text()
    if path.suffix != ".yaml":
        return text
    found = yaml.safe_load(text)
    parts = [found] if "commands" in found else found["trainings"].values()
    return "\n".join(command["run"] for part in parts for command in part["commands"])


NAMED = [
    pytest.param(
        path,
        verb,
        overrides,
        id=f"{path.relative_to(ROOT)}: pmg-{verb} {' '.join(overrides)}",
        marks=marks_of(path),
    )
    for path in [*DOCUMENTS, ROOT / "Makefile", *COMMANDS]
    for verb, overrides in dict.fromkeys((v, tuple(o)) for v, o in commands(text_of(path)))
]


@pytest.mark.parametrize(("path", "verb", "overrides"), NAMED)
def test_named_command_composes(compose, tmp_path, monkeypatch, path, verb, overrides):
    assert f"pmg-{verb}" in SCRIPTS, f"there is no pmg-{verb}"
    if verb not in find_schemas():
        assert not overrides, f"pmg-{verb} takes folders"
        return
    # of a sweep (a,b,c) the first value; Hydra's own keys are read outside of the job's config
    first = [word if word.split("=")[1][:1] in "[{" else word.split(",")[0] for word in overrides]
    # where runs are found makes no difference: one config for all
    own = [re.sub(r"^(run_dir|train_run|generate_run)=.*", r"\1=run", word) for word in first]
    own = [word for word in own if not word.startswith("hydra") and word != "run_dir=run"]
    if path.name.startswith(ALSO_IN_TEST_EXTENDING):  # its commands use files that it shows
        write_examples(path.read_text(), tmp_path)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        with searched(read_override(overrides)), own_hydra(verb):
            hydra.compose(verb, overrides=[*own, f"hydra.searchpath=[file://{tmp_path}/conf]"])
    else:
        compose(verb, *own)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_named_targets_exist(path):
    named = set(re.findall(r"(?:`|^\$? ?)make ([a-z][a-z-]*)", path.read_text(), re.MULTILINE))
    unknown = sorted(named - TARGETS - STUDIES)
    assert not unknown, f"{path.name} names targets that the Makefile lacks: {unknown}"


@pytest.mark.parametrize(
    "path", [*DOCUMENTS, ROOT / "Makefile", *COMMANDS], ids=lambda path: f"{path.relative_to(ROOT)}"
)
def test_named_experiments_exist(path):
    named = set(re.findall(r"(?<!\w)experiment=([a-z]\w*)", path.read_text()))
    folders = [ROOT / "conf" / "experiment", *ROOT.glob("plugins/*/src/*/conf/experiment")]
    existing = {file.stem for folder in folders for file in folder.glob("*.yaml")}
    shown = set(re.findall(r"^# conf/experiment/(\w+)\.yaml", path.read_text(), re.MULTILINE))
    assert named <= existing | shown


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert not [link for link in re.findall(r"\]\(((?!http)[^)#]+)", text) if not (ROOT / link).exists()]


def test_the_files_to_read_first_are_there_and_have_so_many_lines():
    rows = re.findall(r"^\| `([\w/]+\.py)` \| (\d+) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    lines = {name: len((ROOT / "src" / "pmg" / name).read_text().splitlines()) for name, _ in rows}
    assert len(lines) == 12
    assert {name: count for name, count in rows if abs(lines[name] - int(count)) > 0.2 * lines[name]} == {}
    assert sum(lines.values()) < 2300


def test_every_target_explains_itself():
    explained = set(re.findall(r"^([a-z][\w-]*):.*## ", MAKEFILE, re.MULTILINE))
    assert explained == TARGETS


def test_version_is_the_same_everywhere():
    assert f"## [{pmg.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == pmg.__version__
