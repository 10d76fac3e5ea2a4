"""Explicit keywords: ranking, merging, target keywords, and what fits a text encoder; nothing is cut silently."""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress
from typing import Self

import torch
from torch import Tensor

from pmg.domain import Item, Keywords, PmgError
from pmg.models.diffusion.interfaces import ALLOW_MORE, PromptEncoder
from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel
from pmg.models.language.option_scoring import Question
from pmg.preferences.scenarios import Attribute, Scenario

log = logging.getLogger(__name__)

LIMIT = 8  # merged keywords of a user, as in the paper
RANKED, KEPT = 10, 5  # keywords of a target that are ranked, and that are kept
NO_WORDS = Keywords(())


def scored(keywords: Keywords) -> list[tuple[str, float]]:
    """Returns words with their scores; 0 where there are none."""
    scores = keywords.scores or (0.0,) * len(keywords.words)
    return list(zip(keywords.words, scores, strict=True))


def from_pairs(pairs: Sequence[tuple[str, float]], dropped: tuple[str, ...] = ()) -> Keywords:
    """Returns the keywords of words with their scores, see `scored`."""
    return Keywords(tuple(word for word, _ in pairs), tuple(score for _, score in pairs), dropped)


def join_words(*parts: Keywords) -> Keywords:
    """Returns all words one after another; words without a score count as chosen for certain (0)."""
    dropped = tuple(word for part in parts for word in part.dropped)
    return from_pairs([pair for part in parts for pair in scored(part)], dropped)


def rank(words: Sequence[str], scores: Sequence[float], count: int) -> Keywords:
    """Returns the `count` words with the highest scores, highest first; of equals the earlier."""
    return from_pairs(sorted(zip(words, map(float, scores), strict=True), key=lambda pair: -pair[1])[:count])


def merge_keywords(groups: Sequence[Keywords], limit: int = LIMIT) -> Keywords:
    """Merges the keywords of all attributes in turns: the best of each, then the second of each, and so on.

    A word counts once, whatever its case: an attribute whose next word was given already gives the one after it.
    Within a turn words are in the order of the attributes; where a turn has more words than there is room for,
    those with the best scores stay.
    """
    queues = [deque(sorted(scored(group), key=lambda pair: -pair[1])) for group in groups]
    seen: set[str] = set()
    merged: list[tuple[str, float]] = []
    while any(queues) and len(merged) < limit:
        turn = [pair for queue in queues if (pair := _next(queue, seen))]
        best = sorted(turn, key=lambda pair: -pair[1])[: limit - len(merged)]
        merged += [pair for pair in turn if pair in best]
    return from_pairs(merged)


def _next(queue: deque[tuple[str, float]], seen: set[str]) -> tuple[str, float] | None:
    """Removes and returns the first word that is not in `seen`, and adds it there."""
    while queue:
        pair = queue.popleft()
        if pair[0].casefold() not in seen:
            seen.add(pair[0].casefold())
            return pair
    return None


def without(keywords: Keywords, others: Collection[str]) -> Keywords:
    """Returns the keywords that are not among `others`, whatever their case: what is liked is no dislike."""
    taken = {word.casefold() for word in others}
    return from_pairs([pair for pair in scored(keywords) if pair[0].casefold() not in taken], keywords.dropped)


def attribute_scores(
    language_model: LanguageModel, context: Context, attributes: Mapping[str, Attribute]
) -> dict[str, Tensor]:
    """Returns the log-probabilities of attributes' options, float32 `(B, n_options)`; PmgError if one has none."""
    for name, attribute in attributes.items():
        if not attribute.options:
            raise PmgError(
                f"attribute '{name}' has no options to choose from; give it some in the scenario, "
                "or let the language model write freely: decoding=generate"
            )
    questions = [ask_options(attribute.question, attribute.options) for attribute in attributes.values()]
    rows = language_model.score_options(context, [questions] * len(context))
    return {name: torch.stack(column) for name, column in zip(attributes, zip(*rows, strict=True), strict=True)}


def ask_options(prompt: str, words: Sequence[str]) -> Question:
    """Returns a question whose options are `words`, each after a space."""
    return Question(prompt, tuple(f" {word}" for word in words))


def rank_words(
    language_model: LanguageModel, context: Context, prompt: str, lists: Sequence[Sequence[str]], count: int
) -> list[Keywords]:
    """Returns of each text the `count` words of its list that are the likeliest as its whole answer, best first."""
    rows = [row for row, words in enumerate(lists) if words]
    questions = [[ask_options(prompt, lists[row])] for row in rows]
    keywords = [NO_WORDS] * len(lists)
    for row, (scores,) in zip(rows, language_model.score_options(context.select(rows), questions), strict=True):
        keywords[row] = rank(lists[row], scores.tolist(), count)
    return keywords


