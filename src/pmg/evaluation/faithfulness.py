"""Do keywords say what a user goes on to like? Words chosen from an earlier half of a life, judged by the later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import pandas as pd
import torch

from pmg.domain import Item, Keywords, PmgError

AT = 3


def count_words(items: Sequence[Item], vocabulary: Sequence[str]) -> torch.Tensor:
    """How many of `items` carry each word among their keywords, `(V,)`."""
    counts = Counter(word for item in items for word in set(item.keywords))
    return torch.tensor([float(counts[word]) for word in vocabulary])


def most_frequent(counts: torch.Tensor, at: int = AT) -> torch.Tensor:
    """Which words are among the `at` most frequent; those that tie with the last belong to them; bool `(V,)`."""
    least = counts.topk(min(at, len(counts))).values[-1]
    return (counts >= least) & (counts > 0)


def agreement(chosen: Keywords, later: Sequence[Item], vocabulary: Sequence[str], at: int = AT) -> dict[str, float]:
    """Agreement of ranked keywords with what a user liked later.

    Args:
        chosen: best first; words outside of the vocabulary count as wrong.
        later: what they liked later.
        vocabulary: V words.
        at: so many keywords are looked at.

    Returns:
        ``precision_at_3``: share of the first three that are among the three most frequent words of `later`;
        ``ndcg_at_3``: their order, a word's gain being how many of `later` carry it.

    Raises:
        PmgError: nothing that was liked later carries a word of the vocabulary.
    """
    counts = count_words(later, vocabulary)
    if not counts.any():
        raise PmgError("what was liked later carries no word of the vocabulary")
    count = dict(zip(vocabulary, counts.tolist(), strict=True))
    frequent = dict(zip(vocabulary, most_frequent(counts, at).tolist(), strict=True))
    gains = torch.tensor([count.get(word, 0.0) for word in chosen.words[:at]])
    hits = sum(frequent.get(word, False) for word in chosen.words[:at])
    return {
        f"precision_at_{at}": hits / at,
        f"ndcg_at_{at}": dcg(gains) / dcg(counts.sort(descending=True).values[:at]),
    }


def dcg(gains: torch.Tensor) -> float:
    """Discounted cumulative gain of `gains` `(K,)`, best first (Järvelin & Kekäläinen 2002)."""
    return float((gains / torch.arange(2, len(gains) + 2).log2()).sum())


def agreement_rows(
    methods: Mapping[str, Mapping[str, Keywords]],
    others: Mapping[str, str],
    later: Mapping[str, Sequence[Item]],
    vocabulary: Sequence[str],
    seed: int,
    impersonal: Collection[str] = (),
) -> pd.DataFrame:
    """Every method's agreement for every user, by their own keywords and by another user's.

    Args:
        methods: keywords by user, by method.
        others: another user for each user.
        later: what each user liked later.
        vocabulary: words that count.
        seed: for the rows.
        impersonal: methods that say the same of everybody: nothing to swap.

    Returns:
        Rows as `pmg.evaluation.report.build_results` takes them.
    """
    rows = []
    for method, keywords in methods.items():
        for control in ("own",) if method in impersonal else ("own", "mismatched"):
            for user, items in later.items():
                chosen = keywords[user if control == "own" else others[user]]
                rows.append(
                    {"example": user, "user": user, "kind": "real", "method": method, "control": control, "seed": seed}
                    | agreement(chosen, items, vocabulary)
                )
    return pd.DataFrame(rows)
