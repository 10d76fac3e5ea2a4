"""Tables and figures of the benchmark, from its parts: no number is typed by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import draw_growth, draw_shares
from benchmarks.startup import LIMITS
from benchmarks.timing import summary
from pmg.cache import atomic_write_json, atomic_write_text

FASTER = {"training": 10.0, "generation": 10.0, "diffusers": 1.5, "keywords": 5.0}  # at least so many times
OUTSIDE = {"training": 0.15, "sampling": 0.10}  # at most this share outside of kernels
LINEAR = 1.1  # exponent of growth up to which it counts as linear: medians of few rounds scatter
FLAT = 1.05  # peak memory at the most users over that at the fewest
LIMITED = ("denoiser", "prefill")
WHAT = {
    "training": "examples a second", "generation": "candidates a second",
    "diffusers": "candidates a second, against a loop of diffusers", "keywords": "users a second",
}  # fmt: skip
UNITS = {"users": "users", "history": "tokens", "candidates": "candidates", "memory": "users"}


def ratios(parts: Mapping[str, Mapping]) -> dict[str, Any]:
    """The numbers that the benchmark is about, each with its bound and whether it holds."""
    found: dict[str, Any] = {}
    for name, least in FASTER.items():
        if name in parts:
            speedup = parts[name]["speedup"]
            ends = {end: speedup[end] for end in ("low", "high")}
            found[name] = _bounded(speedup["ratio"], at_least=least) | ends
    if "generation" in parts:
        found["generation"]["equal_quality"] = parts["generation"]["quality"]["equal"]
        found["generation"]["met"] &= parts["generation"]["quality"]["equal"]
        for steps, part in parts["generation"]["fewer_steps"].items():
            ends = {end: part["speedup"][end] for end in ("low", "high")}
            found[f"generation_naive_way_with_{steps}_steps"] = {"value": part["speedup"]["ratio"], **ends}
    for name, most in OUTSIDE.items() if "kernels" in parts else ():
        best = parts["kernels"].get(f"{name}_compiled", parts["kernels"][name])
        found[f"outside_kernels_{name}"] = _bounded(best["outside"], at_most=most)
        found[f"outside_kernels_{name}_uncompiled"] = {"value": parts["kernels"][name]["outside"]}
        found[f"time_of_compiled_{name}"] = {"value": best["seconds"] / parts["kernels"][name]["seconds"]}
    return found | _costs(parts)


def _costs(parts: Mapping[str, Mapping]) -> dict[str, Any]:
    """Seconds of start-up, growth, and shares of the machine's best rate."""
    found: dict[str, Any] = {}
    for way, most in LIMITS.items() if "startup" in parts else ():
        slowest = max(times[way]["median"] for times in parts["startup"]["commands"].values() if way in times)
        found[f"seconds_{way}"] = _bounded(slowest, at_most=most)
    for name in UNITS if "growth" in parts else ():
        curve = parts["growth"][name]
        if name == "memory":
            found["memory_growth"] = _bounded(curve["costs"][-1] / curve["costs"][0], at_most=FLAT)
        else:
            found[f"growth_{name}"] = _bounded(curve["exponent"], at_most=LINEAR)
    for name in LIMITED if "limit" in parts else ():
        found[f"share_of_best_rate_{name}"] = {"value": parts["limit"][name]["share"]}
    return found


