"""What each study varies, and which of its methods are reported: experiments/report.py reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LINE_ART = ("emojione-monotone", "fluent-emoji-high-contrast", "noto-line", "openmoji-black")  # sets without fills


@dataclass(frozen=True)
class Study:
    """How a study is reported.

    Attributes:
        factors: what it varies: dotted key of the config by the name that it has in tables; none: seeds alone.
        methods: rows of the table for each variant, which a study with factors names; without factors: all.
        base: the variant that all others are compared with in pairs; empty: the first.
        front: whether the figure draws accuracy against preference instead of metrics against the factor.
        by: column of the rows whose values have tables of their own, after that of all users; empty: none;
            ``drawing``: whether the user's artist draws lines alone.
        across: further pairs that are compared, each two times a variant and a method.
        trains: whether each variant trains its own encoder: a table has how fast.
        generators: whether a table has the cost of each variant's generator.
        mismatched: whether a table has what each method gains from a user's own preference over another user's.
    """

    factors: Mapping[str, str] | None = None
    methods: tuple[str, ...] = ()
    base: str = ""
    front: bool = False
    by: str = ""
    across: tuple[tuple[tuple[str, str], tuple[str, str]], ...] = ()
    trains: bool = False
    generators: bool = False
    mismatched: bool = False


STUDIES = {
    "components": Study(),
    "baselines": Study(),
    "accuracy": Study(
        {"candidates": "balance.weights.noises"},
        ("none", "pmg_paper"),
        base="candidates = 1",
        across=tuple((("candidates = 4", "pmg_paper"), (f"candidates = {number}", "none")) for number in (1, 4)),
    ),
    "prefix": Study(
        {"m": "preference_encoder.prefix_length"},
        ("mean_style", "soft", "pmg_paper"),
        base="m = 0",
        by="group",
        trains=True,
    ),
    "balance": Study({"alpha": "balance.alpha"}, ("mean_style", "pmg_paper"), base="alpha = 0.5", front=True),
    "guidance": Study(
        {"formula": "sampling.scales._target_", "target": "sampling.scales.target"},
        ("mean_style", "keywords", "soft", "pmg_paper"),
        base="formula = LeaveOneOutScales, target = 3.0",
        front=True,
        across=tuple(
            (
                (f"formula = LeaveOneOutScales, target = {scale}", method),
                (f"formula = Scales, target = {scale}", method),
            )
            for scale in (2.0, 3.0, 5.0)
            for method in ("mean_style", "keywords", "soft", "pmg_paper")
        ),
    ),
    "history": Study(
        {"items": "history_items.test"},
        ("image_prompt", "mean_style", "keywords", "soft", "pmg_paper"),
        base="items = 12",
    ),
    "sight": Study(
        {"sees": "preference_encoder.sees"},
        ("none", "mean_style", "soft", "pmg_paper", "oracle"),
        base="sees = both",
        by="group",
        across=tuple(
            ((f"sees = {seen}", method), ("sees = both", "mean_style"))
            for seen in ("both", "pictures", "text")
            for method in ("soft", "pmg_paper")
        ),
    ),
    "artists": Study(
        {"history drawn by": "data.drawn_by"},
        ("style", "mean_style", "soft", "pmg_paper"),
        base="history drawn by = own",
        by="group",
    ),
    "optimise": Study({"objective": "name"}, ("none", "soft", "mean_style"), base="objective = denoise", trains=True),
    "families": Study(
        {"generator": "name"},
        ("none", "soft", "pmg_paper", "style", "oracle"),
        base="generator = looks",
        generators=True,
        mismatched=True,
    ),
    "starts": Study(
        {"channel": "data.channel"},
        (
            "none",
            "mean_style",
            "soft",
            "pmg_read",
            "retrieve",
            "sdedit",
            "pmg_sdedit",
            "sdedit_trained",
            "pmg_sdedit_trained",
            "sdedit_trained_40",
            "pmg_sdedit_trained_40",
            "oracle",
        ),
        by="drawing",
        across=tuple(
            (("channel = pictures", one), ("channel = pictures", other))
            for one, other in (
                ("sdedit", "retrieve"),
                ("pmg_sdedit", "retrieve"),
                ("sdedit", "none"),
                ("pmg_sdedit", "none"),
                ("pmg_read", "none"),
                ("sdedit", "mean_style"),
                ("pmg_sdedit", "pmg_read"),
                ("sdedit_trained", "sdedit"),
                ("pmg_sdedit_trained", "pmg_sdedit"),
                ("pmg_sdedit_trained", "retrieve"),
                ("pmg_sdedit_trained", "none"),
                ("pmg_sdedit_trained", "pmg_read"),
                ("pmg_sdedit_trained_40", "none"),
                ("pmg_sdedit_trained_40", "pmg_read"),
                ("sdedit_trained_40", "mean_style"),
            )
        ),
    ),
}
