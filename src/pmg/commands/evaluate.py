"""``pmg-evaluate``: judges generated images and writes the results table."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from pmg.configuration.identity import decides_result, hash_images, hash_values
from pmg.configuration.instantiate import instantiate, to_plain
from pmg.configuration.masked_folders import mask_folders, named_folders
from pmg.domain import Example, PmgError
from pmg.evaluation.metric_builders import build_metrics, check_independent
from pmg.orchestration.builders import select_examples
from pmg.orchestration.hardware import check_device
from pmg.orchestration.launcher import launch
from pmg.orchestration.preference_sources import build_methods, runs_in_use
from pmg.orchestration.run import Run, tracked
from pmg.orchestration.sharding import is_sharded, own_shard, run_missing_shards
from pmg.runs.content import check_made, refuse_changed
from pmg.runs.owned_folders import RESULTS
from pmg.runs.run_folder import identify, read_identity, read_masked, replace_folders

if TYPE_CHECKING:
    from pmg.data.dataset import Dataset
    from pmg.records.storage import StoredImages, StoredRecords

log = logging.getLogger(__name__)


@tracked
def body(cfg: DictConfig, run: Run) -> None:
    """Judges generated images and writes the results table."""
    from pmg.data.dataset import require_truth
    from pmg.evaluation.comparison import Comparison
    from pmg.evaluation.contact_sheet import build_rows, choose_examples, contact_sheet
    from pmg.evaluation.image_evaluation import SELECTION_SCORES, ImageEvaluation, RowCache, in_order
    from pmg.evaluation.references import ReferenceMethods, ReferenceReader
    from pmg.evaluation.results import ROWS, ResultBuilder, read_rows, write_results, write_rows
    from pmg.evaluation.set_comparison import compare_sets
    from pmg.models.loading.device import to_device
    from pmg.records.storage import RECORDS
    from pmg.runs.provenance import origin

    check_device(cfg.device)
    made = read_generation(cfg.generate_run, named_folders(cfg.paths))
    check_independent(cfg.metrics, made.config.get("scorer"), f"the scorer of {cfg.generate_run}")
    shards = run_missing_shards(cfg, run, "evaluate", body) if is_sharded(cfg.shard) else []
    parts = [read_rows(folder) for folder in shards]
    data = instantiate(made.config["data"])
    examples = select_examples(data, made.config["split"], made.config)
    for example in examples:
        require_truth(example)
    metrics, comparison = build_metrics(cfg.metrics, cfg.device, data), Comparison(**to_plain(cfg.comparison))
    for metric in metrics.per_set:
        metric.check(len(examples))
    records, images = _read_images(Path(cfg.generate_run), made, data, examples)
    for problem in comparison.unknown({key.method for key in records}, [info.name for info in metrics.outputs]):
        log.warning(problem)
    judged = RowCache(run.folder / "judged" / hash_values(identify(cfg, "evaluate")))
    generator = to_device(instantiate(made.config["generator"]), cfg.device)  # its autoencoder reconstructs the truth
    reader = ReferenceReader(data.images, metrics.inputs, comparison)
    evaluation = ImageEvaluation(
        metrics.per_image, reader, ReferenceMethods(data.images, generator), data.labels, judged
    )
    run.begin()
    with run.ledger.phase("judge"):
        tables = parts or [evaluation.rows(examples, records, images, own_shard(cfg.shard))]
        if cfg.shard.index is not None:
            write_rows(run.folder, tables[0])
            run.record_digest(ROWS)
            judged.drop()
            return
        rows = in_order(tables)
        methods = evaluation.method_images(images)
        sets = compare_sets(metrics.per_set, examples, methods)
    with run.ledger.phase("statistics"):
        builder = ResultBuilder([*metrics.outputs, *SELECTION_SCORES], comparison, data.groups, cfg.seed or 0)
        results = builder.build(rows, sets) | {"records": made.metrics["made"][RECORDS]}
        results |= origin({**made.cost, "evaluate": run.ledger.as_dict()}, {**made.facts, **mask_folders(cfg)})
    write_results(cfg.results_dir, results, rows)
    run.record_digest(os.path.relpath(Path(cfg.results_dir, RESULTS), run.folder))
    judged.drop()
    chosen, sheet = choose_examples(examples, data.labels, cfg.sheet_users), Path(cfg.results_dir, "contact_sheet.png")
    drawn = {method: methods[method](chosen) for method in dict.fromkeys(key.method for key in images)}
    contact_sheet(build_rows(chosen, data.labels, data.images, drawn), list(drawn)).save(sheet)
    run.tracking.record_image("contact_sheet", sheet)
    run.publish(Path(cfg.results_dir), results, {"all numbers": "results.json", "images": "contact_sheet.png"})


@dataclass(frozen=True)
class Generation:
    """The ``pmg-generate`` run that is judged."""

    config: Mapping[str, Any]  # of the run, with this machine's folders
    metrics: Mapping[str, Any]  # its metrics.json
    facts: Mapping[str, Any]  # its config and those of the trainings whose encoders it used, for results.json
    cost: Mapping[str, Any]  # of it and of the trainings


def read_generation(folder: str | None, places: Mapping[str, str]) -> Generation:
    """Reads the run that is judged: its data, users and models are those of the evaluation.

    `places` are this machine's folders by name. PmgError if no run is named, it did not finish, or files that it read
    have changed.
    """
    if not folder:
        raise PmgError("generate_run is not set: name the folder of a pmg-generate run")
    generation = folder
    plain, metrics = read_masked(folder, "generate")
    identity = metrics.get("identity") or {}
    config = replace_folders(plain, places)
    refuse_changed(folder, config, metrics, "data", "generator")
    facts: Any = keep_used("generate", plain)
    cost = {"generate": metrics["ledger"]}
    for folder, name in runs_in_use(config).items():
        trained, of_training = read_masked(folder, "train")
        beginning = f"preference.{name}.run."
        used = {key: value for key, value in identity.items() if key.startswith(beginning)}
        if used != {f"{beginning}{key}": value for key, value in read_identity(Path(folder)).items()}:
            raise PmgError(f"{generation} was made with another training than is in {folder} now; generate again")
        verb = "train" if "train" not in cost else f"train {name}"
        facts = OmegaConf.to_container(OmegaConf.merge(keep_used("train", trained), facts))
        cost[verb] = of_training["ledger"]
    return Generation(config, metrics, facts, cost)


def keep_used(command: str, config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a config that its command used, folders and names of the run left out."""
    kept: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            if inner := keep_used(command, value, f"{key}."):
                kept[name] = inner
        elif decides_result(command, key):
            kept[name] = value
    return kept


def _read_images(
    folder: Path, made: Generation, data: Dataset, examples: Sequence[Example]
) -> tuple[StoredRecords, StoredImages]:
    """Returns a generation's records and images; PmgError if they aren't what it made, or a picture is missing."""
    from pmg.generation.dataset_generation import leave_out_control, list_keys
    from pmg.records.storage import RECORDS, StoredImages, StoredRecords, refuse_mixtures, scan_records

    check_made(folder, made.metrics, RECORDS)
    records = StoredRecords(folder)
    methods = leave_out_control(build_methods(made.config["method"], made.config["mismatched"]), examples)
    if missing := [key for key in list_keys(examples, methods, made.config["seed"] or 0) if key not in records]:
        lacking = ", ".join(dict.fromkeys(f"{key.method} ({key.control})" for key in missing))
        raise PmgError(
            f"{folder} lacks {len(missing)} pictures of {lacking}, e.g. of {missing[0].example}. Run the same "
            "pmg-generate command again"
        )
    refuse_mixtures(folder, (record for _, record in scan_records(folder)), hash_images(made.metrics["identity"]))
    return records, StoredImages(folder, records, data.images.size).check()


main = partial(launch, "evaluate", body)

if __name__ == "__main__":
    main()
