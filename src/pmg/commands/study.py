"""``pmg-study``: trains, generates and evaluates in one go: one variant of a study."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from pmg.commands import evaluate, generate, train
from pmg.configuration.instantiate import to_plain
from pmg.configuration.masked_folders import part_config
from pmg.domain import PmgError
from pmg.evaluation.metric_builders import check_independent
from pmg.orchestration.launcher import launch
from pmg.orchestration.preference_sources import runs_in_use
from pmg.orchestration.run import Run, execute_nested, tracked
from pmg.runs.run_folder import identify, read_run, refuse_other


@tracked
def body(cfg: DictConfig, run: Run) -> None:
    """Trains, generates and evaluates in one go."""
    check_independent(cfg.metrics, cfg.scorer)  # before anything is trained
    for key in ("train_run", "generate_run", "results_dir"):
        if not cfg[key]:
            raise PmgError(f"{key} is not set: name a folder, or leave it out")
    places = {
        "train": (cfg.train_run, train.body),
        "generate": (cfg.generate_run, generate.body),
        "evaluate": (f"{run.folder}/evaluate", evaluate.body),
    }
    if cfg.train_run not in runs_in_use(to_plain(cfg)):
        del places["train"]
    # folders outside of the study belong to other runs, whose results are used unchanged
    home = run.folder.absolute()
    own = {verb: place for verb, place in places.items() if Path(place[0]).absolute().is_relative_to(home)}
    parts = {}
    for verb, (folder, _) in own.items():
        part = parts[verb] = part_config(cfg, verb, folder)
        refuse_other(Path(folder), verb, identify(part, verb), part.get("dtype"))
    run.begin()
    for verb, (folder, work) in own.items():
        with run.ledger.phase(verb):
            execute_nested(parts[verb], verb, work, run.tracking)
        run.ledger.count_nested(read_run(folder, verb)[1]["ledger"])


main = partial(launch, "study", body)

if __name__ == "__main__":
    main()
