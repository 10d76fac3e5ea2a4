"""Hydra launchers, with the options that a small machine needs."""

from __future__ import annotations

import pytest

LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", ["hydra.launcher.n_jobs=2"]),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", []),
    "ray": (
        "hydra_plugins.hydra_ray_launcher",
        ["+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.init.include_dashboard=false"],
    ),
}


def launched_by(name):
    """The options that choose a launcher; skips where it is not installed."""
    module, options = LAUNCHERS[name]
    pytest.importorskip(module)
    return [f"hydra/launcher={name}", *options]
