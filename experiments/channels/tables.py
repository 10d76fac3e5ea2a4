"""Tables of the study of channels: what is explained, found and drawn, and the primary endpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from experiments.channels.users import MESSAGES, NOT_OWN, OF_SPLIT, SEEN, SHOWN
from PIL import Image
from statsmodels.stats.multitest import multipletests

from pmg.evaluation.statistics import LEVEL, Difference, interval, paired_difference
from pmg.reporting.study_pages import OVERVIEW, QUALITY, fill
from pmg.reporting.study_pages import crop_sheet as crop

ARM = ["channel", "method", "seed"]  # whose rows are replaced together
NOT_DRAWN = ("truth", "vae_reconstruction", "nearest")  # rows of evaluations that no table shows

KINDS_OF_TABLES = {
    "open": "explained", "found": "words found", "other": "words of others", "writers": "writers", "shown": "shown",
    "seen": "seen", "pairs": "pairs",
}  # fmt: skip
SEED = re.compile(r"^(encoder=)?(?P<encoder>.*?)[-,](seed=)?\d+$")


def make_table(found: Mapping[str, Any], kind: str) -> str:
    """Returns a table of `KINDS_OF_TABLES`."""
    if kind in ("shown", "seen"):
        return variants_table(found, kind)
    tables = {"other": words_table, "writers": writers_table, "pairs": pairs_table}
    return tables[kind](found) if kind in tables else reader_table(found, kind)


def writers_table(found: Mapping[str, Any]) -> str:
    """Returns the share of words found in free messages, by who wrote them, of the first encoder and each other."""
    head = ["messages of", "people"]
    if "messages" not in found["channels"] or not found.get("runs"):
        return _table([head, ["---", "---:"]])
    part = found["channels"]["messages"]
    rows = {row["user"]: row for row in map(json.loads, MESSAGES.read_text().splitlines())}
    written = [rows[user] for user in part["users"]]
    groups = {"all": [True] * len(written), "who take a wish back": [bool(row["before"]) for row in written]}
    groups["the others"] = [not back for back in groups["who take a wish back"]]
    groups |= {f"writer {number}": [row["writer"] == number for row in written] for number in (0, 1, 2)}
    values, users = _over_seeds(part["found"]), np.array(part["users"])
    ours = _encoder(found["runs"][0])
    others = [name for name in values if name != ours]
    lines = [
        [*head, *values, *(f"{ours} - {name}" for name in others)],
        ["---", *["---:"] * (1 + len(values) + len(others))],
    ]
    for group, chosen in groups.items():
        own = {name: one[chosen] for name, one in values.items()}
        cells = [_compare(own, users[chosen], 1, name, None) for name in values]
        cells += [_compare(own, users[chosen], 1, ours, name) for name in others]
        lines.append([group, str(sum(chosen)), *cells])
    return _table(lines)


def variants_table(found: Mapping[str, Any], kind: str) -> str:
    """Returns what each reader explains, or which words it finds, in ``split`` and in variants of it, and lead."""
    shown = kind == "shown"
    worlds = ["split", *(SHOWN if shown else SEEN)]
    parts = {name: found["channels"][name] for name in worlds if name in found["channels"]}
    kind, sign = ("open", -1) if shown else ("found", 1)
    columns = [(_over_seeds(part[kind]), part["users"], sign) for part in parts.values()]
    lines = [["reader", *parts], ["---", *["---:"] * len(parts)]]
    return _table(lines + [[_title(*pair), *cells] for pair, cells in _compare_readers(found, columns)])


def pairs_table(found: Mapping[str, Any]) -> str:
    """Returns the share of minimal pairs that each reader understands, and the first encoder's lead."""
    columns = {}
    for kind, part in found.get("pairs", {}).items():
        for measure in ("both right", "ordered"):
            runs = {run: one[measure] for run, one in part["understood"].items() if measure in one}
            columns[f"{kind}: {measure}"] = (_over_seeds(runs), part["users"], 1)
    lines = [["reader", *columns], ["---", *["---:"] * len(columns)]]
    rows = _compare_readers(found, list(columns.values()))
    return _table(lines + [[_title(*pair), *cells] for pair, cells in rows])


