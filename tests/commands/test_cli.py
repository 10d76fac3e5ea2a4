"""The command line: light, and with one clear line for each mistake."""

from __future__ import annotations

import contextlib
import re
import sys
import tomllib

import pytest

from commands import run_here
from pmg import __version__
from pmg.commands.pmg import main
from pmg.configuration.schemas import find_schemas

PROBE = """
import contextlib, io, json, os, sys
os.environ.update(COMP_LINE="pmg logger=", COMP_POINT="11")
from pmg.commands.pmg import find_commands
heavy = {"torch", "pytorch_lightning", "transformers", "diffusers", "pandas", "pydantic"}
for command in sys.argv[1:]:
    main = find_commands()[command].load()
    # the others are composed as one of these is; that they import nothing heavy is seen behind them
    ways = {"train": [["--help"], ["--cfg", "job"]], "app": [["--cfg", "job"]], "prepare": [["--help"]]}
    for arguments in ways.get(command, []) + [["-sc", "query=bash"]] * (command == "train"):
        sys.argv = ["pmg", *arguments]
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main()
        assert text.getvalue() or arguments[0] == "-sc", (command, arguments)
    print(command, *sorted(heavy & set(sys.modules)))
"""


@pytest.mark.ci
@pytest.mark.slow
def test_help_config_and_completion_import_no_heavy_library(shell):
    """Of all commands in one process, to import once: what one loads is seen with the next ones, too."""
    commands = [*sorted(find_schemas()), "report"]
    done = shell(sys.executable, "-c", PROBE, *commands)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == [*commands, ""]


LIST = """
import sys
from pmg.commands.pmg import main
sys.argv = ["pmg"]
main()
assert not {"hydra", "omegaconf", "torch", "rich"} & set(sys.modules)
"""


def test_pmg_lists_all_commands_in_80_columns_without_an_import_of_them(shell, root):
    scripts = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
    done = shell(sys.executable, "-c", LIST)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert listed == sorted(name.removeprefix("pmg-") for name in scripts if name != "pmg")
    assert all(len(line.split()) > 3 for line in lines if line.startswith("  "))
    assert max(map(len, lines)) <= 80


def run_pmg(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["/bin/pmg", *arguments])
    with contextlib.suppress(SystemExit):  # of argparse
        main()


def test_pmg_runs_a_command(monkeypatch, capsys):
    run_pmg(monkeypatch, "report", "--help")
    assert capsys.readouterr().out.startswith("usage: pmg-report")


def test_pmg_names_the_nearest_command(monkeypatch, capsys):
    run_pmg(monkeypatch, "trian")
    assert capsys.readouterr().err == "error: unknown command 'trian'; did you mean 'train'?\n"


OF_PYTHON_3_14 = """
import argparse
import sys

def check(self, action):
    if action.help:
        try:
            "%" in action.help
        except TypeError as error:
            raise ValueError("badly formed help string") from error

add = argparse.ArgumentParser.add_argument

def add_checked(self, *names, **settings):
    action = add(self, *names, **settings)
    self._check_help(action)
    return action

argparse.ArgumentParser._check_help, argparse.ArgumentParser.add_argument = check, add_checked
"""
"""The check of help texts that argparse has from Python 3.14 on."""


def test_commands_start_under_the_argparse_of_python_3_14(shell):
    hydra_alone = f"{OF_PYTHON_3_14}\nfrom hydra._internal.utils import get_args_parser\nget_args_parser()"
    assert "badly formed help string" in shell(sys.executable, "-c", hydra_alone).stderr
    command = (
        f"{OF_PYTHON_3_14}\nsys.argv = ['pmg-train', '--cfg', 'job']\nfrom pmg.commands.train import main\nmain()"
    )
    done = shell(sys.executable, "-c", command)
    assert done.returncode == 0, done.stderr
    assert "trainer:" in done.stdout


