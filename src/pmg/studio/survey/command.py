"""``pmg-survey``: makes, serves and analyses a survey of a generation run."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from functools import partial
from importlib import import_module
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import OmegaConf

from pmg.cache import atomic_write_json
from pmg.configuration.instantiate import instantiate
from pmg.configuration.masked_folders import named_folders
from pmg.domain import PmgError
from pmg.installation import install_extra
from pmg.orchestration.builders import select_examples
from pmg.orchestration.command_lines import override
from pmg.orchestration.launcher import launch
from pmg.runs.content import check_made, refuse_changed
from pmg.runs.run_folder import read_masked, replace_folders
from pmg.studio.survey.schema import SurveyConfig

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmg.orchestration.run import Run


def body(cfg: DictConfig, run: Run) -> float | None:
    """Makes, serves or analyses a survey."""
    try:
        for name in ("fastapi", "jinja2", "uvicorn", "krippendorff", "statsmodels"):
            import_module(name)
    except ModuleNotFoundError as error:
        raise PmgError(f"pmg-survey needs {error.name}: {install_extra('survey')}") from error
    settings = cast(SurveyConfig, OmegaConf.to_object(cfg))
    works = {"generate_run": _make, "serve": _serve, "analyse": _analyse}
    chosen = [name for name in works if getattr(settings, name)]
    if len(chosen) > 1 or (not chosen and settings.sample_size.win_rate is None):
        found = f"both {' and '.join(chosen)} are set" if chosen else "nothing to do"
        raise PmgError(f"{found}: set one of generate_run, serve, analyse or sample_size.win_rate")
    if settings.sample_size.win_rate is not None:
        _find_sample_size(settings, run)
    for name in chosen:
        works[name](settings, run)
    return None


def _find_sample_size(settings: SurveyConfig, run: Run) -> None:
    """Prints and records the number of raters for the wanted effect."""
    from pmg.studio.survey.sample_size import SampleSize

    wanted = asdict(settings.sample_size)
    methods = list(settings.methods or ("a", "b"))
    if len(set(methods)) < 2:
        raise PmgError(f"methods={methods} names one method, and a survey compares two. Name another")
    pairs = max(1, round(settings.design.pairs / comb(len(methods), 2)))
    size = SampleSize(**wanted, pairs=pairs, items=settings.design.examples - 1, seed=settings.seed or 0)
    run.begin()
    with run.ledger.phase("simulate"):
        raters, tried = size.find()
    effect = f"a win rate of {size.win_rate:g} with power {size.power:g}"
    print(f"raters for {effect}, who compare the two methods {pairs} times each: {raters or 'more than 400'}")
    run.measure({"raters": raters} if raters else {})
    powers = {str(number): power for number, power in tried.items()}
    atomic_write_json(run.folder / "sample_size.json", {**wanted, "raters": raters, "power_by_raters": powers})


def _make(settings: SurveyConfig, run: Run) -> None:
    """Writes the page, its content and its key."""
    from pmg.records.storage import RECORDS, read_images, read_records
    from pmg.studio.survey.materials import KEY, PAGE, build_content, choose_records, read_survey, write_survey

    folder = str(settings.generate_run)
    plain, metrics = read_masked(folder, "generate")
    made = replace_folders(plain, named_folders(settings.paths))
    check_made(Path(folder), metrics, RECORDS)
    refuse_changed(folder, made, metrics, "data")
    chosen = choose_records(read_records(folder), settings.methods, settings.design.examples)
    records = [record for methods in chosen.values() for record in methods.values()]
    data = instantiate(made["data"])
    examples = select_examples(data, made["split"], made)
    images = dict(zip([record.key for record in records], read_images(folder, records), strict=True))
    content, key = build_content(
        chosen, examples, data.images, images, settings.design, settings.texts, seed=settings.seed or 0,
        made=metrics["made"][RECORDS],
    )  # fmt: skip
    if (run.folder / KEY).is_file() and read_survey(run.folder)["survey"] != key["survey"]:
        raise PmgError(
            f"{run.folder} has another survey (its pictures or texts), whose answers would be lost: name a new run_dir"
        )
    run.begin()
    write_survey(run.folder, content, key)
    print(f"page: {run.folder / PAGE}\nserve it: {shlex.join(['pmg-survey', override('serve', run.folder)])}")


def _serve(settings: SurveyConfig, run: Run) -> None:
    """Serves a survey until it is interrupted."""
    from pmg.studio import http_server
    from pmg.studio.survey.materials import build_server

    if settings.delete or settings.export:
        raise PmgError("export and delete need analyse=FOLDER, and no serve")
    app = build_server(Path(str(settings.serve)), settings.host)
    listener = http_server.bind(settings.host, settings.port)
    run.begin()
    print(f"survey: {http_server.address(listener)} (Ctrl-C ends it)", flush=True)
    http_server.serve(app, listener)


def _analyse(settings: SurveyConfig, run: Run) -> None:
    """Writes results, or exports or deletes a rater's answers."""
    from pmg.studio.survey.answers import NO_RATER, check_code, delete_rater, read_answers
    from pmg.studio.survey.materials import read_survey

    listed = list(settings.analyse) if isinstance(settings.analyse, list) else [settings.analyse]
    paths = [Path(str(path)) for path in listed]
    if missing := [path for path in paths if not path.exists()]:
        raise PmgError(f"analyse: {missing[0]} is neither a file nor a folder")
    if settings.delete and settings.export:
        raise PmgError("export and delete are two commands: the answers are exported first")
    if settings.delete:
        check_code(settings.delete)
        run.begin()
        print(f"deleted answers: {delete_rater(paths, settings.delete)}")
        return
    key = read_survey(settings.survey or (paths[0] if paths[0].is_dir() else paths[0].parent))
    answers = read_answers(paths, key["survey"])
    if settings.export:
        check_code(settings.export)
        found = [rater for rater in answers if rater.rater == settings.export]
        if not found:
            raise PmgError(NO_RATER.format(settings.export))
        run.begin()
        path = run.folder / f"answers-{settings.export}.json"
        atomic_write_json(path, found[0].model_dump())
        print(path)
        return
    _write_results(settings, run, key, answers)


