"""``pmg-app``: a web app that generates images for a history, on this machine."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.installation import install_extra
from pmg.orchestration.launcher import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmg.orchestration.run import Run


def body(cfg: DictConfig, run: Run) -> float | None:
    """Serves the app until it is interrupted."""
    try:
        for name in ("fastapi", "jinja2", "uvicorn"):
            import_module(name)
    except ModuleNotFoundError as error:
        raise PmgError(f"pmg-app needs {error.name}: {install_extra('app')}") from error
    from pmg.api.pipeline_personalized import PersonalizedPipeline
    from pmg.studio import http_server
    from pmg.studio.app.studio import Studio, build_app

    listener = http_server.bind(cfg.host, cfg.port)
    folder, cache_dir = find_pipeline(cfg.pipeline), f"{cfg.paths.cache_dir}"
    run.begin()
    with run.ledger.phase("load"):
        scenario = instantiate(cfg.scenario) if cfg.scenario else None
        pipe = PersonalizedPipeline.from_pretrained(folder, cfg.device, cache_dir, cfg.plugins, scenario=scenario)
        pipe.set_progress_bar_config(disable=True)
        weights, seed = list(cfg.preference_weights), cfg.seed or 0
        studio = Studio(pipe, instantiate(cfg.data), cfg.users, cfg.pictures, weights, seed, alpha=cfg.alpha)
        app = build_app(studio, cfg.host, cfg.waiting)
    print(f"app: {http_server.address(listener)} (Ctrl-C ends it)", flush=True)
    http_server.serve(app, listener)
    return None


def find_pipeline(folder: str) -> str:
    """Returns the folder of a pipeline: itself, or that of its export in a training run; PmgError if there is none."""
    if Path(folder, "metrics.json").is_file():
        exported = Path(folder, "pipeline")
        if not exported.is_dir():
            raise PmgError(f"{folder} has no pipeline yet. Export it: pmg-export train_run={folder}")
        return str(exported)
    return folder


main = partial(launch, "app", body)

if __name__ == "__main__":
    main()
