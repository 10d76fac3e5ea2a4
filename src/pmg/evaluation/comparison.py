"""The methods that others are compared with, and the order of methods in tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pmg.configuration.instantiate import nearest

RECONSTRUCTION = "vae_reconstruction"
TRUTH = "truth"


@dataclass(frozen=True)
class Comparison:
    """The methods that all others are compared with."""

    baseline: str = "none"  # the method to improve on
    oracle: str = "oracle"  # the method with the true taste, which bounds what a preference can reach
    proposed: str = "pmg_paper"  # the method under study
    # name of the metric for the share of the gap from baseline to oracle that a method closes
    gap_metric: str = "lpips_truth"
    references: tuple[str, ...] = (RECONSTRUCTION, TRUTH)  # methods that no model personalised, out of competition

    def competes(self, method: str) -> bool:
        """Returns whether a method can be the best of a table."""
        return method not in (self.oracle, *self.references)

    def order(self, methods: Iterable[str]) -> list[str]:
        """Returns methods as tables show them: baseline, the others as they appear, proposed, oracle, references."""
        last = {name: place for place, name in enumerate((self.proposed, self.oracle, *self.references), start=1)}
        return sorted(methods, key=lambda method: -1 if method == self.baseline else last.get(method, 0))

    def pairs(self, methods: Sequence[str]) -> list[tuple[str, str]]:
        """Returns pairs of methods: every one with the baseline, then the proposed one with every other."""
        real = [method for method in methods if method not in self.references]
        with_baseline = [
            (method, self.baseline) for method in real if method != self.baseline and self.baseline in real
        ]
        ends = (self.proposed, self.baseline)
        with_others = [(self.proposed, method) for method in real if method not in ends and self.proposed in real]
        return with_baseline + with_others

    def unknown(self, methods: Collection[str], metrics: Collection[str]) -> list[str]:
        """Returns a message for each name that was set to no method or metric of an evaluation.

        Names that an evaluation has only with further methods or metrics are the defaults, and no mistakes.
        """
        given = {"baseline": methods, "oracle": methods, "proposed": methods, "gap_metric": metrics}
        default, ours = Comparison().as_dict(), self.as_dict()
        return [
            f"comparison.{key}={ours[key]}: there is no such {'metric' if known is metrics else 'method'}"
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