def _write_results(settings: SurveyConfig, run: Run, key: dict[str, Any], answers: list[Any]) -> None:
    """Analyses answers and writes the results."""
    from rich.console import Console

    from pmg.evaluation.comparison import Comparison
    from pmg.evaluation.result_tables import ResultTables
    from pmg.evaluation.results import read_results, read_rows
    from pmg.evaluation.table_rendering import print_table
    from pmg.runs.provenance import origin
    from pmg.studio.survey.analysis import FOOTNOTE, Analysis, shown_rows, survey_tables, write_analysis
    from pmg.studio.survey.observations import observe

    observed = observe(answers, key)
    rows = metrics = None
    if settings.evaluation:
        path = Path(settings.evaluation, "results.json")
        evaluated = read_results(path)
        if evaluated.get("records") != key.get("records"):
            raise PmgError(f"{path} is of other pictures than the survey's: name the evaluation of its generate_run")
        rows, metrics = read_rows(settings.evaluation, evaluated.get("rows")), evaluated["metrics"]
        rows = shown_rows(rows, key["images"].values())
    run.begin()
    with run.ledger.phase("analyse"):
        analysis = Analysis(key["methods"], Comparison(**asdict(settings.comparison)), settings.allowed_failures)
        config = {"survey": key["survey"], "allowed_failures": settings.allowed_failures}
        results = analysis.build(observed, rows, metrics) | origin({"survey": run.ledger.as_dict()}, config)
    write_analysis(Path(str(settings.results_dir)), results, observed)
    tables = ResultTables.of(results)
    console = Console()
    print_table(tables.methods("All raters", results["methods"]), FOOTNOTE, console)
    for table in survey_tables(results):
        print_table(table, "", console)
    print(f"all tables: {Path(str(settings.results_dir), 'table.md')}")


main = partial(launch, "survey", body)

if __name__ == "__main__":
    main()
