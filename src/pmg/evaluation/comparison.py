"""The arms that others are compared with, and the order of arms in tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pmg.configuration.instantiate import nearest

RECONSTRUCTION = "vae_reconstruction"
TRUTH = "truth"


@dataclass(frozen=True)
class Comparison:
    """The arms that all others are compared with."""

    baseline: str = "none"  # the arm to improve on
    oracle: str = "oracle"  # the arm with the true taste, which bounds what a preference can reach
    proposed: str = "pmg_paper"  # the method under study
    # name of the metric for the share of the gap from baseline to oracle that an arm closes
    gap_metric: str = "lpips_truth"
    references: tuple[str, ...] = (RECONSTRUCTION, TRUTH)  # arms that no model personalised, out of competition

    def competes(self, arm: str) -> bool:
        """Returns whether an arm can be the best of a table."""
        return arm not in (self.oracle, *self.references)

    def order(self, arms: Iterable[str]) -> list[str]:
        """Returns arms as tables show them: baseline, the others as they appear, proposed, oracle, references."""
        last = {name: place for place, name in enumerate((self.proposed, self.oracle, *self.references), start=1)}
        return sorted(arms, key=lambda arm: -1 if arm == self.baseline else last.get(arm, 0))

    def pairs(self, arms: Sequence[str]) -> list[tuple[str, str]]:
        """Returns pairs of arms: every one with the baseline, then the proposed one with every other."""
        real = [arm for arm in arms if arm not in self.references]
        with_baseline = [(arm, self.baseline) for arm in real if arm != self.baseline and self.baseline in real]
        ends = (self.proposed, self.baseline)
        with_others = [(self.proposed, arm) for arm in real if arm not in ends and self.proposed in real]
        return with_baseline + with_others

    def unknown(self, arms: Collection[str], metrics: Collection[str]) -> list[str]:
        """Returns a message for each name that was set to no arm or metric of an evaluation.

        Names that an evaluation has only with further methods or metrics are the defaults, and no mistakes.
        """
        given = {"baseline": arms, "oracle": arms, "proposed": arms, "gap_metric": metrics}
        default, ours = Comparison().as_dict(), self.as_dict()
        return [
            f"comparison.{key}={ours[key]}: there is no such {'metric' if known is metrics else 'arm'}"
            f"{nearest(ours[key], known)} (known: {', '.join(sorted(known))})"
            for key, known in given.items()
            if ours[key] != default[key] and ours[key] not in known
        ]

    def as_dict(self) -> dict[str, Any]:
        """Returns the section ``comparison`` of ``results.json``."""
        return {**asdict(self), "references": list(self.references)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Comparison:
        """Returns what `as_dict` wrote."""
        return cls(**{**values, "references": tuple(values["references"])})
