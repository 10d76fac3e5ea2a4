"""Keywords of targets: of items with a title, and of images that answer a conversation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import torch

from pmg.cache import Cache
from pmg.data.chats import USER
from pmg.domain import Example, Item, Keywords, PmgError, Turn
from pmg.models.language.language_model import LanguageModel
from pmg.preferences.keywords import (
    KEPT,
    RANKED,
    Budget,
    ask_options,
    from_pairs,
    from_tensors,
    target_keywords,
    to_tensors,
)
from pmg.preferences.scenarios import Scenario, verbalize_conversation
from pmg.preferences.target_names import TargetNames
from pmg.preferences.target_writing import TargetWriting
from pmg.progress import track

log = logging.getLogger(__name__)
AT_ONCE = 64  # targets that are described, and kept, together


def chat_keywords(
    language_model: LanguageModel, conversations: Sequence[Sequence[Turn]], scenario: Scenario
) -> list[Keywords]:
    """Returns the keywords of an image that answers each conversation.

    For every target attribute, the option with the highest contextually calibrated score (Zhao et al. 2021): its
    log-likelihood after the conversation minus its mean log-likelihood after the scenario's reference messages. Each
    question follows the earlier answers, so that the face matches the emotion. Scene words follow with score 0.
    PmgError if the scenario has no target attributes, or an open one, or a conversation is empty.
    """
    _check(scenario)
    references = [(Turn(USER, message),) for message in scenario.reference_messages]
    texts = [verbalize_conversation(turns, scenario) for turns in (*references, *conversations)]
    context = language_model.prefill(texts)
    stories = [""] * len(texts)
    rows: list[list[tuple[str, float]]] = [[] for _ in texts]
    for attribute in scenario.target_attributes.values():
        questions = [[ask_options(story + attribute.question, attribute.options)] for story in stories]
        scores = torch.stack([scores for (scores,) in language_model.score_options(context, questions)])
        gains = scores - scores[: len(references)].mean(dim=0) if references else scores
        for row, (gain, place) in enumerate(zip(*gains.max(dim=1), strict=True)):
            answer = attribute.options[int(place)]
            stories[row] += f"{attribute.question} {answer}\n"
            rows[row].append((answer, float(gain)))
    scene = [(word, 0.0) for word in scenario.scene_words]
    return [from_pairs([*row, *scene]) for row in rows[len(references) :]]


def probe_writing(language_model: LanguageModel, scenario: Scenario, writing: TargetWriting) -> float:
    """Returns the share of the probe that a language model passes, see `TargetWriting`."""
    messages = [(Turn(USER, message),) for message in writing.probes]
    context = language_model.prefill([verbalize_conversation(turns, scenario) for turns in messages])
    return writing.share_passed(writing.write(language_model, context))


def _check(scenario: Scenario) -> None:
    if not scenario.target_attributes:
        raise PmgError(f"scenario '{scenario.name}' has no target_attributes, which conversations need")
    if free := [name for name, attribute in scenario.target_attributes.items() if not attribute.options]:
        raise PmgError(f"scenario '{scenario.name}': target_attributes {', '.join(free)} need options to choose from")


@dataclass(eq=False)
class TargetExtractor:
    """Extracts keywords of targets with a frozen language model."""

    language_model: LanguageModel
    scenario: Scenario  # prompts
    cache: Cache  # keeps keywords between runs
    identity: str  # names the model in cache keys, e.g. its source and dtype
    budget: Budget  # what the text encoder can read; keywords beyond it are dropped, and named in `Keywords.dropped`
    names: TargetNames | None = None  # of what the generator was trained to draw; None: targets keep their titles

    def targets(self, examples: Sequence[Example]) -> dict[str, Keywords]:
        """Returns the keywords of each different target, by concept; those without a title answer the conversation.

        PmgError if an example has neither a target's title nor a conversation.
        """
        unnamed = [example for example in examples if not example.target.title]
        for example in unnamed:
            if not example.conversation:
                raise PmgError(f"example '{example.id}' has no target, and no conversation that an image could answer")
        made = self.answer([example.conversation for example in unnamed]) if unnamed else []
        proposed = {example.target.concept: words for example, words in zip(unnamed, made, strict=True)}
        return self.describe([example.target for example in examples if example.target.title]) | proposed

    def answer(self, conversations: Sequence[Sequence[Turn]]) -> list[Keywords]:
        """Returns the keywords of an image that answers each conversation.

        Where the language model passes the probe of `target_writing`, it writes them; else, and where it wrote nothing
        that can be used, options are ranked, see `chat_keywords`.
        """
        model, scenario, writing = self.language_model, self.scenario, self.scenario.target_writing
        found: list[Keywords | None] = [None] * len(conversations)
        if writing is not None and self._probed >= writing.least:
            context = model.prefill([verbalize_conversation(turns, scenario) for turns in conversations])
            scene = scenario.scene_words
            answers = writing.write(model, context)
            found = [Keywords((text, *scene), (0.0,) * (1 + len(scene))) if text else None for text in answers]
        rest = [turns for turns, words in zip(conversations, found, strict=True) if words is None]
        ranked = iter(chat_keywords(model, rest, scenario) if rest else [])
        return [self.budget.fit_target(next(ranked) if words is None else words) for words in found]

    @cached_property
    def _probed(self) -> float:
        """Share of the probe of `target_writing` that the language model passes; 0 where there is no probe."""
        scenario, writing = self.scenario, self.scenario.target_writing
        if writing is None:
            return 0.0
        templates = [scenario.chat_template, scenario.turn, asdict(writing)]
        key = Cache.key(kind="target probe", model=self.identity, templates=templates)
        passed = self.cache.fetch(
            key, lambda: {"share": torch.tensor(probe_writing(self.language_model, scenario, writing))}
        )
        share, least = float(passed["share"]), writing.least
        log.info("the language model passes %.2f of the probe of targets; %.2f are needed to write them", share, least)
        return share

    def describe(self, items: Sequence[Item]) -> dict[str, Keywords]:
        """Returns target keywords of each different concept among `items`, by concept."""
        unique = {item.concept: item for item in items}
        if self.names:
            unique = dict(zip(unique, self.names.resolve([*unique.values()]), strict=True))
        found = {concept: self.cache.load(self._key(item)) for concept, item in unique.items()}
        missing = [item for concept, item in unique.items() if found[concept] is None]
        parts = [missing[start : start + AT_ONCE] for start in range(0, len(missing), AT_ONCE)]
        for part in track(parts, "Describing targets", size=len) if len(parts) > 1 else parts:
            for item, keywords in zip(part, target_keywords(self.language_model, part, self.scenario), strict=True):
                found[item.concept] = tensors = to_tensors([keywords])
                self.cache.save(self._key(item), tensors)
        return {concept: self.budget.fit_target(from_tensors(kept)[0]) for concept, kept in found.items() if kept}

    def _key(self, item: Item) -> str:
        scenario = self.scenario
        prompts = [scenario.target_prefix, scenario.target_question, *scenario.scene_words]
        parts = {"model": self.identity, "prompts": prompts, "title": item.title, "keywords": item.keywords}
        return Cache.key(kind="target", ranked=RANKED, kept=KEPT, **parts)