@pytest.mark.parametrize("arguments", [["--version"], ["train", "--version"], ["report", "--version"]], ids=" ".join)
def test_version_is_that_of_pmg(monkeypatch, capsys, arguments):
    run_pmg(monkeypatch, *arguments)
    assert capsys.readouterr().out == f"pmg {__version__}\n"


def test_completion_names_options(pmg):
    done = pmg("train", "-sc", "query=bash", COMP_LINE="pmg-train logger=", COMP_POINT="17")
    assert "logger=wandb" in done.stdout.split()


@pytest.mark.ci
@pytest.mark.slow
def test_help_says_what_the_command_does(pmg_here):
    done = pmg_here("train", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("pmg-train: trains")
    assert "TAB completion" in done.stdout
    listed = dict(re.findall(r"^([a-z_/]+): (.*)$", done.stdout, re.MULTILINE))
    assert "components" in listed["experiment"].split(", ")
    assert not [group for group in listed if group.startswith("base")]  # what other configs include


@pytest.mark.slow
def test_help_whose_pipe_is_closed_ends_without_a_message(shell):
    program = f"{sys.executable} -m pmg.commands.train --help"
    done = shell("bash", "-c", f"{program} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (141, "")


MISTAKES = [
    (["seeed=3"], "unknown key 'seeed'; did you mean 'seed'?"),
    (["ckpt_path=last.ckpt"], "unknown key 'ckpt_path'. run_dir=FOLDER resumes a training"),
    (["print_config=true"], "unknown key 'print_config'. --cfg job prints the composed config"),
    (["trainer.max_stepz=3"], "did you mean 'trainer.max_steps'?"),
    (["generator=sd15", "generator.sourc=x"], "unknown key 'generator.sourc'; did you mean 'generator.source'?"),
    (["trainer=gpuu"], "unknown option trainer=gpuu; did you mean 'gpu'?"),
    (["loger=csv"], "unknown key 'loger'; did you mean 'logger'?"),
    (["~callbacks.progresss"], "did you mean 'callbacks.progress'?"),
    (["seed=abc"], "could not be converted to Integer (key 'seed')"),
    (["seed=[1"], "can't read the override 'seed=[1'"),
    (["paths.output_dir=${oops}"], "Interpolation key 'oops' not found"),
    (["preference.pooled.run=x"], "unknown key 'preference.pooled.run': pmg-train does not read it, but pmg-generate"),
    (["run_dir=/proc/nope"], "can't use the run folder /proc/nope"),
    (["-m", "trainer=cpu,gpuu"], "unknown option trainer=gpuu"),
    (["-m", "--cfg", "job"], "Only one of --run, --multirun, --cfg"),
    (["experiment=components"], "no experiment of pmg-train: run pmg-study experiment=components"),
    (["-cd", "mine", "experiment=typo"], "unknown key 'seeed' in experiment/typo.yaml; did you mean 'seed'?"),
    (["-cd", "mine", "experiment=option"], "unknown option trainer=gpuu"),
    (["-cd", "mine", "experiment=broken"], "broken.yaml"),
    (["-cd", "mine", "experiment=typoo"], "did you mean 'typo'?"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What `pmg-train` answers to each mistake."""
    folder = tmp_path_factory.mktemp("mistakes")
    experiments = folder / "mine" / "experiment"
    experiments.mkdir(parents=True)
    for name, text in {
        "typo": "seeed: 3",
        "option": "defaults:\n  - override /trainer: gpuu",
        "broken": "seed: [",
    }.items():
        (experiments / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    with contextlib.chdir(folder):
        return [run_here("train", *arguments) for arguments, _ in MISTAKES]


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_mistake_gets_one_line_and_exit_code_1(answers, number):
    assert answers[number].returncode == 1
    (line,) = answers[number].stderr.splitlines()
    assert line.startswith("error: ")
    assert MISTAKES[number][1] in line


@pytest.mark.ci
@pytest.mark.slow
def test_stack_trace_on_request(pmg):
    done = pmg("train", "seeed=3", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
