"""A leaf's folder and its options may be deleted: the core composes, and imports nothing of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

LEAVES = ["families", "looks", "studio"]
COMPOSE = """
import sys
import pmg
from pmg.configuration.plugins import command_schemas, component_targets, leaves
assert pmg.__file__.startswith(sys.argv[1]), pmg.__file__
pmg.compose("train", ["experiment=real_users", "preference=default", "generator=sd15", "language_model=qwen25_05b"])
pmg.compose("generate", ["experiment=real_users", "preference=default", "generator=sd15", "language_model=qwen25_05b"])
named = [*leaves(), *(entry.module for entry in command_schemas().values())]
named += [target for part in component_targets().values() for target in part.values()]
print(*sorted({".".join(name.split(".")[:2]) for name in named}))
"""


def is_of(leaf, option):
    """Whether an option builds something of a leaf."""
    return f"pmg.{leaf}." in option.read_text()


def test_each_option_is_of_one_leaf_at_most(root):
    for option in (root / "conf").rglob("*.yaml"):
        assert sum(is_of(leaf, option) for leaf in LEAVES) <= 1, option


@pytest.mark.parametrize(
    "deleted", [LEAVES, *(pytest.param([leaf], marks=pytest.mark.slow) for leaf in LEAVES)], ids="-".join
)
def test_the_core_composes_without_leaves(root, tmp_path, deleted):
    leave_out = shutil.ignore_patterns("__pycache__", "conf")
    shutil.copytree(root / "src" / "pmg", tmp_path / "pmg", ignore=leave_out)
    shutil.copytree(root / "conf", tmp_path / "pmg" / "conf")
    for leaf in deleted:
        shutil.rmtree(tmp_path / "pmg" / leaf)
        for option in [path for path in (tmp_path / "pmg" / "conf").rglob("*.yaml") if is_of(leaf, path)]:
            option.unlink()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PMG_ASSETS": str(root / "assets")}
    done = subprocess.run(
        [sys.executable, "-c", COMPOSE, str(tmp_path)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not {f"pmg.{leaf}" for leaf in deleted} & set(done.stdout.split())
