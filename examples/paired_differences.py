"""Compare two methods over users.

The recorded rows of a study, one for each image, become paired differences with a bootstrap interval over users
and the p-value of a permutation test. `rows.parquet` of every run and study has this form.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from pmg.evaluation.statistics import paired_difference

PAIRS = (("keywords", "none"), ("soft", "none"), ("pmg_paper", "keywords"), ("pmg_paper", "soft"))


def main(folder: Path = Path("outputs/examples")) -> None:
    """Prints the differences of LPIPS to the truth and writes them as ``paired_differences.png``."""
    rows = pd.read_parquet("experiments/components/rows.parquet")
    own = rows[rows.control != "mismatched"]
    table = own.pivot(index=["user", "example", "seed"], columns="method", values="lpips_truth").reset_index()
    figure, axes = plt.subplots(figsize=(6, 2.2), layout="constrained")
    for place, (method, other) in enumerate(PAIRS):
        users = table.user.astype("category").cat.codes.to_numpy()
        found = paired_difference(table[method].to_numpy(), table[other].to_numpy(), users)
        print(f"{method} - {other}: {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], p = {found.p:.3f}")
        axes.errorbar(
            found.mean, place, xerr=[[found.mean - found.low], [found.high - found.mean]], fmt="o", color="C0"
        )
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_yticks(range(len(PAIRS)), [f"{method} − {other}" for method, other in PAIRS])
    axes.invert_yaxis()
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("difference of LPIPS to truth (negative: the first is better)")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "paired_differences.png", dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
