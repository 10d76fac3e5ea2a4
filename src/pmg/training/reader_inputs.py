"""Inputs of a reader: states of each history's tokens, vectors of its sentences, and its pictures with titles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pmg.configuration.ranges import CountOrZero
from pmg.data.dataset import ImageStore
from pmg.domain import Example, Interaction
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel
from pmg.models.preference.reader import Readings
from pmg.preferences.extraction import ExtractedPreferences
from pmg.preferences.stated import embed_texts, own_messages, split_sentences
from pmg.progress import track
from pmg.training.visual_inputs import ImageEncoder, SeenPictures, latest_pictures, see_pictures

SENTENCES = 256  # at once


@dataclass(frozen=True)
class UsersReadings:
    """Readings of `U` users: `pmg.training.encoder_inputs.UserInputs`."""

    states: Sequence[Tensor]  # of each user's text, `(T, W)` with those of all layers joined
    seen: SeenPictures  # their pictures, N
    titles: Tensor  # mean embedding of each picture's title, `(N, E)`
    sentences: Sequence[Tensor] | None = None  # of each user's sentences, `(S, V)`; None: they aren't read

    def __len__(self) -> int:
        return len(self.states)

    def prefetch(self, rows: Tensor) -> None:
        """Does nothing: all rows are in memory."""

    def select(self, rows: Sequence[int] | Tensor) -> Readings:
        """Returns the readings of B users, in that order."""
        users = torch.as_tensor(rows).tolist()
        states, words = _pad([self.states[user] for user in users])
        places, present, liked = self.seen.select(users)
        said = (None, None) if self.sentences is None else _pad([self.sentences[user] for user in users])
        return Readings(states, words, self.titles[places], self.seen.vectors[places], present, liked, *said)


def _pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns rows `(T, W)` of B users as one tensor `(B, T, W)`, float32, and which of it isn't padding, `(B, T)`."""
    there = pad_sequence([torch.ones(len(one), dtype=torch.bool) for one in rows], batch_first=True)
    return pad_sequence([one.float() for one in rows], batch_first=True), there


@dataclass(frozen=True)
class ReadHistories:
    """Histories whose text was read by the first layers of the language model, and their pictures."""

    image_encoder: ImageEncoder  # sees the pictures; each picture once, however many users have it
    # of the language model, whose states are read; 0: its word embeddings, which name things in words that training
    # didn't have, where those behind layers say what is wanted of them. None of them: sentences alone are read, a
    # control without a language model
    layers: Sequence[CountOrZero] = (0, 16)
    # most pictures a user, the latest; 0: none, so that text alone is read, captions among it
    pictures: CountOrZero = 12
    text_encoder: PromptEncoder | None = None  # whose vectors of users' sentences are read, too; None: none are
    needs_contexts: ClassVar[bool] = False

    @staticmethod
    def blank(context: Context, token_width: int, pooled_width: int, options: Mapping[str, Any]) -> UsersReadings:
        """Returns histories without content, see `EncoderInputs`."""
        seen = SeenPictures.blank(context, token_width, pooled_width, options)
        layers, lengths = len(options["layers"]), [len(tokens) for tokens in context.tokens]
        named = int(options["llm_width"]) if layers else pooled_width
        states = [torch.zeros(length if layers else 0, named * max(1, layers)) for length in lengths]
        # a sentence has at least one token
        sentences = [torch.zeros(length, pooled_width) for length in lengths] if options.get("text_encoder") else None
        return UsersReadings(states, seen, torch.zeros(1, named), sentences)

    def __call__(
        self, extracted: ExtractedPreferences, examples: Sequence[Example], images: ImageStore
    ) -> UsersReadings:
        """Returns the readings of all users, one row a profile of `extracted`.

        PmgError if the language model has no such layer, or neither a layer nor a text encoder is named.
        """
        histories: list[list[Interaction]] = [[] for _ in extracted.profiles]
        if self.pictures:
            histories = latest_pictures(extracted, examples, images, self.pictures)
        seen = see_pictures(self.image_encoder, histories, images)
        titles = list({one.item.id: one.item.title for some in histories for one in some}.values())
        encoder, profiles, written, sentences = self.text_encoder, extracted.profiles, extracted.written, None
        if encoder is not None:
            sentences, named = embed_sentences(encoder, profiles, examples, () if self.layers else titles)
        if self.layers or encoder is None:
            named = embed_titles(written.language_model, titles)
            return UsersReadings(written.states(self.layers), seen, named, sentences)
        return UsersReadings([named[:0]] * len(profiles), seen, named, sentences)


@torch.no_grad()
def embed_sentences(
    text_encoder: PromptEncoder, profiles: Sequence[str], examples: Sequence[Example], titles: Sequence[str]
) -> tuple[list[Tensor], Tensor]:
    """Returns unit vectors of profiles' sentences, `(S, V)`, and of titles, `(N, V)`; PmgError if none are pooled."""
    said = {example.profile: own_messages(example.conversation) for example in examples}
    sentences = [[text for one in said[name] for text in split_sentences(one, text_encoder)] for name in profiles]
    different = {"", *titles, *(text for own in sentences for text in own)}
    texts = sorted(different, key=lambda text: (len(text), text))  # those of like lengths together
    starts = track(range(0, len(texts), SENTENCES), "Reading sentences")
    vectors = torch.cat([embed_texts(text_encoder, texts[start : start + SENTENCES]) for start in starts])
    place = {text: row for row, text in enumerate(texts)}
    own = [vectors[[place[text] for text in one]] for one in sentences]
    return own, vectors[[place[title] for title in titles]]


@torch.no_grad()
def embed_titles(language_model: LanguageModel, titles: Sequence[str]) -> Tensor:
    """Returns the mean embedding of each title's tokens, as behind a space, float32 `(N, W)`."""
    rows = [torch.tensor(language_model.token_ids(f" {title}"), dtype=torch.long) for title in titles]
    means = [language_model.embed(row).float().mean(0).cpu() for row in rows]
    return torch.stack(means) if means else torch.zeros(0, language_model.width)
