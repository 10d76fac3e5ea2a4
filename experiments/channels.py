"""How much of the generator's own tokens of a look each reader of clicks and words explains, by channel.

python experiments/channels.py outputs/channels --split validation
python experiments/channels.py outputs/channels --runs outputs/studies/channel_encoders/encoder=reader,*
python experiments/channels.py outputs/channels --untrained 1  # outputs/channels/untrained1, a language model
python experiments/channels.py outputs/channels --captions --split test  # a ridge from captions' words

First it fits the controls, which need no language model: the mean of pictures' tokens, and ridge regressions, whose
soft tokens are kept in files that `method=stored` draws. What a ridge is made of is chosen on validation users.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from record import HERE, OVERVIEW, QUALITY, crop, fill
from rich.progress import track
from safetensors.torch import save_file
from statsmodels.stats.multitest import multipletests
from torch import Tensor
from transformers import AutoModelForCausalLM

import pmg
from pmg.cache import atomic_write_text, open_cache
from pmg.configuration.portable import named_folders
from pmg.configuration.targets import allow_plugin
from pmg.data.chats import USER
from pmg.domain import Example, Item, Turn
from pmg.evaluation.statistics import LEVEL, Difference, interval, paired_difference
from pmg.looks.chat_dataset import CHANNELS
from pmg.looks.phrases import OTHER, SUBJECT
from pmg.models.loading.weight_sources import load_frozen
from pmg.preferences.contexts import WrittenHistories, no_pictures
from pmg.preferences.extraction import ExtractedPreferences, HistoryWriter
from pmg.preferences.keyword_sources import caption_parts
from pmg.preferences.stated import MessageMatcher, embed_texts, own_messages, split_sentences
from pmg.runs.finished_training import TrainingRun
from pmg.runs.provenance import git_state
from pmg.runs.run_folder import ENCODER, replace_folders
from pmg.seeding import stable_number
from pmg.training.token_sources import encoder_class

WORD = re.compile(r"[a-z0-9']+")
PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0)
CAPTION_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
MESSAGES = HERE / "reader" / "messages.jsonl"
WRITERS = ("data.looks.users.seed=1", "data.mixed=0", "split_sizes.test=330",
           f"data.conversations.file={MESSAGES}")  # fmt: skip
"""Users who wrote freely."""
NOT_OWN = {"other": "data.said_by=other", "shuffled": "data.said_by=shuffled"}
"""Words beside one's own pictures in `split`: another user's; one's own in random order."""
SHOWN = {"half shown": "data.shown=0.5", "shown": "data.shown=1"}
"""Shares of clicks that show the finish, in `split`; there none does."""
SEEN = {
    "seen words": "data.conversations.words_from=train",
    "seen sentences": "data.conversations.sentences_from=train",
    "seen both": "data.conversations.words_from=train data.conversations.sentences_from=train",
}
"""In `split`, users who have training users' words for looks, or their sentences, or both."""
OF_SPLIT = NOT_OWN | SHOWN | SEEN
ARM = ["channel", "method", "seed"]  # whose rows are replaced together
NOT_DRAWN = ("truth", "vae_reconstruction", "nearest")  # rows of evaluations that no table shows
COMMON = 3  # users who have to say a word, or two words in a row, for a weight of its own


