"""How much of the generator's own tokens of a look each reader of clicks and words explains, by channel.

python -m experiments.channels.run outputs/channels --split validation
python -m experiments.channels.run outputs/channels --runs outputs/studies/channel_encoders/encoder=reader,*
python -m experiments.channels.run outputs/channels --untrained 1  # outputs/channels/untrained1, a language model
python -m experiments.channels.run outputs/channels --captions --split test  # a ridge from captions' words

First it fits the controls, which need no language model: the mean of pictures' tokens, and ridge regressions, whose
soft tokens are kept in files that `method=stored` draws. What a ridge is made of is chosen on validation users.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.channels.tables import KINDS_OF_TABLES, make_table, record
from experiments.channels.users import OF_SPLIT, MinimalPair, World, judge_pairs, minimal_pairs
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

import pmg
from pmg.cache import atomic_write_text, open_cache
from pmg.configuration.masked_folders import named_folders
from pmg.configuration.targets import allow_plugin
from pmg.data.chats import USER
from pmg.domain import Example, Item, Turn
from pmg.looks.chat_dataset import CHANNELS
from pmg.models.loading.weight_sources import load_frozen
from pmg.preferences.contexts import WrittenHistories, no_pictures
from pmg.preferences.extraction import ExtractedPreferences, HistoryWriter
from pmg.preferences.keyword_sources import caption_parts
from pmg.preferences.stated import MessageMatcher, embed_texts, split_sentences
from pmg.runs.finished_training import TrainingRun
from pmg.runs.provenance import git_state
from pmg.runs.run_folder import ENCODER, replace_folders
from pmg.training.token_sources import encoder_class

WORD = re.compile(r"[a-z0-9']+")
PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0)
CAPTION_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
COMMON = 3  # users who have to say a word, or two words in a row, for a weight of its own


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
            stored = {
                one.profile: row.view(4, -1).contiguous() for one, row in zip(firsts, tokens["ridge"], strict=True)
            }
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
    """An image store and its image encoder that look up what `World.vectors` saw: each picture is seen once.

    What the image encoder is given in place of pixels are numbers of rows.
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
        inputs = replace(prepare, image_encoder=seen)(extracted, examples, seen)
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
