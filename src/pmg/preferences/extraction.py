"""Extracts preferences from histories with the language model: prefilled histories and keywords, cached."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from pmg.cache import Cache
from pmg.domain import Example, Keywords, PmgError
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel
from pmg.models.language.picture_marks import find_pictures
from pmg.preferences.captioning import Pixels
from pmg.preferences.contexts import (
    ENTRY,
    CachedContexts,
    Contexts,
    LazyContexts,
    PictureFeatures,
    PictureLookup,
    WrittenHistories,
    no_pictures,
)
from pmg.preferences.keyword_decoding import Decoding
from pmg.preferences.keywords import LIMIT, Budget, from_tensors, to_tensors, without
from pmg.preferences.scenarios import Scenario, verbalize_dislikes, verbalize_history
from pmg.preferences.stated import build_matcher, own_messages
from pmg.preferences.target_extraction import TargetExtractor
from pmg.preferences.target_names import TargetNames
from pmg.progress import track

RESERVED = 256  # tokens for the question behind a history and its answer, or for soft tokens

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HistoryWriter:
    """Writes histories as prompts; for language models that see, whose pictures have many tokens, those that fit."""

    language_model: LanguageModel
    scenario: Scenario
    left_out: dict[str, int] = field(default_factory=dict)  # items by profile

    def likes(self, example: Example, captions: Mapping[str, str] | None) -> str:
        """Returns the prompt of an example's likes, see `verbalize_history`, with at least the latest item."""
        scenario = self._fit(verbalize_history, example, len(example.liked), captions)
        return verbalize_history(example, scenario, captions)

    def dislikes(self, example: Example, captions: Mapping[str, str] | None) -> str | None:
        """Returns the prompt of an example's dislikes, see `verbalize_dislikes`, with at least the latest item."""
        scenario = self._fit(verbalize_dislikes, example, len(example.disliked), captions)
        return verbalize_dislikes(example, scenario, captions)

    def warn(self) -> None:
        """Logs how many histories lost how many items."""
        if self.left_out:
            user, most = max(self.left_out.items(), key=lambda pair: pair[1])
            log.warning(
                "%d histories are longer than the %d tokens that the language model reads: the oldest items are left "
                "out, up to %d (user '%s'). Lower language_model.tokens_per_picture or scenario.max_items",
                len(self.left_out), self.language_model.limit, most, user,
            )  # fmt: skip

    def _fit(
        self, write: Callable[..., str | None], example: Example, items: int, captions: Mapping[str, str] | None
    ) -> Scenario:
        """Returns the scenario with as many items as fit."""
        scenario, limit = self.scenario, self.language_model.limit
        if not self.language_model.reads_pictures or limit is None:
            return scenario
        most = kept = min(items, scenario.max_items)
        tokenize = self.language_model.tokenize
        while kept > 1 and len(tokenize(write(example, scenario, captions) or "")) > limit - RESERVED:
            kept -= 1
            scenario = replace(scenario, max_items=kept)
        if kept < most:
            self.left_out[example.profile] = self.left_out.get(example.profile, 0) + most - kept
        return scenario


@dataclass(frozen=True)
class ExtractedPreferences:
    """The prefilled histories of `U` profiles (users, or users at different times), and keywords decoded from them."""

    profiles: list[str]  # names, one a row
    context: Contexts  # prefilled histories
    liked: Mapping[str, list[Keywords]]  # keywords of the likes, one a profile, by the `repr` of their decoding
    # keywords of the dislikes without those of the likes, likewise; none for users without dislikes
    disliked: Mapping[str, list[Keywords]]
    written: WrittenHistories  # their texts, for encoders that read states of all tokens

    def rows(self, profiles: Sequence[str]) -> list[int]:
        """Returns the row of each of `profiles`."""
        index = {profile: row for row, profile in enumerate(self.profiles)}
        return [index[profile] for profile in profiles]

    def keywords(self, decoding: Decoding) -> list[Keywords]:
        """Returns the explicit preference of each profile by `decoding`, one of those that were read."""
        return self.liked[repr(decoding)]

    def negative(self, decoding: Decoding) -> list[Keywords]:
        """Returns what each profile dislikes by `decoding`, one of those that dislikes were read with."""
        return self.disliked[repr(decoding)]


