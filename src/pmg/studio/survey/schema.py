"""Schema of the config of ``pmg-survey``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from pmg.configuration.keys import ComparisonConfig, RunConfig, key, run_key
from pmg.configuration.ranges import Count, CountOrZero, NotNegative


@dataclass
class SurveyDesignConfig:
    """Size of a survey: `raters` have different task lists, and further ones start again with the first.

    Each has so many `pairs` to compare, `ratings` and attention `checks`; the last of the `examples` is for practice.
    """

    examples: int = key(25, Count)
    raters: int = key(30, Count)
    pairs: int = key(24, Count)
    ratings: int = key(8, CountOrZero)
    checks: int = key(5, CountOrZero)


@dataclass
class Texts:
    """Texts of the page that a study's organiser changes; a rater agrees to the paragraphs `consent`.

    `question` is of a pairwise task, `accuracy`, where ``{target}`` is what the image should show, and `preference`
    are those of a rating.
    """

    title: str = ""
    consent: list[str] = field(default_factory=list)
    question: str = ""
    accuracy: str = ""
    preference: str = ""


@dataclass
class SampleSizeConfig:
    """The effect that a survey should find: the better of two methods wins the share `win_rate` of comparisons.

    `power` is the probability that the interval excludes 0.5, `deviation` the standard deviation of utilities between
    raters, and between items. Without a win rate no sample size is computed.
    """

    win_rate: float | None = key(None, Annotated[float, Gt(0.5), Lt(1)] | None)
    power: float = key(0.8, Annotated[float, Gt(0), Lt(1)])
    deviation: float = key(0.4, NotNegative)


@dataclass
class SurveyConfig(RunConfig):
    """``pmg-survey``: makes, serves or analyses a survey; one of `generate_run`, `serve`, `analyse`, … names the work.

    Attributes:
        generate_run: folder of the ``pmg-generate`` run that a survey is made of.
        methods: methods that are compared; null: all of the run.
        serve: folder of the survey that is served.
        port: of the server; 0: a free one.
        analyse: files or folders of answers.
        survey: folder of the survey that `analyse` belongs to; null: the folder of the first answers.
        evaluation: folder of results of ``pmg-evaluate``, whose metrics are compared with the raters; null: none.
        comparison: the methods that all others are compared with.
        allowed_failures: raters who fail more attention checks are left out.
        export: code of the rater whose answers are written to the run folder.
        delete: code of the rater whose answers are deleted.
        results_dir: folder of results and tables.
    """

    generate_run: str | None = None
    methods: list[str] | None = None
    design: SurveyDesignConfig = field(default_factory=SurveyDesignConfig)
    texts: Texts = field(default_factory=Texts)
    sample_size: SampleSizeConfig = field(default_factory=SampleSizeConfig)
    serve: str | None = None
    host: str = run_key("127.0.0.1")
    port: int = run_key(8000, Annotated[int, Ge(0), Le(65535)])
    analyse: Any = None
    survey: str | None = None
    evaluation: str | None = None
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    allowed_failures: int = key(1, CountOrZero)
    export: str | None = None
    delete: str | None = None
    results_dir: str | None = run_key()
