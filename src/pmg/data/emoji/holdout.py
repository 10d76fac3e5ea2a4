"""Held-out (concept, style) cells, and the check that no split leaks into another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pmg.data.emoji.tastes import Taste
from pmg.domain import Example, Item, PmgError
from pmg.seeding import stable_number


@dataclass(frozen=True)
class HeldOut:
    """For each concept one taste whose images no training uses.

    Attributes:
        tastes: the held-out taste, by concept.
        validation: concepts whose held-out images are for validation; the others are for testing.
    """

    tastes: Mapping[str, Taste]
    validation: frozenset[str]

    def covers(self, concept: str, style: str) -> bool:
        """Returns whether the (concept, style) cell is held out."""
        return style in self.tastes[concept].styles

    def concepts(self, taste: Taste, split: str) -> list[str]:
        """Returns the concepts where `taste` is held out for `split` (``validation`` or ``test``), sorted."""
        wanted = split == "validation"
        return sorted(c for c, t in self.tastes.items() if t == taste and (c in self.validation) == wanted)


def hold_out(concepts: Sequence[str], tastes: Sequence[Taste], seed: int, validation_share: float = 0.25) -> HeldOut:
    """Returns a held-out taste for each concept, about the same number of each.

    A hash of the concept decides: which other concepts a configuration uses moves no cell.
    """
    chosen = {concept: tastes[stable_number(seed, "taste", concept) % len(tastes)] for concept in concepts}
    share = {concept: stable_number(seed, "validation", concept) % 1000 / 1000 for concept in concepts}
    return HeldOut(chosen, frozenset(concept for concept in concepts if share[concept] < validation_share))


def training_items(items: Iterable[Item], style: Mapping[str, str], held_out: HeldOut) -> list[Item]:
    """Returns the items whose images training may use."""
    return [item for item in items if not held_out.covers(item.concept, style[item.id])]


def check_leaks(splits: Mapping[str, Sequence[Example]], style: Mapping[str, str], held_out: HeldOut) -> None:
    """Checks that no split leaks into another.

    Raises:
        PmgError: a user in two splits, a held-out image in a history or a training truth, a test truth that is not
            held out, or a target whose concept is in the history.
    """
    owner: dict[str, str] = {}
    for split, examples in splits.items():
        for example in examples:
            if owner.setdefault(example.user, split) != split:
                raise PmgError(f"leak: user {example.user} is in '{owner[example.user]}' and in '{split}'")
            _check_example(split, example, style, held_out)


def _check_example(split: str, example: Example, style: Mapping[str, str], held_out: HeldOut) -> None:
    used = [interaction.item for interaction in example.history]
    if any(held_out.covers(item.concept, style[item.id]) for item in used):
        raise PmgError(f"leak: the history of {split} example {example.id} holds a held-out drawing")
    if any(item.concept == example.target.concept for item in used):
        raise PmgError(f"leak: {split} example {example.id} has a target whose concept is in its history")
    hidden = [held_out.covers(item.concept, style[item.id]) for item in example.truth]
    if split == "train" and any(hidden):
        raise PmgError(f"leak: training example {example.id} has a held-out drawing as its truth")
    if split != "train" and not all(hidden):
        raise PmgError(f"leak: a truth of {split} example {example.id} was seen in training")
    if split != "train" and (example.target.concept in held_out.validation) != (split == "validation"):
        raise PmgError(f"leak: {split} example {example.id} uses the other split's held-out concept")
