"""Targets are drawn by the title that their name means, where a generator draws certain things alone."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pmg.cache import NoCache
from pmg.domain import Item, PmgError
from pmg.models.diffusion.diffusers_denoiser import NAMES
from pmg.models.diffusion.unet.denoiser import UNetDenoiser
from pmg.models.tiny_models import tiny_generator, tiny_language_model, tiny_text_encoder
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keywords import Budget
from pmg.preferences.scenarios import Scenario
from pmg.preferences.target_names import TargetNames

VECTORS = {"rocket": (1.0, 0.0), "spaceship": (0.8, 0.6), "dog": (0.0, 1.0), "hound": (0.6, 0.8), "cat": (-1.0, 0.0)}
KNOWN = {"rocket": ["spaceship"], "dog": ["hound"], "cat": []}


class Vectors:
    """A text encoder whose pooled vectors are known; other texts mean a spaceship."""

    max_length = 100

    def count_tokens(self, text):
        return len(text)

    def encode(self, texts, padded=True):
        pooled = torch.tensor([VECTORS.get(text, (0.9, 0.5)) for text in texts])
        return SimpleNamespace(pooled=pooled)


def test_a_name_means_its_title_and_says_nothing(caplog):
    names = TargetNames(KNOWN, Vectors())
    for title, meant in (("rocket", "rocket"), ("Spaceship ", "rocket"), ("HOUND", "dog"), ("CAT", "cat")):
        assert names.resolve([Item("1", "thing", title, ("word",))]) == [Item("1", "thing", meant, ("word",))]
    assert not caplog.text


def test_what_has_no_name_is_drawn_as_the_title_of_the_nearest_names_on_average_with_a_warning(caplog):
    names = TargetNames(KNOWN, Vectors())
    # mean cosines with (0.9, 0.5), of length 1.03: rocket (0.9 + 1.02) / 2, dog (0.5 + 0.94) / 2, cat -0.9
    assert names.nearest("launcher") == ["rocket", "dog", "cat"]
    assert names.nearest("hound", 2) == ["dog", "rocket"]
    asked = ("launcher", "cat", "launcher", "probe", "booster", "shuttle")
    drawn = names.resolve([Item("1", "thing", title) for title in asked])
    assert [item.title for item in drawn] == ["rocket", "cat", *["rocket"] * 4]
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("the generator was trained to draw 3 things; targets that are none of them: 4, e.g. ")
    assert "'launcher' is drawn as 'rocket' (else: dog, cat); 'probe' is drawn" in told
    assert "shuttle" not in told
    names.resolve([Item("1", "thing", "probe")])
    assert len(caplog.records) == 1


def test_keywords_of_targets_are_those_of_the_title():
    scenario = Scenario(
        "s", "{history}{instruction}", "{title}", "", max_items=3, attributes={}, target_prefix="A picture of",
        target_question="It shows", scene_words=("emoji",),
    )  # fmt: skip
    extractor = PreferenceExtractor(
        tiny_language_model(), scenario, NoCache(), "tiny", Budget(len, 1000), names=TargetNames(KNOWN, Vectors())
    )
    found = extractor.describe([Item("1", "one", "spaceship"), Item("2", "two", "dog")])
    assert {concept: words.words for concept, words in found.items()} == {
        "one": ("rocket", "emoji"),
        "two": ("dog", "emoji"),
    }


def test_a_generator_knows_the_names_beside_its_weights(tmp_path):
    generator = tiny_generator(tiny_text_encoder())
    assert TargetNames.of(generator) is None
    generator.denoiser.model.save_pretrained(tmp_path)
    assert UNetDenoiser.from_folder(tmp_path).names == {}
    (tmp_path / NAMES).write_text(json.dumps(KNOWN))
    generator.denoiser = UNetDenoiser.from_folder(tmp_path)
    assert generator.supports == replace(generator.denoiser.adapter.supports, names=KNOWN)
    assert TargetNames.of(generator).nearest("hound", 1) == ["dog"]
    (tmp_path / NAMES).write_text('{"rocket": "spaceship"}')
    with pytest.raises(PmgError, match=r"names=.*names.json can't be read .* lists of names by title"):
        UNetDenoiser.from_folder(tmp_path)
