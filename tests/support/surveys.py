"""A small survey of made-up images, and simulated answers to it."""

from __future__ import annotations

import random

import torch

from pmg.domain import Example, Interaction, Item
from pmg.records.storage import Candidate, Record
from pmg.studio.survey.materials import build_content
from pmg.studio.survey.schema import SurveyDesignConfig, Texts

METHODS = ("method_zeta", "method_eta", "method_theta")
EVIL = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title='broken'\">"
TEXTS = Texts(
    "Which picture?", ["Please read this."], "Which would you send?", "Does it show {target}?", "Does it fit?"
)


class Images:
    """A store of plain images, each of a colour of its own."""

    size = 16

    def has(self, item):
        return True

    def rows(self, items):
        return torch.tensor([int(item.id.removeprefix("liked")) for item in items])

    def pixels(self, rows):
        return torch.stack([torch.full((3, 16, 16), float(row % 7) / 7) for row in rows])


def make_survey(items=7, raters=6, pairs=6, ratings=3, checks=3, seed=0, evil=False):
    """Returns content and key."""
    liked = tuple(Interaction(Item(f"liked{number}", "liked", EVIL)) for number in range(3))
    examples = [
        Example(
            f"secret{number}",
            f"user{number}",
            liked,
            Item(f"t{number}", "c", EVIL if evil else f"rocket {number}"),
            (),
        )
        for number in range(items)
    ]
    candidate = (Candidate(1.0, 1.0, 0.1, 0.2, 0.3),)
    chosen = {
        example.id: {
            name: Record(example.id, example.user, name, "own", example.user, 0, candidate) for name in METHODS
        }
        for example in examples
    }
    keys = [record.key for methods in chosen.values() for record in methods.values()]
    images = {
        key: torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(n)) * 2 - 1 for n, key in enumerate(keys)
    }
    size = SurveyDesignConfig(items, raters, pairs, ratings, checks)
    return build_content(chosen, examples, Images(), images, size, TEXTS, seed=seed)


def code(number):
    """Returns a rater's code."""
    return f"{number:032x}"


def answer(key, slot, best=METHODS[0], clicker=False, rng=None):
    """Returns the answers of a rater who prefers `best`, or of one who clicks at random."""
    rng, found = rng or random.Random(slot), []
    for number, (kind, _, codes, *expected) in enumerate(key["plans"][slot]):
        methods = [key["images"][each]["method"] for each in codes]
        if kind == "rating":
            value = {"accuracy": rng.randint(1, 5), "preference": 5 if methods[0] == best else rng.randint(1, 4)}
        elif clicker:
            value = rng.choice(["left", "right", "tie"])
        elif kind == "check":
            value = expected[0]
        elif rng.random() < 0.2:
            value = rng.choice(["left", "right", "tie"])
        else:
            value = "left" if methods[0] == best or (methods[1] != best and rng.random() < 0.5) else "right"
        found.append({"task": number, "value": value, "seconds": 2.5})
    return {"survey": key["survey"], "rater": code(slot), "slot": slot, "consent": True, "answers": found}
