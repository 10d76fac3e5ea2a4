"""Requests: which blocks a method asks for, their noise, alpha and keywords."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from pmg.configuration.instantiate import instantiate
from pmg.domain import Keywords, PmgError
from pmg.generation.alpha import ConfidentAlpha, FixedAlpha, HistoryAlpha
from pmg.generation.requests import Method, Preference, RequestBuilder
from pmg.preferences.keywords import NO_WORDS, join_words


def load_methods(path):
    """The methods of an option: of a file that holds its sources, too, those under ``method``."""
    loaded = OmegaConf.to_container(OmegaConf.load(path))
    return loaded.get("method", loaded)


METHODS = {
    path.stem: instantiate({key: value for key, value in node.items() if key != "start_denoiser"})
    for path in (Path(__file__).resolve().parents[2] / "conf" / "method").glob("*.yaml")
    for name, node in load_methods(path).items()
    if name != "defaults"
}
TOKENS = ("soft", "inversion", "image_prompt")


@pytest.fixture(scope="module")
def example(shop):
    return shop.examples("test", users=1, targets=1)[0]


@pytest.fixture
def preference(example):
    words = {
        "keywords": Keywords(("flat", "colour"), (math.log(0.5),) * 2),
        "counting": Keywords(("flat",)),
        "dislikes": Keywords(("blurry", "gradients")),
        "read": Keywords(("flat",), (math.log(0.5),)),
        "stated": Keywords(("flat",), (0.0,)),
    }
    tokens = {name: torch.zeros(2, 32) for name in TOKENS}
    return Preference(example.user, {**words, **tokens, "references": torch.zeros(2, 8, 8, 8)}, 6)


@pytest.fixture
def build(example):
    def builder(rule=FixedAlpha(0.5), seed=0):  # noqa: B008
        return RequestBuilder({example.target.concept: Keywords(("apple",))}, rule, seed, Keywords(("blurry",)))

    return builder


def test_methods_ask_for_their_blocks(build, example, preference):
    methods = {name: method for name, method in METHODS.items() if set(method.sources) <= set(preference.rows)}
    requests = {name: build()(example, method, preference) for name, method in methods.items()}
    shown = {name for name, made in requests.items() if made.show_keywords}
    words = {"counting", "keywords", "pmg_paper", "pmg_read", "read", "stated"}
    assert shown == words & set(METHODS)  # some are of leaves
    with_tokens = {name for name, made in requests.items() if made.soft_tokens is not None}
    tokens = {"soft", "soft_read", "pmg_paper", "pmg_read", "inversion", "image_prompt"}
    assert with_tokens == tokens & set(METHODS)
    assert {name for name, made in requests.items() if made.references is not None} == {"references"} & set(METHODS)
    with_dislikes = {name for name, made in requests.items() if "gradients" in made.negative.words}
    assert with_dislikes == {"counting", "keywords", "pmg_paper"}
    assert all("blurry" in made.negative.words for made in requests.values())
    assert {name for name, made in requests.items() if made.share == 0} == {"none"}


def test_noise_is_the_same_for_every_method_and_differs_between_seeds_and_examples(build, example, preference):
    seeds = {build()(example, METHODS[name], preference).seed for name in ("none", "keywords", "soft", "pmg_paper")}
    assert len(seeds) == 1
    assert build(seed=1)(example, Method(), preference).seed not in seeds
    assert build()(replace(example, id="another"), Method(), preference).seed not in seeds


def test_alpha_comes_from_what_is_known_of_the_preferences_user(build, example, preference):
    method = METHODS["pmg_paper"]
    assert build(ConfidentAlpha(0.8))(example, method, preference).alpha == pytest.approx(0.4)
    assert build(HistoryAlpha(0.8, half=2))(example, method, preference).alpha == pytest.approx(0.6)


def test_a_source_may_answer_for_each_target(build, example):
    method = Method(keywords="fit", soft_tokens="fitted", image="found")
    rows = {
        "fit": lambda target: Keywords((target.title,)),
        "fitted": lambda target: torch.full((2, 32), float(len(target.title))),
        "found": lambda target: torch.zeros(3, 8, 8),
    }
    assert method.personal
    made = build()(example, method, Preference(example.user, rows))
    assert made.keywords.words == (example.target.title,)
    assert float(made.soft_tokens[0, 0]) == len(example.target.title)
    assert made.image.shape == (3, 8, 8)
    started = build()(example, Method(start="found", strength=0.4), Preference(example.user, rows))
    assert (started.start.shape, started.strength, started.image) == ((3, 8, 8), 0.4, None)


@pytest.mark.parametrize(
    "arguments", [{"start": "found"}, {"strength": 0.5}, {"start": "found", "strength": 0.5, "image": "found"}]
)
def test_a_start_needs_its_strength_and_the_other_way_round(arguments):
    with pytest.raises(PmgError, match=r"a start with its strength, .* and then no image; or neither"):
        Method(**arguments)


def test_joined_words_keep_their_scores():
    assert join_words(Keywords(("a",), (), ("x",)), NO_WORDS, Keywords(("b",), (), ("y",))).dropped == ("x", "y")
    joined = join_words(Keywords(("blurry",)), NO_WORDS, Keywords(("flat", "dark"), (-0.1, -0.2)))
    assert joined == Keywords(("blurry", "flat", "dark"), (0.0, -0.1, -0.2))
