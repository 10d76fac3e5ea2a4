"""Measures how well keywords extracted from earlier interactions predict later likes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import pandas as pd
import torch

from pmg.domain import Example, Item, Keywords, PmgError
from pmg.evaluation.metric_interface import MetricInfo

AT = 3
METRICS = (
    MetricInfo(f"precision_at_{AT}", f"precision at {AT}", range=(0.0, 1.0)),
    MetricInfo(f"ndcg_at_{AT}", f"nDCG at {AT}", range=(0.0, 1.0)),
)


def count_words(items: Sequence[Item], vocabulary: Sequence[str]) -> torch.Tensor:
    """Returns how many of `items` have each word among their keywords, `(V,)`."""
    counts = Counter(word for item in items for word in set(item.keywords))
    return torch.tensor([float(counts[word]) for word in vocabulary])


def with_words(examples: Sequence[Example], vocabulary: Sequence[str]) -> list[Example]:
    """Returns the examples of users whose later likes, their truth, have a word of the vocabulary."""
    return [example for example in examples if count_words(example.truth, vocabulary).any()]


def agreement(chosen: Keywords, later: Sequence[Item], vocabulary: Sequence[str]) -> dict[str, float]:
    """Computes the agreement of keywords, best first, with the items that a user liked later.

    ``precision_at_3`` is the share of the first three that are among the three most frequent words of `later`,
    ``ndcg_at_3`` their order, a word's gain being how many of `later` have it. Words outside of the vocabulary count
    as wrong. PmgError if no later item has a word of the vocabulary.
    """
    counts = count_words(later, vocabulary)
    if not counts.any():
        raise PmgError("nothing that was liked later has a keyword of the vocabulary. Choose another attribute")
    count = dict(zip(vocabulary, counts.tolist(), strict=True))
    least = max(1.0, float(counts.topk(min(AT, len(counts))).values[-1]))
    gains = torch.tensor([count.get(word, 0.0) for word in chosen.words[:AT]])
    hits = int((gains >= least).sum())  # ties included
    return {
        f"precision_at_{AT}": hits / AT,
        f"ndcg_at_{AT}": dcg(gains) / dcg(counts.sort(descending=True).values[:AT]),
    }


def dcg(gains: torch.Tensor) -> float:
    """Returns the discounted cumulative gain of `gains` `(K,)`, best first (Järvelin & Kekäläinen 2002)."""
    return float((gains / torch.arange(2, len(gains) + 2).log2()).sum())


def agreement_rows(
    methods: Mapping[str, Mapping[str, Keywords]], others: Mapping[str, str], later: Mapping[str, Sequence[Item]],
    vocabulary: Sequence[str], seed: int, impersonal: Collection[str] = (),
) -> pd.DataFrame:  # fmt: skip
    """Returns rows for `ResultBuilder`: each method's agreement for each user, by their own keywords and another's.

    `methods` are keywords by user, by method; those of `impersonal` ones are the same for all users, and not swapped.
    """
    rows = []
    for method, keywords in methods.items():
        for control in ("own",) if method in impersonal else ("own", "mismatched"):
            for user, items in later.items():
                chosen = keywords[user if control == "own" else others[user]]
                rows.append(
                    {"example": user, "user": user, "method": method, "control": control, "seed": seed}
                    | agreement(chosen, items, vocabulary)
                )
    return pd.DataFrame(rows)
