"""Config of ``pmg-recommend``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pmg.configuration.keys import RunConfig, key, run_key
from pmg.configuration.ranges import Count, Fraction, NotNegative


@dataclass
class RecommendConfig(RunConfig):
    """``pmg-recommend``: compares recommenders with and without pictures.

    Attributes:
        data: interactions and pictures.
        image_encoder: encodes pictures, by the image encoder of `scorer`.
        recommenders: by name, see `Recommender`.
        pictures: folders and method of the pictures of ``data=pairs``.
        shares: of each user's likes that are chosen on, and foreseen.
        features: of items, from their pictures, see `item_features`.
        candidates: items that are recommended to each of so many users, for pictures of pairs.
        comparison: methods that others are compared with, of recommenders and of pairs.
    """

    data: Any = None
    scorer: Any = None
    image_encoder: Any = None
    text_encoder: Any = run_key()
    recommenders: dict[str, Any] = field(default_factory=dict)
    pictures: Any = key(None)
    shares: Any = key(None, validation=Fraction, test=Fraction)
    features: Any = key(None, components=Count, deviation=NotNegative)
    candidates: Any = key(None, users=Count, each=Count)
    comparison: Any = None
    results_dir: str | None = run_key()
    logger: Any = run_key()
