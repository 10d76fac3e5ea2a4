"""Resumes Optuna studies: the sweeper by itself would start `n_trials` new trials each time."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

BEST_FILE = "optimization_results.yaml"


def resume_study(config: DictConfig) -> None:
    """Reduces the sweeper's trials to those that its study lacks; failed and interrupted ones are run first.

    The config is changed only if its sweeper stores a study in a database.
    """
    sweeper = config.hydra.sweeper
    if "storage" not in sweeper or not sweeper.storage:
        return
    Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # the database's folder
    trials = enqueue_failed_trials(sweeper.storage, sweeper.study_name)
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    with open_dict(config):
        sweeper.n_trials = max(0, sweeper.n_trials - len(complete))
        if sweeper.sampler.get("seed") is not None:
            sweeper.sampler.seed += len(trials)  # the same seed would draw the same trials again


def enqueue_failed_trials(storage: str, name: str) -> list[Any]:
    """Enqueues the parameters of trials without a result, each once; returns all trials of the study before that.

    Optuna's `RetryFailedTrialCallback` requires heartbeats, which only `Study.optimize` sends; Hydra's sweeper doesn't
    call it.
    """
    import optuna

    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return []
    trials = study.trials
    settled = {_key(trial.params) for trial in trials if trial.state.name == "COMPLETE"}
    settled |= {_key(trial.system_attrs["fixed_params"]) for trial in trials if trial.state.name == "WAITING"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of enqueue_trial
        for trial in trials:
            if trial.state.name in ("FAIL", "RUNNING") and trial.params and _key(trial.params) not in settled:
                study.enqueue_trial(trial.params)
                settled.add(_key(trial.params))
    return trials


def _key(params: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(params.items()))


def format_best_trial(folder: Path) -> str | None:
    """Returns value and parameters of a completed search's best trial in one line; None for other sweeps."""
    if not (folder / BEST_FILE).exists():
        return None
    found: Any = OmegaConf.to_container(OmegaConf.load(folder / BEST_FILE))
    values = " ".join(f"{name}={value}" for name, value in found.get("best_params", {}).items())
    return f"best: {found['best_value']:.4g} with {values}" if "best_value" in found else None
