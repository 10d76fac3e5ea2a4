"""Provenance of a result: package versions, git revision, hardware, and peak memory."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pmg
from pmg.configuration.plugins import plugin_version
from pmg.configuration.precision import has_bfloat16
from pmg.configuration.targets import allowed_plugins
from pmg.installation import ROOT

PACKAGES = ("torch", "pytorch-lightning", "diffusers", "transformers", "hydra-core", "numpy", "lpips")


def versions() -> dict[str, str]:
    """Returns the versions of Python, pmg and the packages that results depend on, plug-ins in use included."""
    found = {"python": platform.python_version(), "pmg": pmg.__version__}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found | {name: plugin_version(name) for name in allowed_plugins()}


def git_state() -> dict[str, Any] | None:
    """Returns ``{"revision", "dirty"}`` of the git checkout that contains the code, or None outside of one."""
    revision = _git("rev-parse", "HEAD") if (ROOT / ".git").exists() else None
    return None if revision is None else {"revision": revision, "dirty": bool(_git("status", "--porcelain"))}


def origin(cost: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what results say of their origin: the revision of the code beside cost and config."""
    return {"cost": cost, "revision": (git_state() or {}).get("revision"), "config": config}


def _git(*arguments: str) -> str | None:
    """Returns git's output, or None if git fails or is missing."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def hardware() -> dict[str, Any]:
    """Returns CPU, cores, memory in GiB, and GPUs if torch is loaded."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cuda = _cuda()
    gpus = [cuda.get_device_name(index) for index in range(cuda.device_count())] if cuda else []
    names = _proc_fields("cpuinfo", "model name")  # `platform` returns the architecture only
    processor = names[0] if names else platform.processor() or platform.machine()
    cpu = {"processor": processor, "bfloat16": has_bfloat16(), "cores": cores}
    return {**cpu, "memory_gib": round(memory, 1), "gpus": gpus}


def peak_memory() -> dict[str, float]:
    """Returns the peak so far in MiB: ``ram_mib``, of this process or its largest child, and ``cuda_mib`` on a GPU."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes on macOS, KiB elsewhere
    own, started = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    if found := _proc_fields("self/status", "VmHWM"):  # on Linux getrusage includes the parent's before exec
        own = int(found[0].split()[0])
    peak = {"ram_mib": round(max(own, started) / unit, 1)}
    if cuda := _cuda():
        peak["cuda_mib"] = round(cuda.max_memory_allocated() / 2**20, 1)
    return peak


def _proc_fields(file: str, name: str) -> list[str]:
    """Returns the values of the fields of a name in a file of Linux's ``/proc``; none on other systems."""
    path = Path("/proc", file)
    pairs = (line.partition(":")[::2] for line in path.read_text().splitlines()) if path.is_file() else ()
    return [value.strip() for key, value in pairs if key.strip() == name]


def _cuda() -> Any:
    """Returns torch.cuda if torch is loaded and has a GPU, else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_available() else None
