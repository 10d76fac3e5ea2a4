"""Uses a folder of somebody who means harm in a child process, and watches its time, its memory and its end."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

SECONDS, WAIT, BYTES = 60, 300, 2 * 2**30  # of a processor; on a clock, for what waits; of memory
# children of a process that has computed may wait for ever: they are forked from one that has imported alone
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([
    "pmg.api.pipeline_personalized", "transformers.models.llama.modeling_llama", "pmg.commands.prepare", "peft",
    "diffusers.pipelines", "diffusers.training_utils", "scipy.stats",
])  # fmt: skip


@dataclass(frozen=True)
class End:
    """How a child ended: its exit code, negative for a signal and None where it was killed here; what it said."""

    code: int | None
    said: str
    memory: int

    @property
    def harm(self) -> str:
        """What was wrong, in words; empty: it succeeded, or failed with one line."""
        if self.code is None:
            return (
                f"took more than {BYTES >> 30} GB" if self.memory > BYTES else f"took more than {SECONDS} s, or waited"
            )
        if self.code < 0:
            return f"ended by signal {-self.code}"
        return "" if self.code in (0, 1) and self.said and "\n" not in self.said else f"no clear line: {self.said}"


def use_limited(use: Callable[[Path], str], folder: Path) -> End:
    """Calls `use`, a function of a module that a new process can import, with a folder; it works in the one above."""
    answer = folder.parent / "answer.txt"
    answer.unlink(missing_ok=True)
    child = CONTEXT.Process(target=_use, args=(use, folder, answer))
    child.start()
    watched, most, busy, end = psutil.Process(child.pid), 0, 0.0, time.monotonic() + WAIT
    while child.exitcode is None and time.monotonic() < end and most <= BYTES and busy <= SECONDS:
        with contextlib.suppress(psutil.Error):
            family = [watched, *watched.children(recursive=True)]
            most = max(most, sum(one.memory_full_info().uss for one in family))
            busy = sum(sum(one.cpu_times()[:2]) for one in family)
        child.join(0.03)
    code = child.exitcode
    if code is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.join()
    return End(code, answer.read_text() if answer.exists() else "", most)


def _use(use: Callable[[Path], str], folder: Path, answer: Path) -> None:
    from pmg.domain import PmgError

    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(folder.parent)
    code = 0
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            said = use(folder)
        except PmgError as error:
            code, said = 1, f"error: {error}"
        except BaseException as error:
            code, said = 99, f"{type(error).__name__}: {' '.join(str(error)[:300].split())}"
    answer.write_text(said)
    sys.exit(code)


def generate(folder: Path) -> str:
    """Makes a picture by a pipeline."""
    from PIL import Image

    mugs = {name: Image.new("RGB", (64, 64), name) for name in ("red", "blue")}
    _load(folder)([{"title": f"a {name} mug for the desk", "image": image} for name, image in mugs.items()], "plate")
    return "loaded and used"


def load(folder: Path) -> str:
    """Loads a pipeline."""
    _load(folder)
    return "loaded"


def _load(folder: Path):
    from pmg import PersonalizedPipeline

    return PersonalizedPipeline.from_pretrained(folder, "cpu", str(folder.parent / "cache"))


def prepare(folder: Path) -> str:
    """Prepares a set of one's own data."""
    from fault_runs import call
    from pmg.domain import PmgError

    items = next(path for path in sorted(folder.iterdir()) if path.name.startswith("items"))
    code, said = call("prepare", [
        "data=own_files", "paths.data_dir=data", f"source.read.items={items}", "source.pictures.size=64",
        f"source.read.interactions={folder / 'chosen.csv'}", f"run_dir=prepare/{time.time()}",
        "source.max_missing_pictures=0",
    ])  # fmt: skip
    if code:
        raise PmgError(said.removeprefix("error: ")) if said.startswith("error: ") else RuntimeError(said)
    return "prepared"
