"""``pmg-generate``: makes images for test users with every method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmg.commands.launch import launch
from pmg.commands.parts import build_captions, build_examples, check_trained_for, reading
from pmg.config import config_hash, instantiate, instantiate_by_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omegaconf import DictConfig
    from torch import Tensor

    from pmg.domain import Example, Keywords
    from pmg.generation.pipeline import Pipeline
    from pmg.generation.request import Preference, RequestBuilder
    from pmg.language.preferences import Readings
    from pmg.models.language_model import LanguageModel
    from pmg.models.text_encoder import TextEncoder
    from pmg.run import Run

# what decides an image, beside its method and a trained encoder
DECIDING = (
    "data", "scenario", "captioner", "decoding", "text_encoder", "encoder", "generator", "scorer", "balance",
    "sampling",
)  # fmt: skip


def body(cfg: DictConfig, run: Run) -> float | None:
    """Makes images for test users with every method."""
    from pmg.generation.records import RecordWriter
    from pmg.generation.study import StudyGenerator

    methods = instantiate_by_name(cfg.method)
    hashes = {"config": config_hash(cfg, *DECIDING)}
    if any(method.tokens == "soft" for method in methods.values()):
        hashes["model"] = check_trained_for(cfg)
    data = instantiate(cfg.data)
    examples = build_examples(cfg, data, "test")
    pipeline = _pipeline(cfg)
    looks = build_captions(cfg, run, data, examples)
    builder, preferences = _read(cfg, run, examples, looks, pipeline.generator.text_encoder)
    study = StudyGenerator(pipeline, builder, preferences, RecordWriter(run.folder), cfg.sampling.batch_size, hashes)
    with run.ledger.phase("generate"):
        try:
            study.run(examples, methods)
        finally:
            run.ledger.count("images", study.made)
            run.ledger.count("denoiser_evaluations", pipeline.evaluations)
    return None


def _read(
    cfg: DictConfig, run: Run, examples: Sequence[Example], looks: Mapping[str, str], text_encoder: TextEncoder
) -> tuple[RequestBuilder, dict[str, Preference]]:
    """What makes requests, and what is known of each user."""
    from pmg.domain import Keywords
    from pmg.generation.request import NO_WORDS, RequestBuilder, join_words

    with reading(cfg, run, text_encoder) as reader, run.ledger.phase("read histories"):
        readings = reader.read(examples, looks)
        targets = reader.describe([example.target for example in examples])
        tokens = _soft_tokens(cfg, reader.language_model, readings)
        prompt = reader.scenario.negative_prompt
        avoided = Keywords((prompt,)) if prompt else NO_WORDS
        negative = [reader.budget.fit(join_words(avoided, dislikes)) for dislikes in readings.negative]
    builder = RequestBuilder(targets, instantiate(cfg.balance.alpha_rule), cfg.seed or 0, avoided)
    return builder, _preferences(examples, readings, tokens, negative)


def _soft_tokens(cfg: DictConfig, language_model: LanguageModel, readings: Readings) -> list[dict[str, Tensor]]:
    """Each user's soft tokens by their name; none where no encoder was trained."""
    from pmg.models.preference_encoder import PreferenceEncoder
    from pmg.models.sources import load_frozen

    if not cfg.train_run:
        return [{} for _ in readings.users]
    encoder = load_frozen(PreferenceEncoder, f"{cfg.train_run}/encoder")
    return [{"soft": tokens} for tokens in encoder.encode(language_model, readings.context)]


def _preferences(
    examples: Sequence[Example], readings: Readings, tokens: Sequence[Mapping[str, Tensor]],
    negative: Sequence[Keywords],
) -> dict[str, Preference]:  # fmt: skip
    """What is known of each user, by id."""
    from pmg.domain import Keywords
    from pmg.generation.request import Preference

    by_user = {example.user: example for example in examples}
    preferences = {}
    for user, keywords, soft, avoided in zip(readings.users, readings.keywords, tokens, negative, strict=True):
        truth = Keywords(tuple(by_user[user].labels["words"].split(", ")))
        words = {"keywords": keywords, "truth": truth}
        preferences[user] = Preference(user, words, soft, avoided, len(by_user[user].history))
    return preferences


def _pipeline(cfg: DictConfig) -> Pipeline:
    """The pipeline of this config."""
    from pmg.generation.pipeline import Pipeline

    return Pipeline(
        instantiate(cfg.generator), instantiate(cfg.scorer), instantiate(cfg.balance.weights),
        instantiate(cfg.balance.weighting), instantiate(cfg.sampling.scales), cfg.sampling.steps,
        cfg.sampling.bfloat16,
    )  # fmt: skip


def main() -> None:
    """Console entry point."""
    launch("generate", body)


if __name__ == "__main__":
    main()
