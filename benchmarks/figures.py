"""Figures of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

SHOWN = 4  # parts of what lies outside kernels that have a colour of their own


def draw_growth(curves: Mapping[str, Mapping], units: Mapping[str, str], path: Path) -> None:
    """A panel a curve: what was measured, and linear growth from its first point."""
    figure, axes = plt.subplots(1, len(curves), figsize=(3.1 * len(curves), 3.2))
    for axis, (name, curve) in zip(axes, curves.items(), strict=True):
        sizes, costs = np.array(curve["sizes"]), np.array(curve["costs"])
        axis.plot(sizes, costs, "o-", color="C0", label="measured")
        if name == "memory":
            axis.set(ylabel="peak memory, MiB", title="memory")
            axis.axhline(costs[0], color="0.6", linestyle="--", label="flat")
        else:
            axis.set(ylabel="seconds", title=f"{name}: exponent {curve['exponent']:.2f}")
            axis.plot(sizes, costs[0] * sizes / sizes[0], color="0.6", linestyle="--", label="linear")
        axis.set_xlabel(units[name])
        axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="lower right" if name == "memory" else "upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_shares(steps: Mapping[str, Mapping], path: Path) -> None:
    """A bar a step: kernels in colours, all else in greys."""
    figure, axes = plt.subplots(len(steps), 1, figsize=(9, 1.9 * len(steps)))
    for axis, (name, step) in zip(axes, steps.items(), strict=True):
        named = dict(list(step["others"].items())[:SHOWN])
        rest = {"the rest": max(0.0, step["outside"] - sum(named.values()))}
        left = 0.0
        colours = [*(f"C{n}" for n in range(len(step["kernels"]))), *map(str, np.linspace(0.35, 0.9, SHOWN + 1))]
        parts = {**step["kernels"], **named, **rest}
        for (label, share), colour in zip(parts.items(), colours, strict=False):
            axis.barh(0, share, left=left, color=colour, edgecolor="white", label=f"{label} {share:.0%}")
            left += share
        axis.set(xticks=[], yticks=[], xlim=(0, 1), title=f"{name}: {step['outside']:.1%} outside of kernels")
        axis.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.02), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