@dataclass(frozen=True)
class World:
    """Users of a split through one channel, or of training through all, and what the generator says of their looks."""

    split: str
    channel: str

    @cached_property
    def config(self) -> Any:
        """The command's config."""
        chosen = {"all": [], "messages": ["data.channel=conflict", *WRITERS]}
        chosen |= {name: ["data.channel=split", *keys.split()] for name, keys in OF_SPLIT.items()}
        if self.channel == "captions":
            return pmg.compose("train", ["experiment=channel_encoders_captions"])
        own = chosen.get(self.channel, [f"data.channel={self.channel}"])
        return pmg.compose("train", ["experiment=channel_encoders", *own])

    @cached_property
    def data(self) -> Any:
        """The data set."""
        return pmg.instantiate(self.config.data)

    @cached_property
    def users(self) -> list[list[Example]]:
        """Each user's examples."""
        found: dict[str, list[Example]] = {}
        for example in self.data.examples(self.split, self.config.split_sizes[self.split], 3):
            found.setdefault(example.user, []).append(example)
        return list(found.values())

    @cached_property
    def vectors(self) -> Callable[[Sequence[Item]], Tensor]:
        """Returns the generator's own tokens of items' pictures, `(N, n D)`; each picture is seen once."""
        tower, images = pmg.instantiate(self.config.tower), self.data.images
        seen: dict[str, Tensor] = {}

        def see(items: Sequence[Item]) -> Tensor:
            """Returns the tokens."""
            new = [item for item in items if item.id not in seen]
            for start in range(0, len(new), 64):
                part = new[start : start + 64]
                with torch.no_grad():
                    seen.update(zip((one.id for one in part), tower(images.pixels(images.rows(part))), strict=True))
            return torch.stack([seen[item.id] for item in items])

        return see

    def accepted(self) -> Tensor:
        """Returns the mean tokens of each user's true images, `(U, n D)`: what training learns from."""
        rows = track(self.users, f"{self.split} {self.channel}: accepted pictures")
        return torch.stack([self.vectors([one for each in user for one in each.truth]).mean(0) for user in rows])

    @cached_property
    def exact(self) -> Tensor:
        """Returns the mean tokens of other pictures of each user's exact look, `(U, n D)`: what is measured."""
        names = [user[0].labels["look_references"].split() for user in self.users]
        return torch.stack([self.vectors([Item(name, "", "") for name in row]).mean(0) for row in names])

    def clicks(self) -> tuple[Tensor, Tensor]:
        """Returns the mean tokens of each user's liked pictures, `(U, n D)`, and who has some, `(U, 1)`; else 0."""
        rows = track([user[0].liked for user in self.users], f"{self.split} {self.channel}: liked pictures")
        found = [self.vectors(liked).mean(0) if liked else None for liked in rows]
        zero = torch.zeros_like(next((one for one in found if one is not None), torch.zeros(1536)))
        return (
            torch.stack([zero if one is None else one for one in found]),
            torch.tensor([[float(one is not None)] for one in found]),
        )

    def options(self) -> list[list[str]]:
        """Returns the options of each attribute of the scenario."""
        return [list(one["options"]) for one in self.config.scenario.attributes.values()]

    def captions(self) -> list[list[str]]:
        """Returns the captions of each user's liked pictures, oldest first; each picture is described once."""
        captioner = pmg.instantiate(self.config.captioner)
        items = list({item.id: item for user in self.users for item in user[0].liked}.values())
        captions: dict[str, str] = {}
        for start in track(range(0, len(items), 64), f"{self.split}: captions"):
            part = items[start : start + 64]
            pixels = self.data.images.pixels(self.data.images.rows(part))
            captions.update(zip((item.id for item in part), captioner(part, pixels), strict=True))
        return [[captions[item.id] for item in user[0].liked] for user in self.users]

    @cached_property
    def described(self) -> Tensor:
        """Returns one-hot the option of each attribute that describes a true image, `(U, options)`: as training."""
        captioner, found = pmg.instantiate(self.config.captioner), []
        for user in track(self.users, f"{self.split} {self.channel}: captions"):
            (caption,) = captioner(
                [user[0].truth[0]], self.data.images.pixels(self.data.images.rows(user[0].truth[:1]))
            )
            parts = caption_parts(caption)
            found.append([float(word in parts) for words in self.options() for word in words])
        return torch.tensor(found)

    def found(self, scores: Tensor) -> list[float]:
        """Returns the share of the words that each user said they like which are the likeliest of their attribute.

        `scores` are of all options, `(U, options)`. NaN for who said nothing.
        """
        shares = []
        for user, row in zip(self.users, scores.split(1), strict=True):
            said = set(user[0].labels["said_likes"].split(", "))
            hits = [
                words[int(part.argmax())] in said
                for words, part in zip(self.options(), row[0].split([len(w) for w in self.options()]), strict=True)
                if said & set(words)
            ]
            shares.append(sum(hits) / len(hits) if hits else float("nan"))
        return shares

    def macro_f1(self, scores: Tensor) -> float:
        """Returns the mean F1 of the options, as what the users like of attributes that they spoke of.

        `scores` are of all options, `(U, options)`; the likeliest option of an attribute counts as named. Options that
        nobody wants are left out.
        """
        sizes = [len(words) for words in self.options()]
        wanted = [set(user[0].labels["said_likes"].split(", ")) for user in self.users]
        values = []
        for words, part in zip(self.options(), scores.split(sizes, 1), strict=True):
            spoken = [row for row, own in enumerate(wanted) if own & set(words)]
            named = [words[place] for place in part[spoken].argmax(1).tolist()]
            for word in words:
                true = [word in wanted[row] for row in spoken]
                hits = sum(found == word and right for found, right in zip(named, true, strict=True))
                if sum(true):
                    values.append(2 * hits / (sum(true) + named.count(word)))
        return float(np.mean(values)) if values else float("nan")

    def calibration(self, scores: Tensor, bins: int = 10) -> float:
        """Returns the expected calibration error of the likeliest options, 0 to 1 (Guo et al. 2017).

        `scores` are of all options, `(U, options)`, before a softmax over each attribute's. An option is right where
        it describes a picture that the user accepts.
        """
        sizes, right, sure = [len(words) for words in self.options()], [], []
        for row, true in zip(scores.split(sizes, 1), self.described.split(sizes, 1), strict=True):
            some = true.sum(1) > 0
            probability, place = row[some].softmax(1).max(1)
            sure.append(probability)
            right.append(true[some].gather(1, place[:, None])[:, 0])
        probability, hit = torch.cat(sure), torch.cat(right)
        part = (probability * bins).long().clamp(max=bins - 1)
        gaps = [(probability[part == one] - hit[part == one]).sum().abs() for one in range(bins)]
        return float(sum(gaps) / len(hit))

    def messages(self) -> list[list[str]]:
        """Returns what each user said, oldest first."""
        return [own_messages(user[0].conversation) for user in self.users]


@dataclass(frozen=True)
class MinimalPair:
    """Two messages of the same words, of which one asks for a word of a look where the other turns it down.

    Attributes:
        user: whose look has the first word.
        kind: list of sentences that they are made of, ``pairs`` or ``changes``.
        wanted: the word that each asks for.
        texts: the messages.
    """

    user: str
    kind: str
    wanted: tuple[str, str]
    texts: tuple[str, str]


def minimal_pairs(world: World, kind: str) -> list[MinimalPair]:
    """Returns a pair for each user of a split of ``words``, with its phrases."""
    phrases, found = world.data.conversations.phrases[world.split], []
    for user in world.users:
        rng = random.Random(stable_number(0, kind, user[0].user))
        words = world.data.words([Item(name, "", "") for name in user[0].labels["look_references"].split()])
        attribute = rng.choice(sorted(words))
        both = words[attribute], phrases.other_word(attribute, words[attribute], rng)
        said = [phrases.express(attribute, word, rng) for word in both]
        sentence = rng.choice(getattr(phrases, kind))
        texts = (sentence.replace(SUBJECT, first).replace(OTHER, other) for first, other in (said, said[::-1]))
        first, other = (text[0].upper() + text[1:] for text in texts)
        found.append(MinimalPair(user[0].user, kind, both, (first, other)))
    return found


