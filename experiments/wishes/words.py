"""What is named of written messages: by the rule, by a trained reader, and by the simplest that might explain it.

``python -m experiments.wishes.words --messages validation`` writes ``words-validation.json`` and prints a table.
Each reader names an option of some attributes; that nothing was said is an answer.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from experiments.wishes.messages import HERE, Written, agreement, read_messages
from experiments.wishes.scenes import SPLITS, USERS_SEED
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

import pmg
from pmg import PersonalizedPipeline
from pmg.api.call_arguments import with_pictures
from pmg.evaluation.statistics import bootstrap_users, limits
from pmg.preferences.stated import embed_texts, own_messages, split_sentences

NOTHING = "nothing"
TRAINING = ("data=look_chats", "scenario=look_chats", "data.conversations.brief=0.5", "data.looks.users.train=4800")
Named = Mapping[str, str]  # an option by attribute


def main() -> None:
    """Reads the messages by each reader and writes what was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", choices=("validation", "test"), required=True)
    split = parser.parse_args().messages
    config = pmg.compose("generate", [*TRAINING, "run_dir=unused"])
    options = {name: list(one.options) for name, one in config.scenario.attributes.items()}
    rows = read_messages(split, options)
    read = dict(list_readers(config, options, split))
    found, seconds = {}, {}
    for name, reader in read.items():
        start = time.perf_counter()
        found[name] = reader(rows)
        seconds[name] = (time.perf_counter() - start) / len(rows)
    kappa, shared = agreement(rows, list(options))
    tables = {name: measure(rows, named) for name, named in found.items()}
    print(f"{len(rows)} messages; kappa {kappa:.2f}, options shared {shared:.2f}\n{to_table(tables)}")
    result = {
        "messages": len(rows), "kappa": kappa, "options_shared": shared, "measured": tables, "seconds": seconds,
        "named": {name: {row.id: one for row, one in zip(rows, each, strict=True)} for name, each in found.items()},
    }  # fmt: skip
    (HERE / f"words-{split}.json").write_text(json.dumps(result, indent=1))


def list_readers(
    config: Any, options: Mapping[str, Sequence[str]], split: str
) -> Iterator[tuple[str, Callable[[Sequence[Written]], list[Named]]]]:
    """Yields readers by their names."""
    texts, wanted = read_training(config, options)
    counted = Counter((name, option) for one in wanted for name, option in one.items())
    (attribute, option), _ = counted.most_common(1)[0]
    yield "commonest", lambda rows: [{attribute: option} for _ in rows]
    grams = make_union(
        TfidfVectorizer(ngram_range=(1, 3), sublinear_tf=True, min_df=2),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=3),
    )
    yield "tf-idf", train(make_pipeline(grams), texts, wanted, options)
    pipe = PersonalizedPipeline.from_pretrained("assets/pipeline", "cpu")
    encoder = pipe.pipeline.generator.text_encoder

    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.stack(
            [embed_texts(encoder, split_sentences(one, encoder) or [one]).mean(0).numpy() for one in texts]
        )

    yield "sentence vectors", train(embed, texts, wanted, options)
    owner = {option: name for name, each in options.items() for option in each}
    histories = read_histories(split)
    for label, method in (("trained reader", "pmg_read"), ("rule", "pmg")):
        yield (
            label,
            lambda rows, method=method: [
                {owner[word]: word for word in read(pipe, histories[row.scene], row, method) if word in owner}
                for row in rows
            ],
        )


def read(pipe: PersonalizedPipeline, history: list[dict[str, Any]], row: Written, method: str) -> Sequence[str]:
    """Returns the keywords that a method finds."""
    said = [("user", message) for message in row.messages]
    preference = pipe.extract_preference(history, conversation=said, method=method)
    return (preference.sources.read(preference.method.keywords, preference.example.target)).words


def read_histories(split: str) -> dict[str, list[dict[str, Any]]]:
    """Returns the four liked pictures of each scene."""
    config = pmg.compose("generate", [f"data.users.seed={USERS_SEED}", "data.users.targets=1", "data.users.several=0"])
    data = pmg.instantiate(config.data)
    examples = data.examples(split, SPLITS[split])
    return {
        f"{split}-{number:03d}": with_pictures([one.item for one in example.history][-4:], data.images)
        for number, example in enumerate(examples)
    }


