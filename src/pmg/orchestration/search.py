"""A search that is given again goes on: Optuna's sweeper would begin as many trials as the first time."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

BEST_FILE = "optimization_results.yaml"


def go_on(config: DictConfig) -> None:
    """Makes the sweeper's trials those that its study lacks: what failed or was cut off comes first.

    Args:
        config: of a sweep; changed where its sweeper has a study in a database.
    """
    sweeper = config.hydra.sweeper
    if "storage" not in sweeper or not sweeper.storage:
        return
    Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # where the database lies
    trials = _queue_again(sweeper.storage, sweeper.study_name)
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    with open_dict(config):
        sweeper.n_trials = max(0, sweeper.n_trials - len(complete))
        if sweeper.sampler.get("seed") is not None:
            sweeper.sampler.seed += len(trials)  # the same seed would draw the same trials again


def _queue_again(storage: str, name: str) -> list[Any]:
    """Returns the trials of a study; queues those which have no result, each once."""
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


def best(folder: Path) -> str | None:
    """The best trial of a search that has ended, in one line; None for other sweeps."""
    if not (folder / BEST_FILE).exists():
        return None
    found = OmegaConf.to_container(OmegaConf.load(folder / BEST_FILE))
    values = " ".join(f"{name}={value}" for name, value in found.get("best_params", {}).items())
    return f"best: {found['best_value']:.4g} with {values}" if "best_value" in found else None
