"""Commands in this process, which has imported the libraries already: each saves seconds to a process of its own."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import subprocess
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from pmg.commands.pmg import find_commands
from pmg.configuration.schemas import all_keys, read_keys
from pmg.orchestration.sweep import SweepSummary
from pmg.runs.process_state import restored_state

FEW = ["data.topics=[animal-mammal,food-fruit,musical-instrument]", "data.users.targets=1"]
"""Overrides for the fewest drawings of the shipped data set, with a target of each split by each artist."""


def read_by(verb, overrides):
    """Overrides of several commands without those that only others than `verb` read."""
    foreign = all_keys() - read_keys(verb)
    return [text for text in overrides if re.split(r"[./@=]", str(text).lstrip("+~"))[0] not in foreign]


def run_here(verb, *args):
    """Runs a command's `main` in the current folder and returns its exit code and texts."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    main = find_commands()[verb].load()
    with contextlib.ExitStack() as stack:
        given = [f"pmg-{verb}", *map(str, args)]
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(sys, "argv", given)
        stack.enter_context(restored_state())
        stack.enter_context(restored_hydra())
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess([verb, *args], code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def restored_hydra():
    """Undoes what Hydra sets for the one command of its process: itself, its config, its sweep, and log handlers."""
    root, current = logging.getLogger(), GlobalHydra.instance()
    handlers, level, outer = list(root.handlers), root.level, current.hydra
    current.clear()
    try:
        yield
    finally:
        SweepSummary.current, SweepSummary.failed = None, False
        HydraConfig.instance().cfg = None
        current.hydra = outer
        root.handlers[:] = handlers
        root.setLevel(level)