def read_training(config: Any, options: Mapping[str, Sequence[str]]) -> tuple[list[str], list[Named]]:
    """Returns what simulated training users say, and which option of each attribute they speak of they like."""
    owner = {option: name for name, each in options.items() for option in each}
    texts, wanted = [], []
    for example in pmg.instantiate(config.data).examples("train", 4800, 1):
        said = own_messages(example.conversation)
        likes = [word for word in example.labels["said_likes"].split(", ") if word]
        if said:
            texts.append("\n".join(said))
            wanted.append({owner[word]: word for word in likes})
    return texts, wanted


def train(
    features: Any, texts: Sequence[str], wanted: Sequence[Named], options: Mapping[str, Sequence[str]]
) -> Callable[[Sequence[Written]], list[Named]]:
    """Returns a reader: an attribute a logistic regression over features of all messages, `NOTHING` is a class."""
    own = features if callable(features) else features.fit(texts).transform
    vectors, models = own(texts), {}
    for name in options:
        labels = [one.get(name, NOTHING) for one in wanted]
        models[name] = LogisticRegression(C=10, max_iter=300).fit(vectors, labels)

    def reader(rows: Sequence[Written]) -> list[Named]:
        vectors = own(["\n".join(row.messages) for row in rows])
        guessed = {name: model.predict(vectors) for name, model in models.items()}
        return [
            {name: str(each[place]) for name, each in guessed.items() if each[place] != NOTHING}
            for place in range(len(rows))
        ]

    return reader


def measure(rows: Sequence[Written], named: Sequence[Named]) -> dict[str, Any]:
    """Returns recall, precision and F1 of named options with intervals over scenes, and by kind and language."""
    parts = {"all": rows}
    parts |= {kind: [row for row in rows if row.kind == kind] for kind in sorted({row.kind for row in rows})}
    parts |= {"English": [row for row in rows if row.language == "en"]}
    parts |= {"other languages": [row for row in rows if row.language != "en"]}
    by_id = {row.id: one for row, one in zip(rows, named, strict=True)}
    return {name: _measure_part(part, by_id) for name, part in parts.items()}


def _measure_part(rows: Sequence[Written], named: Mapping[str, Named]) -> dict[str, Any]:
    counts: dict[str, np.ndarray] = {}
    for row in rows:
        own, asked = named[row.id], row.asked
        hits = [row.allows(name, option) for name, option in own.items()]
        found = [name in own and row.allows(name, own[name]) for name in asked]
        one = np.array([len(own), sum(hits), len(asked), sum(found), not asked, not asked and bool(own)], dtype=float)
        counts[row.scene] = counts.get(row.scene, 0) + one
    columns = np.stack(list(counts.values()))
    samples = np.vstack([columns.mean(0), bootstrap_users(columns, 0)])
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = samples[:, 3] / samples[:, 2], samples[:, 1] / samples[:, 0]
        values = {
            "recall": recall, "precision": precision, "f1": 2 * recall * precision / (recall + precision),
            "named": samples[:, 0] * len(columns) / len(rows), "changed": samples[:, 5] / samples[:, 4],
        }  # fmt: skip
    return {"n": len(rows)} | {
        name: [float(each[0]), *limits(each[1:][np.isfinite(each[1:])])] if np.isfinite(each[0]) else None
        for name, each in values.items()
    }


def to_table(tables: Mapping[str, Any]) -> str:
    """Returns a table of all parts and readers."""
    lines = [
        "| messages | reader | recall | precision | F1 | named | changed without a wish |",
        "|---|---|" + "---:|" * 5,
    ]
    for part in next(iter(tables.values())):
        for reader, table in tables.items():
            one = table[part]
            cells = [
                "–" if one[name] is None else f"{one[name][0]:.2f} [{one[name][1]:.2f}, {one[name][2]:.2f}]"
                for name in ("recall", "precision", "f1", "named", "changed")
            ]
            lines.append(f"| {part} ({one['n']}) | {reader} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
