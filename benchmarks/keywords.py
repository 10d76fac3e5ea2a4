"""Keywords: users a second against a `generate` call for each attribute."""

from __future__ import annotations

from typing import Any

from benchmarks.naive_keywords import ask_each
from benchmarks.plain_models import plain_language_model
from benchmarks.stack import Plan, Study, build_study
from benchmarks.timing import alternate, speedup, timed
from pmg.configuration.instantiate import instantiate


def longest_answer(study: Study) -> int:
    """Tokens of the longest option of any attribute: what a `generate` call must be allowed to write."""
    attributes = study.extractor.scenario.attributes.values()
    count = study.extractor.language_model.token_ids
    return max(len(count(f" {option}")) for attribute in attributes for option in attribute.options)


def measure(plan: Plan) -> dict[str, Any]:
    """Users a second, from texts to keywords; nothing comes from the cache."""
    study = build_study(plan)
    examples = study.examples("test")[: plan.keyword_users]
    histories = study.histories(examples)
    language_model, attributes = study.extractor.language_model, study.extractor.scenario.attributes
    decoding, plain = instantiate(study.cfg.decoding), plain_language_model(language_model)
    questions, longest = [attribute.question for attribute in attributes.values()], longest_answer(study)
    ways = {
        "ours": lambda: decoding(language_model, language_model.prefill(histories), attributes),
        "naive": lambda: ask_each(plain, language_model.tokenizer, histories, questions, longest),
    }
    times = alternate({name: timed(way) for name, way in ways.items()}, plan.rounds, "Keywords")
    rates = [[len(histories) / seconds for seconds in times[way]] for way in ways]
    sizes = {"users": len(histories), "attributes": len(attributes), "max_new_tokens": longest}
    return {"speedup": speedup(*rates), **sizes}
