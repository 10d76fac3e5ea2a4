"""``pmg-evaluate``: judges generated images and writes the results table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmg.commands.hardware import check_device
from pmg.commands.judges import build_features, build_measures, build_sets, check_independent
from pmg.commands.launch import launch
from pmg.commands.parts import build_examples
from pmg.commands.shards import is_dealt, own_shard, work_shards
from pmg.config import instantiate, portable
from pmg.domain import PmgError
from pmg.identity import hash_values
from pmg.run import Run, tracked
from pmg.run_folder import identify, read_finished

if TYPE_CHECKING:
    from omegaconf import DictConfig


@tracked
def body(cfg: DictConfig, run: Run) -> float | None:
    """Judges generated images and writes the results table."""
    from pmg.evaluation.contact_sheet import build_rows, choose_examples, contact_sheet
    from pmg.evaluation.judging import Judging, in_order, judge_accuracy
    from pmg.evaluation.kept_rows import KeptRows
    from pmg.evaluation.report import build_results, read_rows, write_results, write_rows
    from pmg.evaluation.sets import measure_sets
    from pmg.evaluation.tracked import headline, record_results
    from pmg.generation.records import read_images, read_records
    from pmg.models.device import place
    from pmg.models.images import fit_size
    from pmg.provenance import git_state

    check_device(cfg.device)
    generated = _generated(cfg)
    parts = [read_rows(folder) for folder in work_shards(cfg, run, "evaluate", body)] if is_dealt(cfg) else None
    data = instantiate(cfg.data)
    examples = build_examples(cfg, data, "test")
    sets = build_sets(cfg.judge, len(examples))
    records = read_records(cfg.generate_run)
    pixels = fit_size(read_images(cfg.generate_run, records), data.catalogue.size)
    images = {record.key: image for record, image in zip(records, pixels, strict=True)}
    judge = instantiate(cfg.judge.classifier) if cfg.judge.classifier else None
    features = build_features(cfg.judge, sets, cfg.device)
    kept = KeptRows(run.folder / "judged" / hash_values(identify(cfg, "evaluate")))
    judging = Judging(
        data.catalogue, judge, instantiate(cfg.judge.perceptual), place(instantiate(cfg.generator), cfg.device),
        build_measures(cfg.judge, features), bool(cfg.judge.get("ms_ssim")), kept,
    )  # fmt: skip
    run.begin()
    own = {(record.example, record.method): images[record.key] for record in records if record.control == "own"}
    with run.ledger.phase("judge"):
        judged = parts or [judging.rows(examples, records, images, own_shard(cfg))]
        if cfg.shard.index is not None:
            write_rows(run.folder, judged[0])
            kept.drop()
            return None
        rows = in_order(judged)
        held_out = data.catalogue.rows(data.held_out_items) if judge else None
        trust = judge_accuracy(judge, data.catalogue, held_out) if judge else {}
        distances = measure_sets(sets, features, examples, judging.galleries(examples, own))
    with run.ledger.phase("statistics"):
        config = {"judge_on_real_held_out": trust, **portable(cfg)}
        cost = {**generated, "evaluate": run.ledger.as_dict()}
        revision = (git_state() or {}).get("revision")
        results = build_results(rows, revision, config, cost, cfg.seed or 0, sets=distances)
    folder = Path(cfg.results_dir)
    write_results(folder, results, rows)
    kept.drop()
    chosen = choose_examples(examples, cfg.sheet_users)
    contact_sheet(build_rows(chosen, data.catalogue, own), list(cfg.method)).save(folder / "contact_sheet.png")
    run.measure(headline(results))
    record_results(run.tracking, results, folder)
    run.tracking.record_image("contact_sheet", folder / "contact_sheet.png")
    _show(results, trust)
    print(folder / "results.json", folder / "contact_sheet.png", sep="\n")
    return None


def _show(results: dict[str, Any], trust: dict[str, float]) -> None:
    """Prints the tables, and how far the judge's words can be trusted."""
    from rich.console import Console

    from pmg.evaluation.tables import build_tables, print_tables

    console = Console()
    print_tables(build_tables(results), console)
    if trust:
        told = (f"{name.removesuffix('_accuracy')} {value:.1%}" for name, value in trust.items())
        console.print(f"The judge on real held-out drawings: {', '.join(told)}")


def _generated(cfg: DictConfig) -> dict:
    """What training and generation cost.

    Raises:
        PmgError: no generation is named, it did not finish, or the model that selected its images is to judge them.
    """
    if not cfg.generate_run:
        raise PmgError("generate_run is not set: name the folder of a pmg-generate run")
    selected_by, metrics = read_finished(cfg.generate_run, "generate")
    check_independent(cfg.judge, cfg.scorer)
    check_independent(cfg.judge, selected_by.get("scorer"), f"the scorer of {cfg.generate_run}")
    cost = {"generate": metrics["ledger"]}
    if cfg.train_run:
        cost["train"] = read_finished(cfg.train_run, "train")[1]["ledger"]
    return cost


def main() -> None:
    """Console entry point."""
    launch("evaluate", body)


if __name__ == "__main__":
    main()