def judge_pairs(pairs: Sequence[MinimalPair], options: Sequence[str], scores: Tensor) -> dict[str, list[float]]:
    """Returns 1 for each pair that is understood, else 0, by measure.

    ``both right``: in both messages the wanted word scores higher than the other; by chance a quarter of the pairs, of
    what reads words without their order none. ``ordered``: the message that asks for a word gives it the larger lead;
    by chance half, of what doesn't read order none.

    `scores` are of all `options` for the first message of each pair, then for the other of each, `(2 P, options)`.
    """
    place = {option: number for number, option in enumerate(options)}
    rows = torch.tensor([[place[word] for word in pair.wanted] for pair in pairs])
    leads = [part.gather(1, rows) for part in scores.chunk(2)]  # of the first word over the other
    first, other = (one[:, 0] - one[:, 1] for one in leads)
    found = {"both right": (first > 0) & (other < 0), "ordered": first > other}
    return {name: values.float().tolist() for name, values in found.items()}


class Words:
    """Numbers of what people say: words, two words in a row, and sentences by a sentence encoder."""

    def __init__(self, messages: Sequence[Sequence[str]], config: Any) -> None:
        self.single, self.double = (_common(messages, grams) for grams in (_words, _pairs))
        scenario = pmg.instantiate(config.scenario)
        self.encoder = pmg.instantiate(config.generator).text_encoder
        self.stated = MessageMatcher(self.encoder, scenario.attributes, scenario.match)

    def __call__(self, messages: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """Returns the numbers of U users by kind, `(U, K)` each."""
        sentences = {text for own in messages for one in own for text in split_sentences(one, self.encoder)}
        known = sorted(sentences)
        vectors = dict(zip(known, embed_texts(self.encoder, known), strict=True)) if known else {}
        width = self.stated.option_vectors.shape[1]
        rows = []
        for own in messages:
            said = [vectors[text] for one in own for text in split_sentences(one, self.encoder)]
            rows.append(torch.stack(said) if said else torch.zeros(1, width))
        return {
            "words": _count(messages, _words, self.single),
            "pairs": _count(messages, _pairs, self.double),
            "sentences": torch.stack([part.mean(0) for part in rows]) * 4,
            "options": torch.stack([(part @ self.stated.option_vectors.T).amax(0) for part in rows]) * 2,
        }

    def latest(self, messages: Sequence[Sequence[str]]) -> Tensor:
        """Returns scores of all options, `(U, options)`: the rule that the latest sentence about an attribute counts.

        A sentence is about the option that it resembles most, from the scenario's cosine on.
        """
        place = {option: number for number, option in enumerate(self.stated.options)}
        scores = torch.zeros(len(messages), len(place))
        for row, own in enumerate(messages):
            for time, text in enumerate(own):
                for option in self.stated([text]):
                    scores[row, place[option]] = 1 + time
        return scores


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _pairs(text: str) -> list[str]:
    return [" ".join(pair) for pair in pairwise(_words(text))]


def _common(messages: Sequence[Sequence[str]], grams: Callable[[str], list[str]]) -> list[str]:
    counts = Counter(gram for own in messages for gram in {one for text in own for one in grams(text)})
    return sorted(gram for gram, count in counts.items() if count >= COMMON)


def _count(messages: Sequence[Sequence[str]], grams: Callable[[str], list[str]], known: Sequence[str]) -> Tensor:
    place, found = {gram: number for number, gram in enumerate(known)}, torch.zeros(len(messages), len(known))
    for row, own in enumerate(messages):
        for gram in (one for text in own for one in grams(text)):
            if gram in place:
                found[row, place[gram]] += 1
    return found.clamp(max=2)


Regression = Callable[[Tensor], Tensor]


def fit_ridges(inputs: Tensor, outputs: Tensor, penalties: Sequence[float] = PENALTIES) -> list[Regression]:
    """Returns a ridge regression for each penalty, in their dual form: fewer users than numbers."""
    mean, middle = inputs.mean(0), outputs.mean(0)
    centred = inputs - mean
    products = centred @ centred.T

    def fit(penalty: float) -> Regression:
        """Returns one of them."""
        dual = torch.linalg.solve(products + penalty * torch.eye(len(centred)), outputs - middle)
        weights = centred.T @ dual
        return lambda others: (others - mean) @ weights + middle

    return [fit(penalty) for penalty in penalties]


KINDS = ((), ("words",), ("words", "pairs"), ("options", "sentences"), ("words", "pairs", "options", "sentences"))
"""What a ridge may read beside the pictures."""


def fit_controls(into: Path, split: str, found: dict[str, Any]) -> None:
    """Fits the controls on training users, chooses each on validation users by channel; writes soft tokens of `split`.

    `found` gets for each channel that it lacks and each control the share of variance that each user's tokens leave
    open, and what was chosen; and how many minimal pairs of messages a control understands.
    """
    train = World("train", "all")
    words = Words(train.messages(), train.config)
    inputs, outputs = {**_pictures(train), **words(train.messages())}, train.accepted()
    described = train.described
    own = [user[0].labels["channel"] for user in train.users]
    variance = (outputs - outputs.mean(0)).square().sum(1).mean()
    found |= {"variance": float(variance), "channels": found.get("channels", {})}
    by_all = {
        kinds: fit_ridges(_join(inputs, ("pictures", "has", *kinds)), outputs) for kinds in track(KINDS, "ridges")
    }
    for channel in CHANNELS:
        chosen, best = None, float("inf")
        (validation,) = _asked("validation", channel)
        seen, exact = {**_pictures(validation), **words(validation.messages())}, validation.exact
        rows = [row for row, name in enumerate(own) if name == channel]
        for kinds in KINDS:
            names = ("pictures", "has", *kinds)
            for users, ridges in (
                (len(own), by_all[kinds]), (len(rows), fit_ridges(_join(inputs, names)[rows], outputs[rows]))
            ):  # fmt: skip
                for penalty, ridge in zip(PENALTIES, ridges, strict=True):
                    error = float((ridge(_join(seen, names)) - exact).square().sum(1).mean() / variance)
                    if error < best:
                        chosen, best = (ridge, names, penalty, users), error
        assert chosen is not None
        ridge, names, penalty, users = chosen
        named = fit_ridges(_join(inputs, names), described, [penalty])[0]
        for world in (world for world in _asked(split, channel) if world.channel not in found["channels"]):
            if split != "validation":
                seen, exact = {**_pictures(world), **words(world.messages())}, world.exact
            tokens = {"ridge": ridge(_join(seen, names)), "mean_style": seen["pictures"]}
            left = {name: ((one - exact).square().sum(1) / variance).tolist() for name, one in tokens.items()}
            scores = {"ridge": named(_join(seen, names)), "matched": words.latest(world.messages())}
            firsts = [user[0] for user in world.users]
            found["channels"][world.channel] = {
                "users": [one.user for one in firsts], "mixed": [one.labels["mixed"] for one in firsts],
                "ridge reads": [*names], "penalty": penalty, "ridge's users": users, "open": left,
                "found": {name: world.found(one) for name, one in scores.items()},
                "macro F1": {name: world.macro_f1(one) for name, one in scores.items()},
            }  # fmt: skip
            pairs = zip(firsts, tokens["ridge"], strict=True)
            stored = {one.profile: row.view(4, -1).contiguous() for one, row in pairs}
            save_file(stored, into / f"ridge-{split}-{world.channel}.safetensors")
            explained = {name: round(1 - float(np.mean(values)), 3) for name, values in left.items()}
            print(world.channel, explained, chosen[1:])
        if channel == "words":
            for kind, pairs in _pairs_of(split).items():
                asked = [[pair.texts[number]] for number in (0, 1) for pair in pairs]
                zero = {"pictures": torch.zeros(len(asked), outputs.shape[1]), "has": torch.zeros(len(asked), 1)}
                scores = {"ridge": named(_join(zero | words(asked), names)), "matched": words.latest(asked)}
                found.setdefault("pairs", {})[kind] = {
                    "users": [pair.user for pair in pairs],
                    "understood": {
                        name: judge_pairs(pairs, list(chain(*train.options())), one) for name, one in scores.items()
                    },
                }


def fit_captions(into: Path, split: str) -> None:
    """Fits style tokens on words of captions by a ridge regression; writes soft tokens of a split's users.

    It reads in what share of the captions of a user's liked pictures each part and each word is. The penalty is chosen
    on validation users.
    """
    train, validation, asked = (World(name, "captions") for name in ("train", "validation", split))
    said = train.captions()
    known = sorted({gram for own in said for caption in own for gram in _caption_grams(caption)})

    def shares(captions: Sequence[Sequence[str]]) -> Tensor:
        """Returns the share of each user's captions that have each part or word, `(U, K)`; 0 for who has none."""
        place, found = {gram: number for number, gram in enumerate(known)}, torch.zeros(len(captions), len(known))
        for row, own in enumerate(captions):
            for gram in (gram for caption in own for gram in _caption_grams(caption) if gram in place):
                found[row, place[gram]] += 1 / len(own)
        return found

    into.mkdir(parents=True, exist_ok=True)
    outputs = train.accepted()
    variance = (outputs - outputs.mean(0)).square().sum(1).mean()
    ridges, seen = fit_ridges(shares(said), outputs, CAPTION_PENALTIES), shares(validation.captions())
    errors = [float((ridge(seen) - validation.exact).square().sum(1).mean() / variance) for ridge in ridges]
    best = errors.index(min(errors))
    tokens = ridges[best](shares(asked.captions()))
    left = float((tokens - asked.exact).square().sum(1).mean() / variance)
    print(
        f"penalty {CAPTION_PENALTIES[best]}: explained {1 - errors[best]:.3f} of validation, {1 - left:.3f} of {split}"
    )
    firsts = [user[0] for user in asked.users]
    stored = {one.profile: row.view(4, -1).contiguous() for one, row in zip(firsts, tokens, strict=True)}
    save_file(stored, into / f"ridge-{split}-captions.safetensors")


def _caption_grams(caption: str) -> set[str]:
    """Returns the parts of a caption and its words."""
    return {*caption_parts(caption), *_words(caption)}


@lru_cache
def _asked(split: str, channel: str) -> list[World]:
    """Returns the users of a split through a channel; of the test's, with free messages and words not their own."""
    more = {"conflict": ("messages",), "split": OF_SPLIT} if split == "test" else {}
    return [World(split, name) for name in (channel, *more.get(channel, ()))]


@lru_cache
def _pairs_of(split: str) -> dict[str, list[MinimalPair]]:
    """Returns the minimal pairs of a split by kind."""
    (world,) = _asked(split, "words")
    return {kind: minimal_pairs(world, kind) for kind in ("pairs", "changes")}


def _pictures(world: World) -> dict[str, Tensor]:
    mean, has = world.clicks()
    return {"pictures": mean, "has": has}


def _join(parts: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    return torch.cat([parts[name] * (2 if name == "pictures" else 1) for name in names], 1)


class SeenOnce:
    """An image store and a tower for it that look up what `World.vectors` saw: a picture is seen once for all readers.

    What the tower is given in place of pixels are numbers of rows.
    """

    are_tokens = True

    def __init__(self, world: World) -> None:
        self.world, self.items = world, dict[int, Item]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world.data.images, name)

    def rows(self, items: Sequence[Item]) -> Tensor:
        """Returns the row numbers of items, `(B,)`."""
        rows = self.world.data.images.rows(items)
        self.items |= zip(rows.tolist(), items, strict=True)
        return rows

    def pixels(self, rows: Tensor) -> Tensor:
        """Returns the rows."""
        return rows

    def __call__(self, rows: Tensor) -> Tensor:
        """Returns the generator's tokens of rows, `(B, n D)`."""
        if rows.dtype != torch.long:  # a blank picture, where nobody has one
            return torch.zeros(len(rows), 1536)
        return self.world.vectors([self.items[row] for row in rows.tolist()])


def read_run(folder: str, split: str, found: dict[str, Any]) -> None:
    """Adds by channel what a reader leaves open of each user's tokens, finds of words said, and its calibration.

    Channels that the run's results are there of are not read again. `found` gets the minimal pairs that it
    understands, too.
    """
    run, name = TrainingRun.open(folder), Path(folder).name
    if found.setdefault("weights", {}).setdefault(name, run.weights) != run.weights:
        raise SystemExit(
            f"{folder} was trained again since it was read; delete explained-{split}.json to read all anew"
        )
    encoder = load_frozen(encoder_class(run.config["preference_encoder"]), run.folder / ENCODER)
    cfg = World(split, "all").config
    places = named_folders(cfg.paths)
    language_model = pmg.instantiate(replace_folders(run.config["language_model"], places))
    writer = HistoryWriter(language_model, pmg.instantiate(cfg.scenario))

    def read(examples: Sequence[Example], world: World) -> tuple[Tensor, Tensor]:
        """Returns soft tokens, `(U, n D)`, and scores of all options, `(U, options)`."""
        items = {one.item.id: "" for example in examples for one in example.history}
        written = WrittenHistories(
            [writer.likes(example, items) for example in examples], language_model, open_cache(cfg.paths.contexts_dir),
            f"channels {run.config['language_model']}", no_pictures,
        )  # fmt: skip
        profiles: Any = [example.profile for example in examples]
        extracted = ExtractedPreferences(profiles, None, {}, {}, written)  # type: ignore[arg-type]
        prepare = pmg.instantiate(replace_folders(run.config["inputs"], places))
        seen: Any = SeenOnce(world)
        inputs = replace(prepare, tower=seen)(extracted, examples, seen)
        answered = encoder.answer(language_model, inputs)
        return encoder.encode(language_model, inputs).flatten(1), torch.cat(answered, 1)

    for world in (world for channel in CHANNELS for world in _asked(split, channel)):
        part = found["channels"][world.channel]
        if name in part["open"]:
            continue
        tokens, scores = read([user[0] for user in world.users], world)
        values = {
            "open": ((tokens - world.exact).square().sum(1) / found["variance"]).tolist(),
            "found": world.found(scores),
            "macro F1": world.macro_f1(scores),
            "calibration": world.calibration(scores),
        }
        for kind, value in values.items():
            part.setdefault(kind, {})[name] = value
        explained, said = 1 - float(np.mean(values["open"])), float(np.nanmean(values["found"]))
        print(f"{folder} {world.channel}: explained {explained:.3f}, words found {said:.3f}", flush=True)
    (world,) = _asked(split, "words")
    for kind, pairs in _pairs_of(split).items():
        if name in found["pairs"][kind]["understood"]:
            continue
        firsts = {user[0].user: user[0] for user in world.users}
        examples = [
            replace(firsts[pair.user], user=f"{pair.user} {kind} {number}", conversation=(Turn(USER, text),))
            for number in (0, 1) for pair in pairs for text in [pair.texts[number]]
        ]  # fmt: skip
        right = judge_pairs(pairs, list(chain(*world.options())), read(examples, world)[1])
        found["pairs"][kind]["understood"][name] = right
        shares = ", ".join(f"{measure} {np.mean(values):.3f}" for measure, values in right.items())
        print(f"{folder} {kind}: {shares}", flush=True)


def main(into: Path, split: str, runs: Sequence[str]) -> None:
    """Fits the controls where they aren't there, and adds the runs; `into` gets `explained-SPLIT.json`."""
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"explained-{split}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    asked = {world.channel for channel in CHANNELS for world in _asked(split, channel)}
    if not asked <= set(found.get("channels", [])) or "pairs" not in found:
        fit_controls(into, split, found)
        found["revision"] = (git_state() or {}).get("revision")
        atomic_write_text(path, json.dumps(found) + "\n")
    for folder in runs:
        read_run(folder, split, found)
        found["runs"] = list(dict.fromkeys([*found.get("runs", []), Path(folder).name]))
        atomic_write_text(path, json.dumps(found) + "\n")
    for kind in KINDS_OF_TABLES:
        table = make_table(found, kind)
        (into / f"{kind}-{split}.md").write_text(f"{table}\n")
        print(table)


def write_untrained(folder: Path, seed: int) -> None:
    """Writes the study's language model with weights drawn anew, and its tokenizer."""
    language_model = pmg.instantiate(World("validation", "all").config.language_model)
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(language_model.model.config).save_pretrained(folder)
    language_model.tokenizer.save_pretrained(folder)


KINDS_OF_TABLES = {
    "open": "explained", "found": "words found", "other": "words of others", "writers": "writers", "shown": "shown",
    "seen": "seen", "pairs": "pairs",
}  # fmt: skip
SEED = re.compile(r"^(encoder=)?(?P<encoder>.*?)[-,](seed=)?\d+$")


def make_table(found: Mapping[str, Any], kind: str) -> str:
    """Returns a table of `KINDS_OF_TABLES`."""
    if kind in ("shown", "seen"):
        return variants_table(found, kind)
    tables = {"other": words_table, "writers": writers_table, "pairs": pairs_table}
    return tables[kind](found) if kind in tables else reader_table(found, kind)


def writers_table(found: Mapping[str, Any]) -> str:
    """Returns the share of words found in free messages, by who wrote them, of the first encoder and each other."""
    head = ["messages of", "people"]
    if "messages" not in found["channels"] or not found.get("runs"):
        return _table([head, ["---", "---:"]])
    part = found["channels"]["messages"]
    rows = {row["user"]: row for row in map(json.loads, MESSAGES.read_text().splitlines())}
    written = [rows[user] for user in part["users"]]
    groups = {"all": [True] * len(written), "who take a wish back": [bool(row["before"]) for row in written]}
    groups["the others"] = [not back for back in groups["who take a wish back"]]
    groups |= {f"writer {number}": [row["writer"] == number for row in written] for number in (0, 1, 2)}
    values, users = _over_seeds(part["found"]), np.array(part["users"])
    ours = _encoder(found["runs"][0])
    others = [name for name in values if name != ours]
    lines = [
        [*head, *values, *(f"{ours} - {name}" for name in others)],
        ["---", *["---:"] * (1 + len(values) + len(others))],
    ]
    for group, chosen in groups.items():
        own = {name: one[chosen] for name, one in values.items()}
        cells = [_compare(own, users[chosen], 1, name, None) for name in values]
        cells += [_compare(own, users[chosen], 1, ours, name) for name in others]
        lines.append([group, str(sum(chosen)), *cells])
    return _table(lines)


def variants_table(found: Mapping[str, Any], kind: str) -> str:
    """Returns what each reader explains, or which words it finds, in ``split`` and in variants of it, and lead."""
    shown = kind == "shown"
    worlds = ["split", *(SHOWN if shown else SEEN)]
    parts = {name: found["channels"][name] for name in worlds if name in found["channels"]}
    kind, sign = ("open", -1) if shown else ("found", 1)
    columns = [(_over_seeds(part[kind]), part["users"], sign) for part in parts.values()]
    lines = [["reader", *parts], ["---", *["---:"] * len(parts)]]
    return _table(lines + [[_title(*pair), *cells] for pair, cells in _compare_readers(found, columns)])


def pairs_table(found: Mapping[str, Any]) -> str:
    """Returns the share of minimal pairs that each reader understands, and the first encoder's lead."""
    columns = {}
    for kind, part in found.get("pairs", {}).items():
        for measure in ("both right", "ordered"):
            runs = {run: one[measure] for run, one in part["understood"].items() if measure in one}
            columns[f"{kind}: {measure}"] = (_over_seeds(runs), part["users"], 1)
    lines = [["reader", *columns], ["---", *["---:"] * len(columns)]]
    rows = _compare_readers(found, list(columns.values()))
    return _table(lines + [[_title(*pair), *cells] for pair, cells in rows])


def words_table(found: Mapping[str, Any]) -> str:
    """Returns what each reader explains in ``split`` from a user's own words, another's, and words in random order."""
    parts = {
        name: _over_seeds(found["channels"][name]["open"]) for name in ("split", *NOT_OWN) if name in found["channels"]
    }
    users = found["channels"]["split"]["users"]
    lines = [["reader", *parts, *(f"split - {name}" for name in NOT_OWN)], ["---", *["---:"] * (len(parts) + 2)]]
    for reader, own in parts["split"].items() if len(parts) > 1 else ():
        pairs = [{"own": own, "other": parts[name][reader]} for name in NOT_OWN]
        lines.append([
            reader, *(_compare(part, users, -1, reader, None) for part in parts.values()),
            *(_compare(pair, users, -1, "own", "other") for pair in pairs),
        ])  # fmt: skip
    return _table(lines)


def reader_table(found: Mapping[str, Any], kind: str) -> str:
    """Returns one row a reader, by channel: explained variance (``open``) or words ``found``, each with its interval.

    Runs of one encoder count as one, with the mean over its seeds for each user. Below them paired differences of the
    first encoder and every other reader. With words found, the macro F1 and the calibration error, means over seeds.
    """
    channels = {name: part for name, part in found["channels"].items() if name not in OF_SPLIT}
    sign = -1 if kind == "open" else 1
    columns = [(_over_seeds(part[kind]), part["users"], sign) for part in channels.values()]
    numbers = {"macro F1": "macro F1", "calibration": "calibration error"} if kind == "found" else {}
    head = ["reader", *channels]
    head += [f"{channel}: {word}" for word in numbers.values() for channel in channels if channel != "pictures"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for (name, other), cells in _compare_readers(found, columns):
        for number in numbers:
            for channel in (one for one in channels if one != "pictures"):
                each = [one for run, one in channels[channel].get(number, {}).items() if _encoder(run) == name]
                cells.append(f"{np.mean(each):.2f}" if each and other is None else "")
        lines.append([_title(name, other), *cells])
    return _table(lines)


Column = tuple[Mapping[str, np.ndarray], Sequence[str], int]
"""Values of each reader, their users, and the sign, see `_compare`."""


def _compare_readers(
    found: Mapping[str, Any], columns: Sequence[Column]
) -> Iterator[tuple[tuple[str, str | None], list[str]]]:
    """Yields a row of cells for each reader, then for the first encoder and each other reader; with their names."""
    names = list(dict.fromkeys(name for values, _, _ in columns for name in values))
    ours = _encoder(found["runs"][0]) if found.get("runs") else None
    leads = [(ours, name) for name in names if name != ours] if ours else []
    for name, other in [*((name, None) for name in names), *leads]:
        yield (name, other), [_compare(values, users, sign, name, other) for values, users, sign in columns]


def _title(name: str, other: str | None) -> str:
    """Returns the title of a row."""
    return name if other is None else f"{name} - {other}"


def _encoder(run: str) -> str:
    """Returns the encoder of a run's folder; of a control its own name."""
    return match["encoder"] if (match := SEED.match(run)) else run


def _over_seeds(runs: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    """Returns each encoder's values of each user, the mean over its runs."""
    names = dict.fromkeys(map(_encoder, runs))
    return {name: np.mean([runs[run] for run in runs if _encoder(run) == name], 0) for name in names}


def _compare(values: Mapping[str, np.ndarray], users: Sequence[str], sign: int, name: str, other: str | None) -> str:
    """Returns a mean with its interval, or that of the paired difference; '' where there is none.

    What is left open (`sign` -1) is shown as what is explained.
    """
    if name not in values or (other is not None and other not in values):
        return ""
    there = ~np.isnan(values[name]) & (True if other is None else ~np.isnan(values[other]))
    if not there.any():
        return ""
    own = np.array(users)[there]
    if other is None:
        mean = interval((1 - values[name] if sign < 0 else values[name])[there], own)
        return f"{mean.mean:.2f} [{mean.low:.2f}, {mean.high:.2f}]"
    pair = paired_difference(sign * values[name][there], sign * values[other][there], own)
    return f"{pair.mean:+.2f} [{pair.low:+.2f}, {pair.high:+.2f}]{_significance(pair.p)}"


def _significance(p: float) -> str:
    return ", p < .001" if p < 0.001 else f", p = {p:.3f}"


NAMES = {
    "stored": "ridge",
    "pooled": "layers over sentence vectors and word embeddings",
    "sentences": "layers over sentence vectors",
    "matched": "mean_style and stated words",
    "soft": "reader",
    "read": "reader's words",
    "pmg": "reader and its words",
}
PAIRS = (
    ("soft", "stored"), ("soft", "sentences"), ("soft", "pooled"), ("soft", "matched"), ("soft", "mean_style"),
    ("pmg", "soft"), ("read", "none"), ("soft", "none"), ("true_words", "none"), ("soft", "true_words"),
)  # fmt: skip


SECOND = ("style_accuracy_second", "concept_accuracy_second", "finish_error_second")  # columns of the second judge


def read_rows(folders: Sequence[Path]) -> pd.DataFrame:
    """Returns the rows of what methods drew, of evaluations ``channel=CHANNEL,seed=SEED``, with their channel."""
    parts = [pd.read_parquet(folder / "rows.parquet").assign(channel=_channel(folder)) for folder in folders]
    rows = pd.concat(parts)
    return rows[~rows["method"].isin(NOT_DRAWN)]


def replace_rows(rows: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Returns rows with new ones in place of those of the same channel, method and seed."""
    drawn = pd.MultiIndex.from_frame(new[ARM])
    rows = pd.concat([rows[~pd.MultiIndex.from_frame(rows[ARM]).isin(drawn)], new])
    return rows.astype(dict.fromkeys(rows.select_dtypes("float64").columns, "float32"))


def add_second_judge(rows: pd.DataFrame, folders: Sequence[Path]) -> pd.DataFrame:
    """Returns recorded rows with the second judge's columns from evaluations with ``metrics=second_judge``."""
    keys = ["channel", "example", "method", "control", "seed"]
    new = read_rows(folders)
    rows = rows.drop(columns=[name for name in SECOND if name in rows])
    return rows.merge(new[[*keys, *SECOND]].astype(dict.fromkeys(SECOND, "float32")), on=keys, how="left")


def drawn_table(rows: pd.DataFrame) -> str:
    """Returns the means of each method's pictures, and paired differences, of evaluations' rows: users' means.

    Methods may have other numbers of targets a user; the pictures of each are counted.
    """
    columns = {"lpips_truth": "LPIPS to truth", "style_accuracy": "style", "concept_accuracy": "concept",
               "finish_error": "finish error"}  # fmt: skip
    judged = [name for name in SECOND if name in rows and rows[name].notna().any()]
    columns |= {name: f"{columns[name.removesuffix('_second')]}, second judge" for name in judged}
    own = rows[rows["control"] == "own"]
    table = own.pivot_table(index="user", columns="method", values=list(columns), dropna=False)
    counts = own["method"].value_counts()
    users = np.array(table.index)
    lines = [["pictures", "number", *columns.values()], ["---", *["---:"] * (1 + len(columns))]]
    drawn = list(table["lpips_truth"])
    for name in drawn:
        means = [table[column][name].mean() for column in columns]
        cells = ["" if np.isnan(mean) else f"{mean:.3f}" for mean in means]  # '': the second judge didn't see them
        lines.append([NAMES.get(name, name), f"{counts[name]:,}", *cells])
    for first, second in (pair for pair in PAIRS if set(pair) <= set(drawn)):
        cells = [f"{NAMES.get(first, first)} - {NAMES.get(second, second)}", ""]
        for column in columns:
            pair = [table[column][name].to_numpy(float) for name in (first, second)]
            if any(np.isnan(part).all() for part in pair):  # one of them wasn't judged
                cells.append("")
                continue
            found = paired_difference(*pair, users)
            cells.append(f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]{_significance(found.p)}")
        lines.append(cells)
    return _table(lines)


CONTROLS = ("stored", "sentences", "pooled", "matched", "mean_style")  # whose pictures the reader's are compared with


@dataclass(frozen=True)
class Endpoint:
    """A primary endpoint: the reader beside the control that comes closest.

    Attributes:
        name: P1 to P4.
        where: users and metric.
        control: the closest.
        difference: the reader's minus its, with the interval.
        p: the largest of all controls', since each has to be beaten.
        right: whether the difference has the right sign.
    """

    name: str
    where: str
    control: str
    difference: str
    p: float
    right: bool

    @classmethod
    def of(cls, name: str, where: str, pairs: Mapping[str, Difference], sign: int = 1) -> Endpoint:
        """Returns the endpoint of differences by control; `sign` -1: lower is better."""
        control, one = min(pairs.items(), key=lambda pair: sign * pair[1].mean)
        text = f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        return cls(name, where, control, text, max(each.p for each in pairs.values()), sign * one.mean > 0)


def find_endpoints(found: Mapping[str, Any], rows: pd.DataFrame, real: str) -> list[Endpoint]:
    """Returns the primary endpoints.

    Args:
        found: of `main`.
        rows: of evaluations, with their ``channel``.
        real: the table of `real_people.py`.
    """

    def drawn(channel: str, column: str, ours: str, others: Sequence[str]) -> dict[str, Difference]:
        """Returns the differences of pictures, by control."""
        part = rows[(rows["channel"] == channel) & (rows["control"] == "own")]
        table = part.pivot_table(index="user", columns="method", values=column)
        values, users = {name: table[name].to_numpy(float) for name in table}, np.array(table.index)
        names = [name for name in others if name in values]
        return {NAMES.get(name, name): paired_difference(values[ours], values[name], users) for name in names}

    def named(channel: str) -> dict[str, Difference]:
        """Returns the differences of words found, by control."""
        part = found["channels"][channel]
        values, users = _over_seeds(part["found"]), np.array(part["users"])
        own = values.pop(_encoder(found["runs"][0]))
        said = ~np.isnan(own)
        return {name: paired_difference(own[said], each[said], users[said]) for name, each in values.items()}

    def liked(control: str) -> Endpoint:
        """Returns the difference of the people's table."""
        match = re.search(rf"\| reader - {control} \| (.*?), p [=<] ([0-9.]+) ", real)
        assert match, f"the table of real people has no {control}"
        return Endpoint("P4", "MovieLens, precision at 3", control, match[1], float(match[2]), match[1][0] == "+")

    return [
        Endpoint.of("P1", "`split`, LPIPS to truth", drawn("split", "lpips_truth", "soft", CONTROLS), -1),
        Endpoint.of("P1", "`split`, style", drawn("split", "style_accuracy", "soft", CONTROLS)),
        *(Endpoint.of("P2", f"`{name}`, words found", named(name)) for name in ("conflict", "messages")),
        Endpoint.of("P3", "`pictures`, LPIPS to truth", drawn("pictures", "lpips_truth", "read", ["counting"]), -1),
        *map(liked, ("popularity", "counting")),
    ]


def endpoints_table(endpoints: Sequence[Endpoint]) -> str:
    """Returns a row an endpoint, with p after Holm's correction."""
    corrected = multipletests([one.p for one in endpoints], method="holm")[1]
    lines = [["endpoint", "where", "closest control", "reader - control", "p (Holm)", "holds"], ["---"] * 6]
    for one, p in zip(endpoints, corrected, strict=True):
        holds = "yes" if one.right and p < 1 - LEVEL else "no"
        lines.append([one.name, one.where, one.control, one.difference, f"{p:.4f}", holds])
    return _table(lines)


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Returns a table, its numbers with a true minus sign."""
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return re.sub(r"(?<=[ \[])-(?=[0-9.])", "\N{MINUS SIGN}", text)


def record(into: Path, split: str, judged: Sequence[Path], second: Sequence[Path]) -> None:
    """Puts the tables into the study's README, and what they are made of beside it.

    `judged` are folders of evaluations, ``channel=CHANNEL,seed=SEED``; `second` are those of the same pictures by the
    second judge.
    """
    study = HERE / "channels"
    text = (into / f"explained-{split}.json").read_text()
    found = json.loads(text, parse_float=lambda number: float(f"{float(number):.7g}"))
    (study / f"explained-{split}.json").write_text(json.dumps(found) + "\n")
    for kind, name in KINDS_OF_TABLES.items():
        fill(study / "README.md", name.replace(" ", "-"), make_table(found, kind))
    rows = pd.read_parquet(study / f"rows-{split}.parquet")
    if judged:
        rows = replace_rows(rows, read_rows(judged))
        sheets = [folder / "contact_sheet.png" for folder in judged if _channel(folder) == "messages"]
        for sheet in sheets[:1]:
            image = Image.open(sheet).convert("RGB")
            image.save(study / "messages.webp", quality=QUALITY)
            crop(image).save(study / OVERVIEW, quality=QUALITY)
    if second:
        rows = add_second_judge(rows, second)
    if judged or second:
        rows.to_parquet(study / f"rows-{split}.parquet", compression="zstd")
    tables = [f"`{channel}`\n\n{drawn_table(part)}" for channel, part in rows.groupby("channel")]
    fill(study / "README.md", "drawn", "\n\n".join(tables))
    real = (HERE / "faithfulness" / "README.md").read_text()
    fill(study / "README.md", "endpoints", endpoints_table(find_endpoints(found, rows, real)))


def _channel(folder: Path) -> str:
    return dict(part.split("=") for part in folder.name.split(","))["channel"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("into", type=Path, help="folder of results and soft tokens")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--runs", nargs="*", default=[], help="folders of pmg-train experiment=channel_encoders")
    parser.add_argument("--plugins", nargs="*", default=[], help="modules whose encoders the runs may have")
    parser.add_argument("--record", action="store_true", help="write the tables into experiments/channels")
    parser.add_argument(
        "--judged", nargs="*", type=Path, default=[], help="folders of evaluations, channel=CHANNEL,seed=SEED"
    )
    parser.add_argument(
        "--second", nargs="*", type=Path, default=[], help="the same of pmg-evaluate metrics=second_judge"
    )
    parser.add_argument(
        "--untrained", type=int, metavar="SEED", help="write a language model that wasn't trained, no more"
    )
    parser.add_argument("--captions", action="store_true", help="fit the ridge regression from captions, no more")
    options = parser.parse_args()
    if options.record and options.split != "test":
        parser.error("the recorded tables are of test users: --record needs --split test")
    if options.untrained is not None:
        write_untrained(options.into / f"untrained{options.untrained}", options.untrained)
        parser.exit()
    if options.captions:
        fit_captions(options.into, options.split)
        parser.exit()
    for name in options.plugins:
        allow_plugin(name)
    main(options.into, options.split, options.runs)
    if options.record:
        record(options.into, options.split, options.judged, options.second)
