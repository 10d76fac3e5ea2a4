"""The dashboard of a Weights & Biases project as code: built and checked anywhere, published where W&B is at hand.

python experiments/dashboard.py
python experiments/dashboard.py --entity me --vary preference_encoder.soft_tokens
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from pmg.cache import atomic_write_text
from pmg.evaluation.metrics.lpips import LpipsToHistory, LpipsToTruth
from pmg.evaluation.metrics.ssim import SsimToTruth
from pmg.looks.metrics import LookAccuracy

METHODS = ("none", "keywords", "soft", "pmg_paper", "oracle")
SHOWN = [info for each in (LookAccuracy, LpipsToTruth, LpipsToHistory, SsimToTruth) for info in each.outputs]
STEP = "trainer/global_step"


def build(entity: str, project: str, vary: Sequence[str]) -> ws.Workspace:
    """The workspace: curves, the objective by what was varied, pictures, results, cost.

    Args:
        entity: user or team.
        project: of the runs.
        vary: keys of the config that sweeps went over, dotted.
    """
    sections = {
        "Training": training(),
        "Objective": objective(vary),
        "Pictures": pictures(),
        "Results": results(),
        "Cost": [bars(f"seconds to {work}", [f"cost/seconds/{work}"]) for work in ("train", "generate", "judge")],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name="pmg",
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric("Group"), ws.Metric("JobType")]),
    )


def training() -> list[wr.Panel]:
    """Losses by step, of training and validation together."""
    names = ("total", "denoise")
    return [wr.LinePlot(title=name, x=STEP, y=[f"train/{name}", f"val/{name}"], log_y=True) for name in names]


def objective(vary: Sequence[str]) -> list[wr.Panel]:
    """What a sweep optimises, by each thing that it varied, and which of all things mattered."""
    by_key = [
        wr.ScatterPlot(title=f"objective by {key}", x=wr.Config(key), y=wr.SummaryMetric("objective")) for key in vary
    ]
    return [*by_key, wr.ParameterImportancePlot(with_respect_to="objective")]


def pictures() -> list[wr.Panel]:
    """Grids of generated pictures, and the table of pictures with their records."""
    grids = wr.MediaBrowser(title="grids", media_keys=["samples_grid", "contact_sheet"], num_columns=1)
    return [grids, wr.WeavePanelSummaryTable(table_name="samples")]


def results() -> list[wr.Panel]:
    """One chart a metric, methods side by side; then the tables with intervals and paired differences."""
    aims = {True: "higher is better", False: "lower is better"}
    charts = [
        bars(f"{info.title}, {aims[info.higher_is_better]}", [f"results/{method}/{info.name}" for method in METHODS])
        for info in SHOWN
    ]
    return [*charts, *(wr.WeavePanelSummaryTable(table_name=name) for name in ("results", "paired"))]


def bars(title: str, metrics: Sequence[str]) -> wr.Panel:
    """Bars of metrics' latest values."""
    return wr.BarPlot(title=title, metrics=list(metrics))


def checked_spec(workspace: ws.Workspace) -> str:
    """The workspace as JSON in the form that W&B takes, read back through W&B's own model of it.

    Raises:
        ValueError: W&B's model refuses it, or loses a panel.
    """
    view = workspace._to_model()  # the package has no public door to a spec that isn't saved
    text = view.spec.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    again = ws.Workspace._from_model(view.model_copy(update={"spec": type(view.spec).model_validate_json(text)}))
    kept = {section.name: len(section.panels) for section in again.sections}
    if kept != {section.name: len(section.panels) for section in workspace.sections}:
        raise ValueError(f"the dashboard's panels are not all in its spec: {kept}")
    return text + "\n"


def main() -> None:
    """Writes the spec, and publishes it where an entity is named."""
    parser = argparse.ArgumentParser(description="The project's dashboard for Weights & Biases.")
    parser.add_argument("--entity", help="user or team to publish for; without it the spec is written alone")
    parser.add_argument("--project", default="pmg")
    parser.add_argument("--vary", nargs="*", default=["seed"], help="keys of the config that sweeps went over")
    parser.add_argument("--into", type=Path, default=Path("outputs/dashboard.json"))
    chosen = parser.parse_args()
    workspace = build(chosen.entity or "nobody", chosen.project, chosen.vary)
    atomic_write_text(chosen.into, checked_spec(workspace))
    if chosen.entity:
        print(workspace.save().url)
    else:
        print(f"{chosen.into} is valid; publish it with: wandb login && make dashboard ARGS='--entity NAME'")


if __name__ == "__main__":
    main()