def select_part(examples: Sequence[Example], index: int, count: int) -> list[Example]:
    """Returns the examples of every `count`-th chunk of profiles, from `index` on; empty where there are fewer chunks.

    Chunks are those of all examples, since an entry of the cache is one of them.
    """
    profiles = list(dict.fromkeys(example.profile for example in examples))
    chosen = {name for number, name in enumerate(profiles) if number // ENTRY % count == index}
    return [example for example in examples if example.profile in chosen]


class PreferenceExtractor(TargetExtractor):
    """Extracts preferences, and keywords of targets, with a frozen language model.

    Further arguments are those of `TargetExtractor`; the cache keeps contexts, too. `keep`: contexts stay in the
    cache; else each is computed when it is needed. `text_encoder` is the generator's, which a scenario with `match`
    compares messages with.
    """

    def __init__(
        self, language_model: LanguageModel, scenario: Scenario, cache: Cache, identity: str, budget: Budget,
        keep: bool = True, *, text_encoder: PromptEncoder | None = None, names: TargetNames | None = None,
    ) -> None:  # fmt: skip
        super().__init__(language_model, scenario, cache, identity, budget, names)
        self.keep = keep
        self.matcher = build_matcher(scenario, text_encoder)

    def extract(
        self, examples: Sequence[Example], captions: Mapping[str, str] | None = None,
        decodings: Sequence[Decoding] = (), dislikes: Sequence[Decoding] = (), *, pixels: Pixels | None = None,
        prefill: bool = True,
    ) -> ExtractedPreferences:  # fmt: skip
        """Prefills the history of each profile once, and decodes keywords from it; rows are in the examples' order.

        Args:
            examples: of any number of users.
            captions: each item's look by its id; by default the scenario's, from the item's facts.
            decodings: decode the keywords of the likes, each distinct one once.
            dislikes: decode the keywords of the dislikes; those of the likes are decoded, too.
            pixels: returns the images of items whose captions are pictures, for language models that see.
            prefill: whether contexts are computed now, for who reads them more than once; else when they are read.
        """
        firsts = list({example.profile: example for example in reversed(examples)}.values())[::-1]
        of_likes = {repr(decoding): decoding for decoding in decodings}
        of_dislikes = {repr(decoding): decoding for decoding in dislikes if repr(decoding) not in of_likes}
        wanted = of_likes | of_dislikes
        parts: list[Contexts] = []
        written: list[str] = []
        liked: dict[str, list[Keywords]] = {name: [] for name in wanted}
        disliked: dict[str, list[Keywords]] = {repr(decoding): [] for decoding in dislikes}
        pictures, writer = self._pictures(firsts, captions, pixels), HistoryWriter(self.language_model, self.scenario)
        chunks = [firsts[start : start + ENTRY] for start in range(0, len(firsts), ENTRY)]
        for chunk in track(chunks, "Reading histories"):
            texts = [writer.likes(example, captions) for example in chunk]
            parts.append(self._contexts(texts, pictures, prefill))
            written += texts
            # users who only talk aren't decoded where their messages are matched: a decoding names options that they
            # don't mention
            is_decoded = [bool(one.liked or (one.conversation and not self.matcher)) for one in chunk]
            decoded = [text if use else None for text, use in zip(texts, is_decoded, strict=True)]
            against = [writer.dislikes(example, captions) for example in chunk]
            likes = self._keywords(of_likes, decoded, pictures, parts[-1] if decoded == texts else None)
            # negative keywords leave out words that are liked, too: only users with dislikes need those
            compared = [None if bad is None else text for text, bad in zip(decoded, against, strict=True)]
            likes |= self._keywords(of_dislikes, compared, pictures)
            if self.matcher and likes:
                limits = {name: getattr(wanted[name], "limit", LIMIT) for name in likes}  # not every decoding has one
                likes = self.matcher.overlay(likes, [own_messages(one.conversation) for one in chunk], limits)
            for name, keywords in likes.items():
                liked[name] += map(self.budget.fit, keywords)
            bad_words = self._keywords({name: wanted[name] for name in disliked}, against, pictures)
            for name, keywords in bad_words.items():
                both = zip(keywords, likes[name], strict=True)
                disliked[name] += [self.budget.fit(without(bad, good.words)) for bad, good in both]
        writer.warn()
        joined: Any = type(parts[0])  # all parts are of one type
        return ExtractedPreferences(
            [example.profile for example in firsts], joined.concatenate(parts), liked, disliked,
            WrittenHistories(written, self.language_model, self.cache, self.identity, pictures),
        )  # fmt: skip

    def _pictures(
        self, examples: Sequence[Example], captions: Mapping[str, str] | None, pixels: Pixels | None
    ) -> PictureLookup:
        """Returns what looks up pictures in texts; PmgError if the scenario has no place for pictures."""
        if "{caption}" not in self.scenario.line and any(map(find_pictures, (captions or {}).values())):
            raise PmgError(
                f"captioner=pictures puts pictures in the place of {{caption}}, and scenario.line is "
                f"'{self.scenario.line}': add {{caption}} to it, or choose another captioner"
            )
        if not (self.language_model.reads_pictures and pixels and captions):
            return no_pictures
        items = [interaction.item for example in examples for interaction in example.history]
        marked = {digest: item for item in items for digest in find_pictures(captions[item.id])}
        return PictureFeatures(self.language_model, self.cache, self.identity, marked, pixels)

    def _contexts(self, texts: list[str], pictures: PictureLookup, prefill: bool) -> Contexts:
        if not (self.keep and prefill):
            return LazyContexts(self.language_model, texts, pictures)
        key = Cache.key(kind="contexts with ends", model=self.identity, texts=texts)
        tensors = self.cache.fetch(
            key, lambda: self.language_model.prefill(texts, pictures=pictures(texts)).to_tensors()
        )
        return CachedContexts([(self.cache.lazy(key, tensors), len(texts))])

    def _decode(self, decoding: Decoding, texts: list[str], context: Callable[[], Context]) -> list[Keywords]:
        """Returns the keywords of texts; `context` gives their prefill where the cache doesn't hold them."""
        attributes = [asdict(attribute) for attribute in self.scenario.attributes.values()]
        parts = {"model": self.identity, "texts": texts, "attributes": attributes, "decoding": repr(decoding)}
        tensors = self.cache.fetch(
            Cache.key(kind="keywords", **parts),
            lambda: to_tensors(decoding(self.language_model, context(), self.scenario.attributes)),
        )
        return from_tensors(tensors)

    def _keywords(
        self, decodings: Mapping[str, Decoding], texts: Sequence[str | None], pictures: PictureLookup,
        contexts: Contexts | None = None,
    ) -> dict[str, list[Keywords]]:  # fmt: skip
        """Returns keywords by decoding, no words for a text of None; `contexts`: the texts, where prefilled before."""
        present = [text for text in texts if text is not None]

        @cache
        def context() -> Context:
            """Returns the prefilled texts."""
            if contexts is not None:
                return contexts.select(range(len(present)))
            return self.language_model.prefill(present, pictures=pictures(present))

        found: dict[str, list[Keywords]] = {}
        for name, decoding in decodings.items():
            words = iter(self._decode(decoding, present, context) if present else ())
            found[name] = [Keywords(()) if text is None else next(words) for text in texts]
        return found
