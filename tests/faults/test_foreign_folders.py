"""Commands are told to write into folders that aren't theirs: they refuse, or the folder stays as it was."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from fault_runs import ARGUMENTS, MODELS, HonestRuns, call, contents, must, open_shop

# a user's project, whose files have the names of those that commands write
PROJECT = {
    "README.md": "# Mine\n", "config.yaml": "a: 1\n", "model_index.json": "{}\n", "src/mine.py": "print(1)\n",
    "results.json": "{}\n", "items.parquet": "x", "pictures/me.png": "x", "encoder/config.json": "{}",
    "checkpoints/last.ckpt": "x", "records.jsonl": "", "table.md": "mine", "csv/notes.csv": "a,b\n",
    "metrics.csv": "x", "index.html": "<p>", "summary.md": "# Mine", "figures/mine.png": "x", "words.json": "{}",
    "look_generator/vae/config.json": "{}", "look_generator/vae/diffusion_pytorch_model.safetensors": "x",
    "train/pool.safetensors": "x", "digests.json": "{}", "prepared.json": "{}", "answers.sqlite": "x",
    "0/config.yaml": "b: 2\n", "shards/0/records.jsonl": "x", "judged/mine.parquet": "x", "key.json": "{}",
}  # fmt: skip

# trials that need no runs
QUICK = ("train: run_dir=project", "study: run_dir=project", "prepare: run_dir=new data.folder=project")


@dataclass(frozen=True)
class Trial:
    """A command that is told to write into a foreign folder; see folders.yaml."""

    verb: str
    arguments: str
    added: str
    target: str
    expected: str = "holds files that aren't pmg's"
    place: str = "."
    write: dict[str, str] = field(default_factory=dict)
    project: str = ""
    new: str = ""

    @property
    def name(self):
        return f"{self.verb}: {self.added}"


def read_trials():
    groups = yaml.safe_load(Path(__file__).with_name("folders.yaml").read_text())
    every = groups.pop("every command")
    for command, rows in [*((command, every["cases"]) for command in every["arguments"]), *groups.items()]:
        for row in rows:
            more = row[-1] if isinstance(row[-1], dict) else {}
            yield Trial(*command.split(), *(cell for cell in row if isinstance(cell, str)), **more)


def write_files(texts, folder="."):
    for name, text in texts.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def begin():
    """A prepared data set, a project, and links to it, to runs and to models."""
    open_shop(Path("shop"))
    must("prepare", *ARGUMENTS["shop"])
    write_files(PROJECT, "project")
    for name in ("project", "real_users/generate", "models"):
        Path(f"link_to_{Path(name).name}").symlink_to(name)


def run_commands():
    """Runs of several commands, and a copy of the models."""
    shutil.copytree(MODELS, "models", ignore=shutil.ignore_patterns("*.egg-info", "build"))
    must("train", *ARGUMENTS["chain"])
    must("generate", *ARGUMENTS["chain"])
    must("evaluate", *ARGUMENTS["judged"])
    must("survey", *ARGUMENTS["survey"])
    must("keywords", *ARGUMENTS["words"])
    must("export", *ARGUMENTS["export"])
    must("report", *ARGUMENTS["report"])


@pytest.fixture(scope="module")
def honest_runs(tmp_path_factory):
    return HonestRuns(tmp_path_factory.mktemp("folders") / "honest", {"project": begin, "runs": run_commands})


@pytest.mark.parametrize(
    "trial",
    [
        pytest.param(trial, id=trial.name, marks=() if trial.name in QUICK else pytest.mark.slow)
        for trial in read_trials()
    ],
)
def test_foreign_folders_stay_as_they_are(trial, honest_runs, tmp_path, monkeypatch, outcome):
    with honest_runs.copied("project" if trial.name in QUICK else "runs", tmp_path / "attacked"):
        write_files(trial.write)
        if trial.project:
            write_files(PROJECT, trial.project)
        target = Path(trial.target).absolute()
        if trial.target == "models":
            monkeypatch.setenv("PMG_ASSETS", str(target))
        added = shlex.split(trial.added)
        replaced = tuple(f"{text.partition('=')[0]}=" for text in added)
        arguments = [*added, *(text for text in ARGUMENTS[trial.arguments] if not text.startswith(replaced))]
        before = contents(target)
        with contextlib.chdir(trial.place):
            code, said = call(trial.verb, arguments)
        after = {name: digest for name, digest in contents(target).items() if not trial.new or trial.new not in name}
        outcome("foreign folders", trial.verb, trial.added, "refused in one line" if code else "wrote beside it", said)
    assert after == before
    if trial.new:
        assert code == 0, said
    else:
        assert trial.expected in said
        assert code != 0
