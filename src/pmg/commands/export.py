"""``pmg-export``: makes a pipeline folder of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmg.commands.launch import launch
from pmg.config import to_plain
from pmg.domain import PmgError
from pmg.run import Run
from pmg.run_folder import read_finished

if TYPE_CHECKING:
    from omegaconf import DictConfig

PARTS = ("scenario", "captioner", "decoding", "text_encoder", "generator", "scorer", "balance", "sampling")
EVIDENCE = "pmg.training.evidence.TextEvidence"


def body(cfg: DictConfig, run: Run) -> float | None:
    """Makes a pipeline folder of a training run."""
    from pmg.generation.exported import ASSETS, CACHE, ENCODER, copy_frozen, save_encoder, write_index
    from pmg.generation.pipeline_card import write_pipeline_card

    trained, metrics = _trained(cfg)
    run.begin()
    folder = Path(cfg.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with run.ledger.phase("export"):
        save_encoder(Path(cfg.train_run, "encoder"), folder / ENCODER, cfg.half)
        parts = _parts(trained)
        if cfg.copy_frozen:
            parts = copy_frozen(folder, parts)
        named = write_index(folder, parts, {ASSETS: trained.paths.assets_dir, CACHE: trained.paths.cache_dir})
        write_pipeline_card(folder, cfg.title, cfg.license, named, metrics, cfg.results)
    print(folder)
    if cfg.push_to:
        with run.ledger.phase("push"):
            print(push(folder, cfg.push_to, cfg.private))
    return None


def _trained(cfg: DictConfig) -> tuple[DictConfig, dict[str, Any]]:
    """Config and metrics of the training run.

    Raises:
        PmgError: it did not finish, or trained another kind of encoder.
    """
    trained, metrics = read_finished(cfg.train_run, "train")
    if trained.encoder.evidence["_target_"] != EVIDENCE:
        raise PmgError(f"{cfg.train_run} trained an encoder of images; pmg-export takes one that reads text")
    return trained, metrics


def _parts(trained: DictConfig) -> dict[str, Any]:
    """The config of everything that a pipeline is built from."""
    parts = {name: to_plain(trained[name]) for name in PARTS}
    return {"language_model": to_plain(trained.encoder.language_model), **parts}


def push(folder: Path, repository: str, private: bool) -> str:
    """Uploads the folder; returns its address.

    Raises:
        PmgError: the hub refuses.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except Exception as error:  # the hub raises whatever it likes
        reason = " ".join(str(error).split())[:200]
        raise PmgError(f"can't push to '{repository}' ({reason}); the folder is in {folder}") from error
    return str(address)


def main() -> None:
    """Console entry point."""
    launch("export", body)


if __name__ == "__main__":
    main()
