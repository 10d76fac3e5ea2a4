"""A leaf's folder and its options may be deleted: the core composes, imports nothing of it, and passes its tests."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from deleted_leaves import LEAVES, PLUGINS, PRODUCT, copy_without

COMPOSE = """
import sys
import pmg
from pmg.configuration.plugins import command_schemas, component_targets, leaves
assert pmg.__file__.startswith(sys.argv[1]), pmg.__file__
pmg.compose("train", ["data=own_files", "scenario=items", "generator=sd15", "language_model=qwen25_05b"])
pmg.compose("generate", ["experiment=real_users", "preference=default", "generator=sd15", "language_model=qwen25_05b"])
named = [*leaves(), *(entry.module for entry in command_schemas().values())]
named += [target for part in component_targets().values() for target in part.values()]
print(*sorted({".".join(name.split(".")[:2]) for name in named}))
"""


def test_each_option_is_of_one_leaf_at_most(root):
    for option in (root / "conf").rglob("*.yaml"):
        assert sum(f"pmg.{leaf}." in option.read_text() for leaf in LEAVES) <= 1, option


@pytest.mark.slow
@pytest.mark.parametrize(
    "deleted", [pytest.param(LEAVES, marks=pytest.mark.ci), *([leaf] for leaf in LEAVES)], ids="-".join
)
def test_the_core_composes_without_leaves(root, tmp_path, deleted):
    copy_without(root, tmp_path, deleted)
    done = run_there(tmp_path, "-c", COMPOSE, str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    assert not {f"pmg.{leaf}" for leaf in deleted} & set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("deleted", [LEAVES, ["looks"]], ids="-".join)
def test_tests_of_the_core_pass_without_leaves(root, tmp_path, deleted):
    """Four minutes each: all folders of tests but those of leaves and of the whole product."""
    copy_without(root, tmp_path, deleted)
    folders = [
        f"tests/{path.name}"
        for path in sorted((tmp_path / "tests").iterdir())
        if path.is_dir() and path.name not in ("support", *PRODUCT, *PLUGINS, *LEAVES)
    ]
    done = run_there(tmp_path, "-m", "pytest", "-q", *folders)
    assert done.returncode == 0, done.stdout[-4000:]


def run_there(folder, *arguments):
    """Runs Python on a copy of the package, without the entry points of this one."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}/src", "PMG_ASSETS": f"{folder}/assets"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
