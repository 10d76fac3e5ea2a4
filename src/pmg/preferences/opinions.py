"""Which of a user's messages state a dislike: judged one by one, by the language model's likelihood of two answers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pmg.data.chats import USER
from pmg.domain import PmgError, Turn
from pmg.models.language.language_model import LanguageModel
from pmg.preferences.scenarios import Scenario


def judge_messages(language_model: LanguageModel, messages: Sequence[str], scenario: Scenario) -> Tensor:
    """Returns how much more each message states a like than a dislike, float32 `(N,)`; negative for a dislike.

    The difference of the log-likelihoods of the two options of `Scenario.opinion` after `Scenario.message_template`,
    less its mean over the scenario's reference messages (contextual calibration, Zhao et al. 2021): small language
    models answer every message alike without it.

    Raises:
        PmgError: the scenario has no `opinion`.
    """
    if scenario.opinion is None:
        raise PmgError(
            f"scenario '{scenario.name}' has no opinion, by which messages are judged. Add one to its config."
        )
    # a line break inside a message could be mistaken for the end of the message
    texts = [" ".join(text.split()) for text in (*scenario.reference_messages, *messages)]
    context = language_model.prefill([scenario.message_template.format(message=text) for text in texts])
    options = [f" {option}" for option in scenario.opinion.options]
    like, dislike = language_model.score_shared_options(context, scenario.opinion.question, options).T
    references = len(scenario.reference_messages)
    difference = like - dislike
    return difference[references:] - (difference[:references].mean() if references else 0)


def own_messages(conversation: Sequence[Turn]) -> list[str]:
    """Returns the texts of the user's own messages."""
    return [turn.text for turn in conversation if turn.speaker == USER]


def split_messages(
    conversation: Sequence[Turn], opinions: Sequence[float]
) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Returns the user's messages that state no dislike, and those that state one.

    Args:
        conversation: oldest first.
        opinions: of `own_messages`, see `judge_messages`.
    """
    own = [turn for turn in conversation if turn.speaker == USER]
    judged = list(zip(own, opinions, strict=True))
    liked = tuple(turn for turn, opinion in judged if opinion >= 0)
    return liked, tuple(turn for turn, opinion in judged if opinion < 0)
