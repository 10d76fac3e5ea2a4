"""``pmg``: runs every command as a sub-command, and lists them."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from pmg import __version__

PREFIX, PACKAGE = "pmg-", "pmg."
USAGE = """usage: pmg COMMAND [group=option | key=value ...]

{commands}

Begin with `pmg train experiment=demo`; it prints the next command, and so on.
`pmg COMMAND --help` lists its values. `pmg-COMMAND` is the same command.
"""


def find_commands() -> dict[str, EntryPoint]:
    """Returns the console scripts ``pmg-NAME`` of the package by NAME."""
    scripts = [script for script in entry_points(group="console_scripts") if script.module.startswith(PACKAGE)]
    return {script.name.removeprefix(PREFIX): script for script in scripts if script.name.startswith(PREFIX)}


def _describe(module: str) -> str:
    """Returns what a command does: the first line of its module's docstring, behind the name."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].partition("``: ")[2].removesuffix(".")


def main() -> None:
    """Console entry point."""
    commands, arguments = find_commands(), sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, commands))
        lines = (f"  {name:{width}}  {_describe(script.module)}" for name, script in commands.items())
        print(USAGE.format(commands="\n".join(lines)), end="")
        return
    name = arguments[0]
    if name == "--version":
        print(f"pmg {__version__}")
        return
    if name not in commands:
        from pmg.configuration.instantiate import nearest  # imports Hydra, which the list does without

        print(f"error: unknown command '{name}'{nearest(name, commands) or '; `pmg` lists all'}", file=sys.stderr)
        sys.exit(1)
    sys.argv = [str(Path(sys.argv[0]).with_name(f"{PREFIX}{name}")), *arguments[1:]]
    commands[name].load()()


if __name__ == "__main__":
    main()
