"""Run folders as commands leave them, of known numbers."""

from __future__ import annotations

import json
from hashlib import sha256

import pandas as pd
import torch
from omegaconf import OmegaConf

from pmg.configuration.identity import names_run, select_result
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.metric_interface import MetricInfo, describe
from pmg.records.storage import Candidate, Record, RecordWriter
from pmg.runs.content import digest_path
from pmg.runs.run_folder import ENCODER, TRAINED, WEIGHTS, identify

METRICS = [MetricInfo("style_accuracy", "style accuracy"), MetricInfo("lpips_truth", "LPIPS to truth", False)]


def write_run(folder, command="train", status="completed", seed=0, config=None, metrics=None, **facts):
    """A run's ``metrics.json`` and ``config.yaml``; `config` by dotted key, of which the result's are its identity."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = {"seconds": {"total": 2.0}, "denoiser_evaluations": 5, "peak_memory": {"ram_mib": 100.0}}
    known = {"command": command, "status": status, "seed": seed, "ledger": ledger, "metrics": metrics or {}}
    known |= {"git": {"revision": "abc", "dirty": False}, "overrides": [], "error": None}
    identity = select_result(command, {"seed": seed, **(config or {})})
    known["identity"] = {key: value for key, value in identity.items() if not names_run(key)}
    (folder / "metrics.json").write_text(json.dumps(known | facts))
    cfg = OmegaConf.create({"seed": seed, "run_dir": str(folder), "results_dir": str(folder)})
    for key, value in (config or {}).items():
        OmegaConf.update(cfg, key, value)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    return folder


def write_trained(folder, cfg):
    """A completed training of `cfg` whose weights are a few bytes."""
    (folder / "encoder").mkdir(parents=True)
    (folder / ENCODER / WEIGHTS).write_bytes(b"weights")
    return write_run(folder, "train", identity=identify(cfg, "train"), made={TRAINED: digest_path(folder / TRAINED)})


def write_rows(folder, values, seed=0):
    """Judged rows: a user an entry of `values`, which gives pmg's LPIPS; none has 0.5 for all."""
    rows = [
        {"example": f"u{user}-0", "user": f"u{user}", "method": method, "control": "own", "seed": seed,
         "lpips_truth": value if method == "pmg_paper" else 0.5, "style_accuracy": float(method == "pmg_paper")}
        for user, value in enumerate(values)
        for method in ("none", "pmg_paper")
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(folder / "rows.parquet")
    write_results(folder, METRICS)


def write_results(folder, metrics, sets=None):
    """The part of ``results.json`` that a report reads beside rows."""
    results = {"metrics": describe(metrics), "comparison": Comparison().as_dict(), "sets": sets or {}}
    (folder / "results.json").write_text(json.dumps(results))


def record(user, scores, method="pmg_paper", words=("flat",), seed=0):
    """A record whose candidates have these scores (d_p, d_t); the first is picked."""
    candidates = tuple(Candidate(1.0 + n, 1.0, d_p, d_t, 0.0) for n, (d_p, d_t) in enumerate(scores))
    return Record(
        f"{user}-0", user, method, "own", user, seed, candidates, target_keywords=("cat", "animal"),
        preference_keywords=words, alpha=0.5, front=(0,),
    )  # fmt: skip


def write_records(folder, records):
    """The records with grey images."""
    writer = RecordWriter(folder)
    writer.add(torch.zeros(len(records), 3, 16, 16), records)


def write_curve(folder, steps, version=0, name="val/denoise"):
    """A learning curve that falls by step."""
    path = folder / "csv" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame({"epoch": 0, "step": steps, name: [1 / (1 + step) + version for step in steps]}).to_csv(
        path, index=False
    )


def metrics(folder):
    """The ``metrics.json`` of a run."""
    return json.loads((folder / "metrics.json").read_text())


def snapshot(folder):
    """Every file of a folder with its content and time."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: (sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def run_config(folder, **keys):
    """Returns the least config of a run in a folder."""
    return OmegaConf.create({"run_dir": str(folder), "seed": 0, **keys})
