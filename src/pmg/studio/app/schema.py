"""Config of ``pmg-app``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le

from pmg.configuration.keys import RunConfig, key, run_key
from pmg.configuration.ranges import Count, CountOrZero, Fraction, NotNegative


@dataclass
class AppConfig(RunConfig):
    """``pmg-app``: serves a web app.

    Attributes:
        data: users and pictures to choose from.
        scenario: in place of the pipeline's, e.g. one that reads conversations; None: the pipeline's.
        pipeline: folder of ``pmg-export``, or of an exported ``pmg-train`` run.
        port: of the server; 0: a free one.
        waiting: number of jobs that wait.
        users: number of users to choose from.
        pictures: number of pictures to choose from, beside those of the users.
        preference_weights: preference weights of the candidates.
        alpha: where the slider between target and taste begins.
    """

    device: str = run_key("auto")
    data: Any = None
    scenario: Any = None
    pipeline: str = "assets/pipeline"
    host: str = run_key("127.0.0.1")
    port: int = run_key(7860, Annotated[int, Ge(0), Le(65535)])
    waiting: int = run_key(8, Count)
    users: int = key(8, Count)
    pictures: int = key(48, CountOrZero)
    preference_weights: Any = key(None, list[NotNegative])
    alpha: float = key(0.5, Fraction)
