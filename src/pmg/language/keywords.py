"""Explicit keywords: a user's taste and a target's content, chosen by the language model's likelihood."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pmg.domain import Item, Keywords
from pmg.language.verbalize import Scenario
from pmg.models.context import Context
from pmg.models.language_model import LanguageModel


def attribute_scores(language_model: LanguageModel, context: Context, scenario: Scenario) -> dict[str, Tensor]:
    """Log-probability of every option of every attribute.

    Returns:
        For each attribute float32 `(B, n_options)`, in the order of its options.
    """
    return {
        name: language_model.choose(context, attribute.question, [f" {option}" for option in attribute.options])
        for name, attribute in scenario.attributes.items()
    }


def preference_keywords(language_model: LanguageModel, context: Context, scenario: Scenario) -> list[Keywords]:
    """Each user's likeliest option of every attribute.

    Args:
        language_model: the model that read the histories.
        context: B histories.
        scenario: its attributes, in order.

    Returns:
        B keywords, one word (or phrase) an attribute, with log-probabilities as scores.
    """
    scores = attribute_scores(language_model, context, scenario)
    best = [(scenario.attributes[name].options, *table.max(dim=1)) for name, table in scores.items()]
    return [
        Keywords(
            words=tuple(options[int(index[row])] for options, _, index in best),
            scores=tuple(float(score[row]) for _, score, _ in best),
        )
        for row in range(len(context))
    ]


def target_keywords(
    language_model: LanguageModel, items: Sequence[Item], scenario: Scenario, asked: int = 10, used: int = 5
) -> list[Keywords]:
    """What a target shows: its title, its own keywords that the model finds likeliest, and scene words.

    Args:
        language_model: ranks the keywords.
        items: the targets.
        scenario: the question, and the scene words.
        asked: so many of an item's keywords are ranked.
        used: so many are kept, likeliest first.

    Returns:
        One `Keywords` an item; scores of title and scene words are 0 (they were not chosen).
    """
    context = language_model.prefill([scenario.target_prefix + item.title for item in items])
    results = []
    for row, item in enumerate(items):
        options = list(dict.fromkeys(word for word in item.keywords if word != item.title))[:asked]
        ranked: list[tuple[float, str]] = []
        if options:
            scores = language_model.choose(
                context.select([row]), scenario.target_question, [f" {word}" for word in options]
            )
            ranked = sorted(zip(scores[0].tolist(), options, strict=True), reverse=True)[:used]
        words = (item.title, *(word for _, word in ranked), *scenario.scene_words)
        results.append(Keywords(words, (0.0, *(score for score, _ in ranked), *[0.0] * len(scenario.scene_words))))
    return results
