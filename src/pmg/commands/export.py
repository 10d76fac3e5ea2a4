"""``pmg-export``: makes a pipeline folder of a training run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from pmg.configuration.identity import format_differences
from pmg.configuration.instantiate import built_class, to_plain
from pmg.configuration.precision import ANY_DTYPE
from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.orchestration.exported_pipeline import FIXED, read_sources
from pmg.orchestration.launcher import launch
from pmg.orchestration.run import Run
from pmg.runs.content import check_made, refuse_changed
from pmg.runs.owned_folders import OWNER
from pmg.runs.run_folder import EXPORTED_ENCODER, TRAINED, read_finished


def body(cfg: DictConfig, run: Run) -> None:
    """Makes a pipeline folder of a training run."""
    from pmg.api import export
    from pmg.api.serialization import PARTS, SECTIONS
    from pmg.api.weight_locations import ASSETS, CACHE
    from pmg.evaluation.model_card import write_pipeline_card
    from pmg.evaluation.results import read_results

    for key, example in (("train_run", "outputs/demo/train"), ("folder", "outputs/pipeline")):
        if not cfg[key]:
            raise PmgError(f"{key} is not set: name a folder, e.g. {key}={example}")
    trained, metrics = read_finished(cfg.train_run, "train")
    check_made(Path(cfg.train_run), metrics, TRAINED)
    refuse_changed(cfg.train_run, to_plain(trained), metrics, *FIXED, *PARTS)
    if cfg.results:
        facts = dict(leaves(read_results(cfg.results, "config", "methods")["config"]))
        same = {
            key: value for key, value in metrics["identity"].items() if key in facts and ANY_DTYPE not in str(value)
        }
        if differ := {key: (value, facts[key]) for key, value in same.items() if facts[key] != value}:
            raise PmgError(f"results={cfg.results} is of another training: {format_differences(differ)}")
    kind = built_class(trained.preference_encoder)
    # a training's config has no settings of the generation
    homes = dict.fromkeys(PARTS, trained) | dict.fromkeys(SECTIONS, cfg)
    nodes = export.to_index({name: to_plain(home[name]) for name, home in homes.items()}) | export.name_encoder(kind)
    encoder = export.load_encoder(Path(cfg.train_run, "encoder"), kind, cfg.half)
    methods = {name: node for name, node in to_plain(cfg.method).items() if node}
    sources = read_sources(trained, cfg.train_run, methods, run.overrides)
    nodes |= export.name_methods(methods, sources, cfg.train_run, reads=bool(encoder.config.get("answered")))
    folder, places = Path(cfg.folder), {ASSETS: trained.paths.assets_dir, CACHE: trained.paths.cache_dir}
    nodes, copies = export.name_weights(nodes, places, cfg.copy_frozen)
    export.check_index(folder, nodes)
    run.begin()
    export.begin_folder(folder)
    with run.ledger.phase("export"):
        encoder.save_pretrained(folder / EXPORTED_ENCODER)
        export.copy_weights(folder, copies)
        write_pipeline_card(folder, cfg.title, cfg.license, nodes, metrics, cfg.results)
        export.write_index(folder, nodes)  # last: a folder that has it has the others
    print(folder)
    if cfg.push_to:
        with run.ledger.phase("push"):
            print(push(folder, cfg.push_to, cfg.private))


def push(folder: Path, repository: str, private: bool) -> str:
    """Uploads the folder and returns its address; PmgError if the hub refuses."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, ignore_patterns=[OWNER])
    except Exception as error:  # the hub raises whatever it likes
        reason = " ".join(str(error).split())[:200]
        raise PmgError(f"can't push to '{repository}' ({reason}); the folder is in {folder}") from error
    return str(address)


main = partial(launch, "export", body)

if __name__ == "__main__":
    main()