def target_keywords(
    language_model: LanguageModel, items: Sequence[Item], scenario: Scenario, ranked: int = RANKED, kept: int = KEPT
) -> list[Keywords]:
    """Returns the keywords of targets: title, the most likely ones of its own keywords, and scene words.

    Scores of title and scene words are 0 (they were not chosen).
    """
    context = language_model.prefill([scenario.target_prefix + item.title for item in items])
    options = [list(dict.fromkeys(w for w in item.keywords if w != item.title))[:ranked] for item in items]
    likeliest = rank_words(language_model, context, scenario.target_question, options, kept)
    scene = scenario.scene_words
    return [
        Keywords((item.title, *own.words, *scene), (0.0, *own.scores, *[0.0] * len(scene)))
        for item, own in zip(items, likeliest, strict=True)
    ]


def share_read(keywords: Keywords, described: Mapping[str, str]) -> float:
    """Returns the share of keywords, by weight, that are among the words for a picture; 1 without keywords.

    A keyword's weight is its probability, or the share of items that it was counted in, see `Keywords.scores`.
    """
    weights = [score if score > 0 else math.exp(score) for _, score in scored(keywords)]
    found = [word in described.values() for word in keywords.words]
    return sum(compress(weights, found)) / sum(weights) if sum(weights) else 1.0


def to_tensors(keywords: Sequence[Keywords]) -> dict[str, Tensor]:
    """Returns keywords in the form that the cache keeps, without notes."""
    text = json.dumps([asdict(words) for words in keywords], ensure_ascii=False)
    return {"json": torch.tensor(list(text.encode()), dtype=torch.uint8)}


def from_tensors(tensors: Mapping[str, Tensor]) -> list[Keywords]:
    """Returns the keywords that `to_tensors` encoded."""
    rows = json.loads(bytes(tensors["json"].tolist()))
    return [Keywords(tuple(row["words"]), tuple(row["scores"]), tuple(row["dropped"])) for row in rows]


@dataclass(frozen=True)
class Budget:
    """A text encoder's count of a text's tokens, special ones included, and the longest text that it reads."""

    count_tokens: Callable[[str], int]
    limit: int

    @classmethod
    def of(cls, text_encoder: PromptEncoder) -> Self:
        """Returns the budget of a text encoder."""
        return cls(text_encoder.count_tokens, text_encoder.max_length)

    def cut(self, title: str) -> str:
        """Returns as many of a title's words as can be read, or of its signs where it has no spaces."""
        joint = " " if " " in title else ""
        shown = title.split(joint) if joint else list(title)
        while shown and self.count_tokens(joint.join(shown)) > self.limit:
            shown.pop()
        return joint.join(shown)

    def fit_target(self, keywords: Keywords) -> Keywords:
        """Fits a target's keywords, see `fit`: its title, the first, is cut if it is too long, which the log says."""
        title, *others = keywords.words or ("",)
        if shown := self.cut(title):
            if shown != title:
                log.warning("'%s' is longer than the %d tokens of a text encoder, and is cut", title, self.limit)
            keywords = replace(keywords, words=(shown, *others))
        return self.fit(keywords)

    def fit(self, keywords: Keywords) -> Keywords:
        """Drops the keywords of least weight (their scores) until the rest can be read whole; PmgError if none fits.

        First go words that are too long by themselves, then the lowest score, of equal scores the later word. Those
        that are kept stay in their order; `dropped` names the others, first dropped first.
        """
        pairs = scored(keywords)
        dropped = [pair for pair in pairs if self.count_tokens(pair[0]) > self.limit]
        kept = [pair for pair in pairs if pair not in dropped]
        while kept and self.count_tokens(", ".join(word for word, _ in kept)) > self.limit:
            # of equals `min` takes the first, so look from the end
            weakest = min(range(len(kept) - 1, -1, -1), key=lambda row: kept[row][1])
            dropped.append(kept.pop(weakest))
        if dropped and not kept:
            raise PmgError(
                f"none of the keywords '{keywords}' fits into the {self.limit} tokens that the text encoder reads; "
                f"shorten them, or {ALLOW_MORE}"
            )
        return Keywords(
            tuple(word for word, _ in kept),
            tuple(score for _, score in kept) if keywords.scores else (),
            (*keywords.dropped, *(word for word, _ in dropped)),
            keywords.note,
        )
