"""Composes the config of each command, and of each experiment with the commands that it names, as users do.

The tests patch Hydra and OmegaConf to compose faster; here nothing is patched.
"""

from __future__ import annotations

import re
import sys
from importlib.resources import files

import pmg
from pmg.configuration.schemas import find_schemas

MISSING = {"pretrain": ["full_steps=1"]}  # values that a command has to be given


def main() -> int:
    """Prints the number of composed configs, or each problem; returns the exit code."""
    tasks = [(command, MISSING.get(command, [])) for command in find_schemas()]
    for path in sorted(files("pmg.conf").joinpath("experiment").iterdir(), key=lambda one: one.name):
        named = set(re.findall(r"pmg-(\w+)", path.read_text())) & set(find_schemas())
        tasks += [(command, [f"experiment={path.name.removesuffix('.yaml')}"]) for command in sorted(named)]
    problems = []
    for command, overrides in tasks:
        try:
            pmg.compose(command, overrides)
        except pmg.PmgError as error:
            problems.append(f"pmg-{command} {' '.join(overrides)}: {error}")
    print("\n".join(problems) or f"{len(tasks)} configs composed")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
