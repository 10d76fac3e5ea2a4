"""The scores that selected an image among its candidates, as columns of the results."""

from __future__ import annotations

from pmg.evaluation.metric_interface import MetricInfo
from pmg.generation.records import Record

SELECTION_SCORES = (
    MetricInfo("selection_preference", "d_p", range=(-1.0, 1.0), aspect="preference", selects=True),
    MetricInfo("selection_accuracy", "d_t", range=(-1.0, 1.0), aspect="accuracy", selects=True),
    MetricInfo("selection_z", "z", selects=True),
)


def selection_scores(record: Record) -> dict[str, float]:
    """Returns the scores of the chosen candidate by name; NaN for a preference score that the method has not."""
    chosen = record.chosen
    values = (chosen.preference, chosen.accuracy, chosen.z)
    return {
        info.name: float("nan") if value is None else value
        for info, value in zip(SELECTION_SCORES, values, strict=True)
    }
