"""The answers of a survey as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pmg.studio.survey.answers import RaterAnswers, check_answer

RATINGS = ("accuracy_rating", "preference_rating")
SCORES = {"left": 1.0, "tie": 0.5, "right": 0.0}
COLUMNS = {
    "pairs": ["rater", "example", "left", "right", "score"], "ratings": ["rater", "example", "method", *RATINGS],
    "checks": ["rater", "example", "passed"], "seconds": ["rater", "example", "seconds"],
}  # fmt: skip


@dataclass(frozen=True)
class Observations:
    """Answers as tables with the columns `COLUMNS`, a row each, practice left out.

    ``left`` and ``right`` of `pairs` are methods, ``score`` is the left image's: 1, 0.5 or 0.
    """

    pairs: pd.DataFrame
    ratings: pd.DataFrame
    checks: pd.DataFrame
    seconds: pd.DataFrame

    def without(self, raters: Sequence[str]) -> Observations:
        """Returns the observations of all other raters."""
        return Observations(*(table[~table["rater"].isin(raters)] for table in vars(self).values()))

    @property
    def rows(self) -> pd.DataFrame:
        """One row an image and answer, with the columns of results: ``example, user, method, control, seed``."""
        left = self.pairs.rename(columns={"left": "method", "right": "opponent", "score": "win_rate"})
        right = self.pairs.rename(columns={"right": "method", "left": "opponent"})
        right = right.assign(win_rate=1 - right["score"]).drop(columns="score")
        rows = pd.concat([left, right, self.ratings], ignore_index=True).rename(columns={"rater": "user"})
        return rows.assign(control="own", seed=0)


def observe(answers: Sequence[RaterAnswers], key: Mapping[str, Any]) -> Observations:
    """Returns the answers as tables, those to practice tasks left out; PmgError if one doesn't fit the survey."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
    for rater in answers:
        plan = key["plans"][rater.slot % len(key["plans"])]
        for answer in rater.answers:
            check_answer(answer, plan)
            kind, item, codes, *expected = plan[answer.task]
            made = [key["images"][code]["method"] for code in codes]
            row = {"rater": rater.rater, "example": key["items"][item]}
            if kind == "check":
                found["checks"].append({**row, "passed": answer.value == expected[0]})
            elif kind == "pair":
                found["pairs"].append({**row, "left": made[0], "right": made[1], "score": SCORES[str(answer.value)]})
            elif kind == "rating":
                grades = answer.model_dump()["value"]
                rated = {name: float(grades[name.removesuffix("_rating")]) for name in RATINGS}
                found["ratings"].append({**row, "method": made[0], **rated})
            if kind != "practice":
                found["seconds"].append({**row, "seconds": answer.seconds})
    return Observations(**{name: pd.DataFrame(found[name], columns=columns) for name, columns in COLUMNS.items()})
