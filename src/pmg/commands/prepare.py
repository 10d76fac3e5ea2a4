"""``pmg-prepare``: makes a data set from its published files."""

from __future__ import annotations

import logging
from functools import partial

from omegaconf import DictConfig

from pmg.configuration.instantiate import instantiate
from pmg.configuration.prepared_folders import record_prepared
from pmg.orchestration.launcher import launch
from pmg.orchestration.run import Run
from pmg.paths import display_path

log = logging.getLogger(__name__)


def body(cfg: DictConfig, run: Run) -> None:
    """Makes a data set from its published files."""
    run.begin()
    with run.ledger.phase("build"):
        counts = instantiate(cfg.source)
    run.metrics.update(counts)
    for name, value in counts.items():
        print(f"{name}: {value}")
    if "name" in cfg.data:  # of interactions; catalogues of drawings are assets
        data = instantiate(cfg.data, folder=cfg.source.folder)
        data.feedback.record(cfg.source.folder)
        for name, value in data.describe().items():
            print(f"{name}: {value}")
        if option := run.choices.get("data"):
            record_prepared(option, cfg.source.folder, cfg.paths.data_dir)
            log.info("data=%s reads %s from now on", option, display_path(cfg.source.folder))


main = partial(launch, "prepare", body)

if __name__ == "__main__":
    main()
