"""The pipeline: candidates in one batch, scored and picked."""

from __future__ import annotations

import pytest
import torch

from pmg.domain import Keywords, PmgError
from pmg.generation.balance import WeightGrid
from pmg.generation.pipeline import Method, Pipeline, Request
from pmg.generation.records import RecordWriter, read_images, read_records
from pmg.generation.study import Preference, StudyGenerator, build_request, mismatch
from pmg.models.tiny import tiny_scorer

METHODS = {"none": Method(), "keywords": Method(keywords=True), "pmg": Method(keywords=True, soft=True)}


@pytest.fixture
def pipeline(generator):
    """Three candidates, three steps."""
    weights = WeightGrid([0.5, 1.0, 1.5])
    return Pipeline(generator, tiny_scorer(), weights, alpha=0.5, steps=3, guidance=2.0)


def request(seed=0, words="flat, no outline", show=True, soft=True, target="red apple"):
    tokens = torch.randn(2, 32, generator=torch.Generator().manual_seed(seed)) if soft else None
    return Request(Keywords((target, "fruit")), words, show, tokens, seed)


def test_batch_equals_loop(pipeline):
    requests = [request(0), request(1, target="a much longer name of a dog"), request(2)]
    together = pipeline(requests)
    for row, one in enumerate(requests):
        alone = pipeline([one])
        assert torch.allclose(alone.images[0], together.images[row], atol=1e-3)
        assert alone.picked[0] == together.picked[row]


def test_every_candidate_is_in_the_records(pipeline):
    generated = pipeline([request()])
    assert [(c.w_p, c.w_t) for c in generated.candidates[0]] == [(0.5, 1.0), (1.0, 1.0), (1.5, 1.0)]
    best = max(range(3), key=lambda place: generated.candidates[0][place].z)
    assert generated.picked == [best]


def test_images_are_in_range(pipeline):
    images = pipeline([request()]).images
    assert images.shape == (1, 3, 64, 64)
    assert images.abs().max() <= 1


def test_weight_of_the_preference_does_not_touch_a_request_without_one(pipeline):
    images = pipeline([request(words="", show=False, soft=False)])
    assert len({round(candidate.accuracy, 5) for candidate in images.candidates[0]}) == 1
    assert all(candidate.preference is None for candidate in images.candidates[0])


def test_preference_changes_the_image(pipeline):
    with_it, without = pipeline([request()]), pipeline([request(words="", show=False, soft=False)])
    assert not torch.allclose(with_it.images, without.images, atol=1e-3)


def test_evaluations_are_counted(pipeline):
    assert pipeline.evaluations == 2 * 3 * 3


def test_mismatched_user_is_always_another_one():
    users = [f"u{number}" for number in range(9)]
    other = mismatch(users, 0)
    assert all(user != other[user] for user in users)
    assert sorted(other.values()) == users


@pytest.fixture
def study(emoji, pipeline, tmp_path):
    """Builds a study over the same folder again and again."""
    examples = emoji.examples("test", users=4, targets=1)
    targets = {example.target.concept: Keywords((example.target.title,)) for example in examples}
    preferences = {
        example.user: Preference(example.user, Keywords(("flat",)), torch.randn(2, 32), example.labels["words"])
        for example in examples
    }

    def build(hashes=None):
        writer = RecordWriter(tmp_path / "study")
        return StudyGenerator(pipeline, targets, preferences, writer, 3, 0, hashes or {"config": "a"}), examples

    return build, tmp_path / "study"


def test_study_makes_own_and_mismatched_images_of_each_method(study):
    build, folder = study
    generator, examples = build()
    generator.run(examples, METHODS)
    records = read_records(folder)
    arms = {(record.method, record.control) for record in records}
    personal = {(method, control) for method in ("keywords", "pmg") for control in ("own", "mismatched")}
    assert arms == {("none", "own"), *personal}
    assert len(records) == len(arms) * len(examples)
    assert all((r.preference_from == r.user) == (r.control == "own") for r in records)
    assert read_images(folder, records).shape == (len(records), 3, 64, 64)


def test_second_run_makes_only_what_is_missing(study):
    build, folder = study
    generator, examples = build()
    generator.run(examples, {"none": METHODS["none"]})
    before = {record.key: (folder / record.image).stat().st_mtime_ns for record in read_records(folder)}
    again, _ = build()
    again.run(examples, METHODS)
    after = {record.key: (folder / record.image).stat().st_mtime_ns for record in read_records(folder)}
    assert again.made == 4 * len(examples)
    assert all(after[key] == time for key, time in before.items())


def test_folder_of_another_config_is_refused(study):
    build, _ = study
    generator, examples = build()
    generator.run(examples, {"none": METHODS["none"]})
    other, _ = build({"config": "b"})
    with pytest.raises(PmgError, match="made with another config"):
        other.run(examples, {"none": METHODS["none"]})


def test_oracle_alone_reads_the_true_taste(emoji):
    example = emoji.examples("test", users=1, targets=1)[0]
    preference = Preference(example.user, Keywords(("flat",)), torch.zeros(2, 32), "the truth in words")
    for method in (Method(), Method(keywords=True), Method(soft=True), Method(keywords=True, soft=True)):
        assert "truth" not in build_request(example, Keywords(("x",)), method, preference, 0).words
    oracle = build_request(example, Keywords(("x",)), Method(oracle=True), preference, 0)
    assert oracle.words == "the truth in words"
    assert oracle.soft is None
