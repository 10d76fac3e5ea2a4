"""``pmg-generate``: makes images for test users with every method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmg.commands.launch import launch
from pmg.commands.parts import build_examples, check_trained_for, reading
from pmg.config import config_hash, instantiate, instantiate_by_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omegaconf import DictConfig

    from pmg.generation.pipeline import Pipeline
    from pmg.generation.study import Preference
    from pmg.run import Run


def body(cfg: DictConfig, run: Run) -> float | None:
    """Makes images for test users with every method."""
    from pmg.generation.records import RecordWriter
    from pmg.generation.study import StudyGenerator

    methods = instantiate_by_name(cfg.method)
    hashes = {"config": config_hash(cfg, "data", "balance", "sampling", "scorer")}
    if any(method.soft for method in methods.values()):
        hashes["model"] = check_trained_for(cfg)
    data = instantiate(cfg.data)
    examples = build_examples(cfg, data, "test")
    targets, preferences = _read(cfg, run, examples)
    pipeline = _pipeline(cfg)
    writer = RecordWriter(run.folder)
    study = StudyGenerator(pipeline, targets, preferences, writer, cfg.sampling.batch_size, cfg.seed or 0, hashes)
    with run.ledger.phase("generate"):
        try:
            study.run(examples, methods)
        finally:
            run.ledger.count("images", study.made)
            run.ledger.count("denoiser_evaluations", study.made * pipeline.evaluations)
    return None


def _read(cfg: DictConfig, run: Run, examples: list) -> tuple[Mapping, Mapping[str, Preference]]:
    """Target keywords by concept, and what is known of each user."""
    from pmg.generation.study import Preference
    from pmg.models.preference_encoder import PreferenceEncoder
    from pmg.models.sources import load_frozen

    words = {example.user: example.labels["words"] for example in examples}
    with reading(cfg, run) as reader, run.ledger.phase("read histories"):
        readings = reader.read(examples)
        targets = reader.describe([example.target for example in examples])
        soft = [None] * len(readings.users)
        if cfg.train_run:
            encoder = load_frozen(PreferenceEncoder, f"{cfg.train_run}/encoder")
            soft = encoder.encode(reader.language_model, readings.context)
    rows = zip(readings.users, readings.keywords, soft, strict=True)
    return targets, {user: Preference(user, keywords, tokens, words[user]) for user, keywords, tokens in rows}


def _pipeline(cfg: DictConfig) -> Pipeline:
    from pmg.generation.pipeline import Pipeline

    return Pipeline(
        instantiate(cfg.generator), instantiate(cfg.scorer), instantiate(cfg.balance.weights), cfg.balance.alpha,
        cfg.sampling.steps, cfg.sampling.guidance, cfg.sampling.bfloat16,
    )  # fmt: skip


def main() -> None:
    """Console entry point."""
    launch("generate", body)


if __name__ == "__main__":
    main()
