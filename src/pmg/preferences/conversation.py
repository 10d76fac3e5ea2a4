"""Target keywords of a conversation: chosen by the language model's likelihood, or written by a model that can."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pmg.data.chats import USER
from pmg.domain import Keywords, PmgError, Turn
from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel
from pmg.preferences.keywords import ask_options
from pmg.preferences.scenarios import Attribute, Scenario, verbalize_conversation
from pmg.preferences.target_writing import TargetWriting


def chat_keywords(
    language_model: LanguageModel, conversations: Sequence[Sequence[Turn]], scenario: Scenario
) -> list[Keywords]:
    """Returns the keywords of an image that answers each conversation.

    For every target attribute, the option with the highest contextually calibrated score (Zhao et al. 2021): its
    log-likelihood after the conversation minus its mean log-likelihood after the scenario's reference messages. Each
    question follows the earlier answers, so that the face matches the emotion.

    Args:
        language_model: scores the options.
        conversations: B conversations, none empty.
        scenario: with target attributes, which have options, and reference messages.

    Returns:
        B keywords: one option a target attribute with its score, then the scene words with score 0.

    Raises:
        PmgError: the scenario has no target attributes, or an open one; a conversation is empty.
    """
    _check(scenario)
    references = [(Turn(USER, message),) for message in scenario.reference_messages]
    texts = [verbalize_conversation(turns, scenario) for turns in (*references, *conversations)]
    context = language_model.prefill(texts)
    stories = [""] * len(texts)
    rows: list[list[tuple[str, float]]] = [[] for _ in texts]
    for attribute in scenario.target_attributes.values():
        scores = _scores(language_model, context, stories, attribute)
        gains = scores - scores[: len(references)].mean(dim=0) if references else scores
        for row, (gain, place) in enumerate(zip(*gains.max(dim=1), strict=True)):
            answer = attribute.options[int(place)]
            stories[row] += f"{attribute.question} {answer}\n"
            rows[row].append((answer, float(gain)))
    scene = [(word, 0.0) for word in scenario.scene_words]
    return [Keywords(*zip(*row, *scene, strict=True)) for row in rows[len(references) :]]


def written_keywords(
    language_model: LanguageModel, conversations: Sequence[Sequence[Turn]], scenario: Scenario, writing: TargetWriting
) -> list[Keywords | None]:
    """Returns what the image that answers each conversation shows, in the model's own words, and the scene words.

    Args:
        language_model: writes.
        conversations: B conversations, none empty.
        scenario: has templates and scene words.
        writing: has the question.

    Returns:
        B keywords, each with score 0; None where the model wrote nothing that can be used.
    """
    context = language_model.prefill([verbalize_conversation(turns, scenario) for turns in conversations])
    answers = writing.write(language_model, context)
    words = [(answer, *scenario.scene_words) if answer else None for answer in answers]
    return [None if row is None else Keywords(row, (0.0,) * len(row)) for row in words]


def probe_writing(language_model: LanguageModel, scenario: Scenario, writing: TargetWriting) -> float:
    """Returns the share of the probe that a language model passes, see `TargetWriting`."""
    messages = [(Turn(USER, message),) for message in writing.probes]
    context = language_model.prefill([verbalize_conversation(turns, scenario) for turns in messages])
    return writing.share_passed(writing.write(language_model, context))


def _scores(language_model: LanguageModel, context: Context, stories: Sequence[str], attribute: Attribute) -> Tensor:
    """Returns the log-likelihood of every option after each context and its answers, float32 `(B, n_options)`."""
    questions = [[ask_options(story + attribute.question, attribute.options)] for story in stories]
    return torch.stack([scores for (scores,) in language_model.score_options(context, questions)])


def _check(scenario: Scenario) -> None:
    if not scenario.target_attributes:
        raise PmgError(f"scenario '{scenario.name}' has no target_attributes, which conversations need")
    free = [name for name, attribute in scenario.target_attributes.items() if not attribute.options]
    if free:
        raise PmgError(f"scenario '{scenario.name}': target_attributes {', '.join(free)} need options to choose from")