def words_table(found: Mapping[str, Any]) -> str:
    """Returns what each reader explains in ``split`` from a user's own words, another's, and words in random order."""
    parts = {
        name: _over_seeds(found["channels"][name]["open"]) for name in ("split", *NOT_OWN) if name in found["channels"]
    }
    users = found["channels"]["split"]["users"]
    lines = [["reader", *parts, *(f"split - {name}" for name in NOT_OWN)], ["---", *["---:"] * (len(parts) + 2)]]
    for reader, own in parts["split"].items() if len(parts) > 1 else ():
        pairs = [{"own": own, "other": parts[name][reader]} for name in NOT_OWN]
        lines.append([
            reader, *(_compare(part, users, -1, reader, None) for part in parts.values()),
            *(_compare(pair, users, -1, "own", "other") for pair in pairs),
        ])  # fmt: skip
    return _table(lines)


def reader_table(found: Mapping[str, Any], kind: str) -> str:
    """Returns one row a reader, by channel: explained variance (``open``) or words ``found``, each with its interval.

    Runs of one encoder count as one, with the mean over its seeds for each user. Below them paired differences of the
    first encoder and every other reader. With words found, the macro F1 and the calibration error, means over seeds.
    """
    channels = {name: part for name, part in found["channels"].items() if name not in OF_SPLIT}
    sign = -1 if kind == "open" else 1
    columns = [(_over_seeds(part[kind]), part["users"], sign) for part in channels.values()]
    numbers = {"macro F1": "macro F1", "calibration": "calibration error"} if kind == "found" else {}
    head = ["reader", *channels]
    head += [f"{channel}: {word}" for word in numbers.values() for channel in channels if channel != "pictures"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for (name, other), cells in _compare_readers(found, columns):
        for number in numbers:
            for channel in (one for one in channels if one != "pictures"):
                each = [one for run, one in channels[channel].get(number, {}).items() if _encoder(run) == name]
                cells.append(f"{np.mean(each):.2f}" if each and other is None else "")
        lines.append([_title(name, other), *cells])
    return _table(lines)


Column = tuple[Mapping[str, np.ndarray], Sequence[str], int]
"""Values of each reader, their users, and the sign, see `_compare`."""


def _compare_readers(
    found: Mapping[str, Any], columns: Sequence[Column]
) -> Iterator[tuple[tuple[str, str | None], list[str]]]:
    """Yields a row of cells for each reader, then for the first encoder and each other reader; with their names."""
    names = list(dict.fromkeys(name for values, _, _ in columns for name in values))
    ours = _encoder(found["runs"][0]) if found.get("runs") else None
    leads = [(ours, name) for name in names if name != ours] if ours else []
    for name, other in [*((name, None) for name in names), *leads]:
        yield (name, other), [_compare(values, users, sign, name, other) for values, users, sign in columns]


def _title(name: str, other: str | None) -> str:
    """Returns the title of a row."""
    return name if other is None else f"{name} - {other}"


def _encoder(run: str) -> str:
    """Returns the encoder of a run's folder; of a control its own name."""
    return match["encoder"] if (match := SEED.match(run)) else run


def _over_seeds(runs: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    """Returns each encoder's values of each user, the mean over its runs."""
    names = dict.fromkeys(map(_encoder, runs))
    return {name: np.mean([runs[run] for run in runs if _encoder(run) == name], 0) for name in names}


def _compare(values: Mapping[str, np.ndarray], users: Sequence[str], sign: int, name: str, other: str | None) -> str:
    """Returns a mean with its interval, or that of the paired difference; '' where there is none.

    What is left open (`sign` -1) is shown as what is explained.
    """
    if name not in values or (other is not None and other not in values):
        return ""
    there = ~np.isnan(values[name]) & (True if other is None else ~np.isnan(values[other]))
    if not there.any():
        return ""
    own = np.array(users)[there]
    if other is None:
        mean = interval((1 - values[name] if sign < 0 else values[name])[there], own)
        return f"{mean.mean:.2f} [{mean.low:.2f}, {mean.high:.2f}]"
    pair = paired_difference(sign * values[name][there], sign * values[other][there], own)
    return f"{pair.mean:+.2f} [{pair.low:+.2f}, {pair.high:+.2f}]{_significance(pair.p)}"


def _significance(p: float) -> str:
    return ", p < .001" if p < 0.001 else f", p = {p:.3f}"


NAMES = {
    "stored": "ridge",
    "pooled": "layers over sentence vectors and word embeddings",
    "sentences": "layers over sentence vectors",
    "matched": "mean_style and stated words",
    "soft": "reader",
    "read": "reader's words",
    "pmg": "reader and its words",
}
PAIRS = (
    ("soft", "stored"), ("soft", "sentences"), ("soft", "pooled"), ("soft", "matched"), ("soft", "mean_style"),
    ("pmg", "soft"), ("read", "none"), ("soft", "none"), ("true_words", "none"), ("soft", "true_words"),
)  # fmt: skip


SECOND = ("style_accuracy_second", "concept_accuracy_second", "finish_error_second")  # columns of the second judge


def read_rows(folders: Sequence[Path]) -> pd.DataFrame:
    """Returns the rows of what methods drew, of evaluations ``channel=CHANNEL,seed=SEED``, with their channel."""
    parts = [pd.read_parquet(folder / "rows.parquet").assign(channel=_channel(folder)) for folder in folders]
    rows = pd.concat(parts)
    return rows[~rows["method"].isin(NOT_DRAWN)]


def replace_rows(rows: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Returns rows with new ones in place of those of the same channel, method and seed."""
    drawn = pd.MultiIndex.from_frame(new[ARM])
    rows = pd.concat([rows[~pd.MultiIndex.from_frame(rows[ARM]).isin(drawn)], new])
    return rows.astype(dict.fromkeys(rows.select_dtypes("float64").columns, "float32"))


def add_second_judge(rows: pd.DataFrame, folders: Sequence[Path]) -> pd.DataFrame:
    """Returns recorded rows with the second judge's columns from evaluations with ``metrics=second_judge``."""
    keys = ["channel", "example", "method", "control", "seed"]
    new = read_rows(folders)
    rows = rows.drop(columns=[name for name in SECOND if name in rows])
    return rows.merge(new[[*keys, *SECOND]].astype(dict.fromkeys(SECOND, "float32")), on=keys, how="left")


def drawn_table(rows: pd.DataFrame) -> str:
    """Returns the means of each method's pictures, and paired differences, of evaluations' rows: users' means.

    Methods may have other numbers of targets a user; the pictures of each are counted.
    """
    columns = {"lpips_truth": "LPIPS to truth", "style_accuracy": "style", "concept_accuracy": "concept",
               "finish_error": "finish error"}  # fmt: skip
    judged = [name for name in SECOND if name in rows and rows[name].notna().any()]
    columns |= {name: f"{columns[name.removesuffix('_second')]}, second judge" for name in judged}
    own = rows[rows["control"] == "own"]
    table = own.pivot_table(index="user", columns="method", values=list(columns), dropna=False)
    counts = own["method"].value_counts()
    users = np.array(table.index)
    lines = [["pictures", "number", *columns.values()], ["---", *["---:"] * (1 + len(columns))]]
    drawn = list(table["lpips_truth"])
    for name in drawn:
        means = [table[column][name].mean() for column in columns]
        cells = ["" if np.isnan(mean) else f"{mean:.3f}" for mean in means]  # '': the second judge didn't see them
        lines.append([NAMES.get(name, name), f"{counts[name]:,}", *cells])
    for first, second in (pair for pair in PAIRS if set(pair) <= set(drawn)):
        cells = [f"{NAMES.get(first, first)} - {NAMES.get(second, second)}", ""]
        for column in columns:
            pair = [table[column][name].to_numpy(float) for name in (first, second)]
            if any(np.isnan(part).all() for part in pair):  # one of them wasn't judged
                cells.append("")
                continue
            found = paired_difference(*pair, users)
            cells.append(f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]{_significance(found.p)}")
        lines.append(cells)
    return _table(lines)


CONTROLS = ("stored", "sentences", "pooled", "matched", "mean_style")  # whose pictures the reader's are compared with


@dataclass(frozen=True)
class Endpoint:
    """A primary endpoint: the reader beside the control that comes closest.

    Attributes:
        name: P1 to P4.
        where: users and metric.
        control: the closest.
        difference: the reader's minus its, with the interval.
        p: the largest of all controls', since each has to be beaten.
        right: whether the difference has the right sign.
    """

    name: str
    where: str
    control: str
    difference: str
    p: float
    right: bool

    @classmethod
    def of(cls, name: str, where: str, pairs: Mapping[str, Difference], sign: int = 1) -> Endpoint:
        """Returns the endpoint of differences by control; `sign` -1: lower is better."""
        control, one = min(pairs.items(), key=lambda pair: sign * pair[1].mean)
        text = f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        return cls(name, where, control, text, max(each.p for each in pairs.values()), sign * one.mean > 0)


def find_endpoints(found: Mapping[str, Any], rows: pd.DataFrame, real: str) -> list[Endpoint]:
    """Returns the primary endpoints.

    Args:
        found: of `main`.
        rows: of evaluations, with their ``channel``.
        real: the table of `real_people.py`.
    """

    def drawn(channel: str, column: str, ours: str, others: Sequence[str]) -> dict[str, Difference]:
        """Returns the differences of pictures, by control."""
        part = rows[(rows["channel"] == channel) & (rows["control"] == "own")]
        table = part.pivot_table(index="user", columns="method", values=column)
        values, users = {name: table[name].to_numpy(float) for name in table}, np.array(table.index)
        names = [name for name in others if name in values]
        return {NAMES.get(name, name): paired_difference(values[ours], values[name], users) for name in names}

    def named(channel: str) -> dict[str, Difference]:
        """Returns the differences of words found, by control."""
        part = found["channels"][channel]
        values, users = _over_seeds(part["found"]), np.array(part["users"])
        own = values.pop(_encoder(found["runs"][0]))
        said = ~np.isnan(own)
        return {name: paired_difference(own[said], each[said], users[said]) for name, each in values.items()}

    def liked(control: str) -> Endpoint:
        """Returns the difference of the people's table."""
        match = re.search(rf"\| reader - {control} \| (.*?), p [=<] ([0-9.]+) ", real)
        assert match, f"the table of real people has no {control}"
        return Endpoint("P4", "MovieLens, precision at 3", control, match[1], float(match[2]), match[1][0] == "+")

    return [
        Endpoint.of("P1", "`split`, LPIPS to truth", drawn("split", "lpips_truth", "soft", CONTROLS), -1),
        Endpoint.of("P1", "`split`, style", drawn("split", "style_accuracy", "soft", CONTROLS)),
        *(Endpoint.of("P2", f"`{name}`, words found", named(name)) for name in ("conflict", "messages")),
        Endpoint.of("P3", "`pictures`, LPIPS to truth", drawn("pictures", "lpips_truth", "read", ["counting"]), -1),
        *map(liked, ("popularity", "counting")),
    ]


def endpoints_table(endpoints: Sequence[Endpoint]) -> str:
    """Returns a row an endpoint, with p after Holm's correction."""
    corrected = multipletests([one.p for one in endpoints], method="holm")[1]
    lines = [["endpoint", "where", "closest control", "reader - control", "p (Holm)", "holds"], ["---"] * 6]
    for one, p in zip(endpoints, corrected, strict=True):
        holds = "yes" if one.right and p < 1 - LEVEL else "no"
        lines.append([one.name, one.where, one.control, one.difference, f"{p:.4f}", holds])
    return _table(lines)


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Returns a table, its numbers with a true minus sign."""
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return re.sub(r"(?<=[ \[])-(?=[0-9.])", "\N{MINUS SIGN}", text)


def record(into: Path, split: str, judged: Sequence[Path], second: Sequence[Path]) -> None:
    """Puts the tables into the study's README, and what they are made of beside it.

    `judged` are folders of evaluations, ``channel=CHANNEL,seed=SEED``; `second` are those of the same pictures by the
    second judge.
    """
    study = Path(__file__).parent
    text = (into / f"explained-{split}.json").read_text()
    found = json.loads(text, parse_float=lambda number: float(f"{float(number):.7g}"))
    (study / f"explained-{split}.json").write_text(json.dumps(found) + "\n")
    for kind, name in KINDS_OF_TABLES.items():
        fill(study / "README.md", name.replace(" ", "-"), make_table(found, kind))
    rows = pd.read_parquet(study / f"rows-{split}.parquet")
    if judged:
        rows = replace_rows(rows, read_rows(judged))
        sheets = [folder / "contact_sheet.png" for folder in judged if _channel(folder) == "messages"]
        for sheet in sheets[:1]:
            image = Image.open(sheet).convert("RGB")
            image.save(study / "messages.webp", quality=QUALITY)
            crop(image).save(study / OVERVIEW, quality=QUALITY)
    if second:
        rows = add_second_judge(rows, second)
    if judged or second:
        rows.to_parquet(study / f"rows-{split}.parquet", compression="zstd")
    tables = [f"`{channel}`\n\n{drawn_table(part)}" for channel, part in rows.groupby("channel")]
    fill(study / "README.md", "drawn", "\n\n".join(tables))
    real = (study.parent / "faithfulness" / "README.md").read_text()
    fill(study / "README.md", "endpoints", endpoints_table(find_endpoints(found, rows, real)))


def _channel(folder: Path) -> str:
    return dict(part.split("=") for part in folder.name.split(","))["channel"]