def _bounded(value: float, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    if at_least is not None:
        return {"value": value, "at_least": at_least, "met": value >= at_least}
    return {"value": value, "at_most": at_most, "met": value <= at_most}


def write_report(parts: Mapping[str, Mapping], folder: Path) -> str:
    """Writes ``results.json``, ``table.md`` and the figures of the parts that there are; gives the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    found = ratios(parts)
    results = {"ratios": found, "parts": parts}
    atomic_write_json(folder / "results.json", results)
    titled = {"Ratios": _ratio_table(found), **dict(_details(parts))}
    text = "\n\n".join(f"## {title}\n\n{table}" for title, table in titled.items()) + "\n"
    atomic_write_text(folder / "table.md", text)
    if "growth" in parts:
        draw_growth({name: parts["growth"][name] for name in UNITS}, UNITS, folder / "growth.png")
    if "kernels" in parts:
        draw_shares(_steps(parts["kernels"]), folder / "shares.png")
    return text


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; numbers stand right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ratio_table(found: Mapping[str, Mapping]) -> str:
    def row(name: str, ratio: Mapping[str, Any]) -> list[str]:
        bound = "–"
        if "met" in ratio:
            bound = f"≥ {ratio['at_least']:g}" if "at_least" in ratio else f"≤ {ratio['at_most']:g}"
        interval = f" [{ratio['low']:.2f}, {ratio['high']:.2f}]" if "low" in ratio else ""
        met = {True: "yes", False: "**no**", None: "–"}[ratio.get("met")]
        return [name.replace("_", " "), f"{ratio['value']:.3g}{interval}", bound, met]

    return table(["ratio", "value", "must be", "holds"], (row(*item) for item in found.items()))


def _details(parts: Mapping[str, Mapping]) -> Iterator[tuple[str, str]]:
    faster = {name: parts[name] for name in FASTER if name in parts}
    if faster:
        rows = [_rates(WHAT[name], part["speedup"]) for name, part in faster.items()]
        yield "Rates, median [quartiles]", table(["", "PMG", "naive", "times faster"], rows)
    if "generation" in parts:
        yield from _qualities(parts["generation"])
    if "diffusers" in parts:
        yield "Against a loop of diffusers, same batch, solver, steps and guidance", _loop_table(parts["diffusers"])
    if "startup" in parts:
        yield "Start-up, seconds", _startup_table(parts["startup"])
        for verb, imports in parts["startup"]["imports"].items():
            rows = [[one["name"], f"{one['seconds']:.2f}"] for one in imports]
            yield f"Slowest imports of pmg-{verb} --help", table(["module", "seconds"], rows)
    if "kernels" in parts:
        for name, part in _steps(parts["kernels"]).items():
            yield f"Where the time of a {name} step goes", _share_table(part)
    if "growth" in parts:
        yield "Growth", _growth_table(parts["growth"])
    if "limit" in parts:
        yield "Arithmetic, billions of operations a second", _limit_table(parts["limit"])
    yield "Machine", _machine_table(parts)


def _qualities(part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    compared = {part["naive_steps"]: part, **part["fewer_steps"]}
    for steps, one in compared.items():
        yield f"Quality of generation, PMG − naive with {steps} steps", _quality_table(one["quality"])


def _rates(what: str, ratio: Mapping[str, Any]) -> list[str]:
    def shown(way: Mapping[str, Any]) -> str:
        low, high = way["quartiles"]
        return f"{way['median']:.3g} [{low:.3g}, {high:.3g}]"

    times = f"{ratio['ratio']:.1f} [{ratio['low']:.1f}, {ratio['high']:.1f}]"
    return [what, shown(ratio["ours"]), shown(ratio["naive"]), times]


def _loop_table(part: Mapping[str, Any]) -> str:
    kinds = {"float32": part["difference_float32"], "bfloat16" if part["bfloat16"] else "as drawn": part["difference"]}
    rows = [[name, f"{summary(rates)['median']:.3g} candidates a second"] for name, rates in part["rates"].items()]
    for kind, gap in kinds.items():
        rows.append([f"difference of the pictures, {kind}", f"largest {gap['max']:.2g}, mean {gap['mean']:.2g} of 2"])
    return table(["", "value"], rows)


def _quality_table(quality: Mapping[str, Any]) -> str:
    def row(name: str, value: Mapping[str, float]) -> list[str]:
        means = [f"{quality[way][name]:.3f}" for way in ("ours", "naive")]
        return [
            name,
            *means,
            f"{value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}], p = {value['p']:.3f}",
        ]

    return table(["", "PMG", "naive", "difference"], (row(*item) for item in quality["ours-naive"].items()))


def _startup_table(part: Mapping[str, Any]) -> str:
    ways = ("help", "cfg", "completion")
    rows = [
        [f"pmg-{verb}", *(f"{times[way]['median']:.2f}" if way in times else "-" for way in ways)]
        for verb, times in part["commands"].items()
    ]
    rows.append(["first training step", "–", "–", f"{part['first_training_step']['median']:.1f}"])
    return table(["command", "--help", "--cfg job", "completion, or until the step"], rows)


def _steps(kernels: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The steps that were looked at, under names to read."""
    return {name.replace("_", ", "): part for name, part in kernels.items() if "kernels" in part}


def _share_table(part: Mapping[str, Any]) -> str:
    rows = [[name, f"{share:.1%}"] for name, share in part["kernels"].items()]
    rows += [["**all else**", f"**{part['outside']:.1%}**"]]
    rows += [[f"of that: {name}", f"{share:.1%}"] for name, share in part["others"].items()]
    return table(["", "share"], rows)


def _growth_table(part: Mapping[str, Any]) -> str:
    def row(name: str, unit: str) -> list[str]:
        curve, cost = part[name], "MiB" if name == "memory" else "s"
        points = ", ".join(
            f"{size:g}: {value:.3g} {cost}" for size, value in zip(curve["sizes"], curve["costs"], strict=True)
        )
        return [f"{name}, by {unit}", points, f"{curve['exponent']:.2f}"]

    return table(["", "cost", "exponent"], (row(*item) for item in UNITS.items()))


def _limit_table(part: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            one["dtype"].removeprefix("torch."),
            *(f"{one[key] / 1e9:.4g}" for key in ("rate", "best")),
            f"{one['share']:.1%}",
        ]
        for name, one in ((name, part[name]) for name in LIMITED)
    ]
    return table(["", "type", "reached", "best matrix product", "share"], rows)


def _machine_table(parts: Mapping[str, Mapping]) -> str:
    def row(name: str, origin: Mapping[str, Any]) -> list[str]:
        machine = origin["machine"]
        revision = (origin["revision"] or "–")[:9]
        kind = "yes" if origin["bfloat16"] else "no"
        threads = f"{origin['threads']} / {machine['cores']}"
        return [name, machine["processor"], kind, threads, f"{origin['load']}", revision]

    header = ["part", "processor", "bfloat16", "threads / cores", "load before", "revision"]
    return table(header, (row(name, part["origin"]) for name, part in parts.items()))
