"""The pipeline: candidates in one batch, scored and picked."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from pmg.domain import Example, Item, Keywords, PmgError
from pmg.generation.alpha import FixedAlpha
from pmg.generation.condition_weighting import AttentionWeighting, ScaleWeighting
from pmg.generation.dataset_generation import DatasetGenerator, leave_out_control, list_controlled, mismatch
from pmg.generation.guidance import LeaveOneOutScales, Scales
from pmg.generation.pipeline import Pipeline, build_pipeline
from pmg.generation.requests import Method, Preference, Request, RequestBuilder
from pmg.generation.selection import WeightGrid, pareto_front
from pmg.models.tiny_models import tiny_scorer
from pmg.preferences.captioning import MetadataCaptioner
from pmg.records.storage import RecordWriter, read_images, read_records

PMG = Method(keywords="keywords", soft_tokens="soft", negative="dislikes")
METHODS = {"none": Method(), "keywords": Method(keywords="keywords"), "pmg_paper": PMG}
ORACLE = {"oracle": Method(keywords="truth", mismatch=False)}


@pytest.fixture
def build(generator):
    """Builds a pipeline of three candidates and three steps."""
    weights = WeightGrid([0.5, 1.0, 1.5])

    def pipeline(scales=Scales(2.0, 2.0, 2.0), weighting=ScaleWeighting(), weights=weights):  # noqa: B008
        return Pipeline(generator, tiny_scorer(), weights, weighting, scales, steps=3)

    return pipeline


@pytest.fixture
def pipeline(build):
    return build()


def request(seed=0, words=("flat", "no outline"), show=True, soft=True, target="red apple", negative=(), alpha=0.5):
    tokens = torch.randn(2, 32, generator=torch.Generator().manual_seed(seed)) if soft else None
    blocks = Keywords((target, "fruit")), Keywords(words), show, tokens, seed
    return Request(*blocks, negative=Keywords(tuple(negative)), alpha=alpha)


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


def test_a_repeated_pair_is_drawn_from_another_noise(pipeline):
    first, again = pipeline.with_pairs([(1.0, 1.0)] * 2).denoise([request()])
    (alone,) = pipeline.with_pairs([(1.0, 1.0)]).denoise([request()])
    torch.testing.assert_close(first, alone)
    assert not torch.allclose(first, again, atol=0.1)


def test_noises_are_drawn_until_one_shows_the_target(generator):
    def pipeline(stop_at):
        weights = WeightGrid([0.5, 1.0], noises=3, stop_at=stop_at)
        return Pipeline(generator, tiny_scorer(), weights, ScaleWeighting(), Scales(2.0, 2.0, 2.0), steps=3)

    requests, full = [request(seed) for seed in range(4)], pipeline(None)
    whole = full(requests)
    best = [max(each.accuracy for each in candidates[:2]) for candidates in whole.candidates]
    for stop_at, counts in ((-1.0, [2] * 4), (1.0, [6] * 4), (sum(sorted(best)[1:3]) / 2, None)):
        sparing = pipeline(stop_at)
        drawn = sparing(requests)
        for number, (some, every) in enumerate(zip(drawn.candidates, whole.candidates, strict=True)):
            for one, other in zip(some, every, strict=False):
                assert one.accuracy == pytest.approx(other.accuracy, abs=1e-4)
            assert max(each.accuracy for each in some[:-2] or [every[0]]) < stop_at or len(some) == 2
            assert drawn.picked[number] == max(range(len(some)), key=lambda place: some[place].z)
        found = [len(candidates) for candidates in drawn.candidates]
        assert found == (counts or [2 if each >= stop_at else found[row] for row, each in enumerate(best)])
        assert sparing.evaluations == full.evaluations * sum(found) / 24
    torch.testing.assert_close(pipeline(1.0)(requests).images, whole.images, atol=1e-3, rtol=0)


def test_a_finished_image_is_scored_and_kept_as_it_is(pipeline):
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    requests = [replace(request(seed), image=image) for seed, image in enumerate(images)]
    generated = pipeline(requests)
    assert torch.equal(generated.images, images)
    assert pipeline.evaluations == 0
    _, accuracy = pipeline.with_pairs([(1.0, 1.0)]).score(requests, images)
    assert generated.candidates[1][0].accuracy == pytest.approx(float(accuracy[1, 0]), abs=1e-5)


class SeesPinkGround:
    """Reads a pink ground in pictures whose first pixel is red."""

    def describe(self, images):
        return [{"ground": "pink ground" if one[0, 0, 0] > 0 else "grey ground"} for one in images]


def test_a_describer_scores_candidates_by_the_wanted_words_that_it_reads(pipeline):
    wanted = replace(request(), compared=Keywords(("pink ground", "flat"), (3.0, 1.0)))
    nobody = request(words=(), soft=False)
    images = torch.ones(6, 3, 64, 64)
    images[1] = -1
    three = pipeline.with_pairs([(1.0, 1.0)] * 3)
    _, accuracy = three.score([wanted, nobody], images)
    three.describer = SeesPinkGround()
    preference, same = three.score([wanted, nobody], images)
    assert preference.tolist() == [[0.75, 0.0, 0.75], [1.0] * 3]  # without keywords all are equally good
    assert torch.equal(same, accuracy)
    assert torch.equal(three.score([nobody], images[:3])[0], torch.ones(1, 3))


def test_a_captioner_without_words_by_attribute_is_refused(pipeline):
    parts = {
        "generator": pipeline.generator,
        "scorer": pipeline.scorer,
        "text_encoder": pipeline.generator.text_encoder,
        "balance": {"weights": WeightGrid([1.0]), "weighting": ScaleWeighting(), "combination": None},
        "sampling": {"scales": Scales(2.0, 2.0, 2.0), "steps": 3},
    }
    build = partial(build_pipeline, device="cpu", create=lambda part: part)
    assert build(parts).describer is None
    described = build({**parts, "balance": {**parts["balance"], "captioner": SeesPinkGround()}})
    assert isinstance(described.describer, SeesPinkGround)
    with pytest.raises(
        PmgError, match=r"balance\.captioner: MetadataCaptioner gives no words by .*captioner=measured"
    ):
        build({**parts, "balance": {**parts["balance"], "captioner": MetadataCaptioner("{colour}")}})


def test_another_combination_keeps_another_candidate(pipeline):
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    three = pipeline.with_pairs([(1.0, 1.0)] * 3)
    three.combination = lambda d_p, d_t, alpha: -d_t
    generated = three.select([request()], images)
    scores = [one.accuracy for one in generated.candidates[0]]
    assert generated.picked == [scores.index(min(scores))]
    assert [one.z for one in generated.candidates[0]] == [-one for one in scores]


def test_a_scorer_that_reads_less_than_the_generator_is_given_fewer_words(pipeline):
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    words = Keywords(("red apple", "fruit", "flat", "no outline"))
    pipeline.texts = copy.deepcopy(pipeline.texts)
    pipeline.texts.max_length = pipeline.texts.count_tokens("red apple, fruit")
    long, short = (replace(request(), target=one, keywords=one) for one in (words, Keywords(words.words[:2])))
    torch.testing.assert_close(pipeline.score([long], images), pipeline.score([short], images))


def starting(strength, *images):
    return [replace(request(seed), start=image, strength=strength) for seed, image in enumerate(images)]


def test_the_less_strength_the_more_is_kept_of_the_start(pipeline):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = pipeline.generator.encode_images(images).repeat_interleave(3, 0)
    weak, strong = (pipeline.denoise(starting(strength, *images)) for strength in (0.1, 0.6))
    assert pipeline.evaluations == 2 * 3 * 3 * 2 * 2  # as many as from noise
    distances = [(drawn - latents).square().mean((1, 2, 3)) for drawn in (weak, strong)]
    assert (distances[0] < distances[1]).all()
    noise = pipeline.denoise([request(0), request(1)])
    assert not torch.allclose(strong, noise, atol=1e-2)
    assert torch.equal(pipeline.denoise([replace(request(0), strength=0.1)]), pipeline.denoise([request(0)]))
    torch.testing.assert_close(pipeline.denoise(starting(0.6, images[0])), strong[:3], atol=1e-3, rtol=1e-3)


def test_a_picture_to_start_from_counts_below_full_strength(pipeline):
    black, white = (torch.full((3, 64, 64), level) for level in (-1.0, 1.0))
    for steps, strength in ((1, 0.7), (2, 0.8), (3, 0.95)):
        drawn = [pipeline.denoise(starting(strength, start), steps) for start in (black, white)]
        assert not torch.allclose(*drawn, atol=1e-2)


def test_a_denoiser_of_starts_draws_them_alone(pipeline):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    requests, same, other = starting(0.5, *images), *(copy.deepcopy(pipeline.generator.denoiser) for _ in range(2))
    with torch.no_grad():
        other.model.conv_out.weight.mul_(0.5)
    plain, again, drawn, noise = (
        pipeline.denoise([replace(each, start_denoiser=denoiser, **more) for each in requests])
        for denoiser, more in ((None, {}), (same, {}), (other, {}), (other, {"start": None}))
    )
    assert torch.equal(again, plain)
    assert not torch.allclose(drawn, plain, atol=1e-2)
    assert torch.equal(noise, pipeline.denoise([replace(each, start=None) for each in requests]))
    pipeline.check("mine", Method(start="found", strength=0.5, start_denoiser=lambda: other))
    other.sample_size = 4
    with pytest.raises(PmgError, match=r"method\.mine\.start_denoiser takes latents of \(8, 4, 4\)"):
        pipeline.check("mine", Method(start="found", strength=0.5, start_denoiser=lambda: other))


def test_a_method_is_known_by_the_weights_of_its_denoiser(pipeline):
    same, other = (copy.deepcopy(pipeline.generator.denoiser) for _ in range(2))
    with torch.no_grad():
        other.model.conv_out.weight.mul_(0.5)
    start = {"start": "found", "strength": 0.5}
    plain, *keys = (
        Method(**start, start_denoiser=build).key for build in (None, lambda: same, lambda: same, lambda: other)
    )
    assert keys[0] == keys[1]
    assert len({plain, *keys}) == 3
    with pytest.raises(PmgError, match="start_denoiser has a start"):
        Method(start_denoiser=lambda: same)


def test_redrawing_starts_from_the_picture_each_time(generator):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scales = Scales(2.0, 2.0, 2.0)
    grids = [WeightGrid([1.0], noises=2, stop_at=stop_at) for stop_at in (None, 1.0)]
    made = [
        Pipeline(generator, tiny_scorer(), grid, ScaleWeighting(), scales, steps=3)(starting(0.3, *images))
        for grid in grids
    ]
    torch.testing.assert_close(made[0].images, made[1].images, atol=1e-3, rtol=1e-3)


def test_batches_of_requests_start_alike(pipeline):
    black = torch.full((3, 64, 64), -1.0)
    other = [replace(each, start_denoiser=copy.deepcopy(pipeline.generator.denoiser)) for each in starting(0.5, black)]
    for mixed in ([request(1)], starting(0.7, black), other):
        with pytest.raises(PmgError, match="with one strength and denoiser, or from noise"):
            pipeline.denoise([*starting(0.5, black), *mixed])


def test_images_are_in_range(pipeline):
    images = pipeline([request()]).images
    assert images.shape == (1, 3, 64, 64)
    assert images.abs().max() <= 1


def test_weight_of_the_preference_does_not_touch_a_request_without_one(pipeline):
    images = pipeline([request(words=(), show=False, soft=False)])
    assert len({round(candidate.accuracy, 5) for candidate in images.candidates[0]}) == 1
    assert all(candidate.preference is None for candidate in images.candidates[0])


def test_preference_changes_the_image(pipeline):
    with_it, without = pipeline([request()]), pipeline([request(words=(), show=False, soft=False)])
    assert not torch.allclose(with_it.images, without.images, atol=1e-3)


@pytest.mark.parametrize(
    ("scales", "changes", "branches"),
    [
        (Scales(2, 2, 2), {}, 2),
        (Scales(2, 2, 2), {"negative": ["gradients"]}, 2),
        (Scales(1, 1, 1), {}, 1),
        (Scales(2, 3, 4, 1), {}, 4),
        (Scales(2, 3, 4, 0.5), {"negative": ["gradients"]}, 5),
        (Scales(2, 3, 4, 1), {"negative": ["gradients"]}, 4),
        (Scales(2, 3, 4, 1), {"words": (), "show": False, "soft": False}, 2),
    ],
)
def test_evaluations_are_counted(build, scales, changes, branches):
    pipeline, rows = build(scales), []
    hook = pipeline.generator.denoiser.register_forward_hook(lambda *call: rows.append(len(call[-1])))
    pipeline([request(0, **changes), request(1, **changes)])
    hook.remove()
    assert rows == [branches * 2 * 3] * 3  # all branches of all candidates in one batch, step by step
    assert pipeline.evaluations == sum(rows)
    pipeline([request(2, **changes)])
    assert pipeline.evaluations == branches * 3 * 3 * 3


def test_batch_equals_loop_with_every_branch_and_weighting(build):
    pipeline = build(Scales(2, 3, 4, 1), AttentionWeighting())
    requests = [request(0, negative=["gradients"]), request(1, target="a much longer name of a dog"), request(2)]
    together = pipeline(requests)
    for row, one in enumerate(requests):
        assert torch.allclose(pipeline([one]).images[0], together.images[row], atol=1e-3)


def test_scale_of_an_absent_block_does_not_matter(build):
    images = [build(Scales(2, 2, soft, 0.0))([request(soft=False)]).images for soft in (2.0, 5.0)]
    assert torch.equal(*images)


@pytest.mark.parametrize("formula", [Scales, LeaveOneOutScales])
def test_no_keywords_are_no_preference(build, formula):
    pipeline = build(formula(2.0, 3.0, 4.0))
    absent = pipeline([request(words=(), show=False, soft=False)])
    empty, other = pipeline([request(words=(), soft=False), request(1, soft=False)]).images
    assert torch.allclose(empty, absent.images[0], atol=1e-3)
    assert not torch.allclose(other, pipeline([request(1, show=False, soft=False)]).images[0], atol=1e-3)


def test_keywords_at_no_weight_in_attention_are_absent(build):
    hidden = build(weighting=AttentionWeighting(), weights=WeightGrid([0.0]))([request()])
    absent = build(weights=WeightGrid([1.0]))([request(show=False, soft=False)])
    assert torch.allclose(hidden.images, absent.images, atol=1e-3)


def test_negative_words_guide_away(build):
    plain, away = ([request()], [request(negative=["gradients"])])
    assert torch.equal(build()(away).images, build()(plain).images)
    assert not torch.allclose(build(Scales(2, 2, 2, 1))(away).images, build()(plain).images, atol=1e-3)


def test_each_request_is_balanced_by_its_own_alpha(build):
    pipeline = build()
    pipeline.scorer = tiny_scorer(seed=1)  # its cosines are positive here
    alphas = (0.0, 1.0, 0.3)
    generated = pipeline([*(request(alpha=alpha) for alpha in alphas), request(words=(), show=False)])
    for row, alpha in enumerate((*alphas, 0.0)):
        z = [
            alpha * math.log(1 if c.preference is None else c.preference) + (1 - alpha) * math.log(c.accuracy)
            for c in generated.candidates[row]
        ]
        assert [c.z for c in generated.candidates[row]] == pytest.approx(z, abs=1e-5)
        assert generated.picked[row] == max(range(3), key=z.__getitem__)


def test_mismatched_user_is_always_another_one():
    users = [f"u{number}" for number in range(9)]
    other = mismatch({user: user for user in users}, 0)
    assert all(user != other[user] for user in users)
    assert sorted(other.values()) == users


def test_another_window_of_the_same_user_is_no_other_user():
    users = {f"u{number % 3}@{number}": f"u{number % 3}" for number in range(12)}
    other = mismatch(users, 0)
    assert set(other) == set(users)
    assert all(users[profile] != users[other[profile]] for profile in users)
    assert mismatch({"a@0": "a", "a@1": "a"}, 0) == {"a@0": "a@0", "a@1": "a@1"}


@pytest.fixture
def study(shop, build, tmp_path):
    """Builds a study over the same folder again and again."""
    examples = shop.examples("test", users=4, targets=1)
    targets = {example.target.concept: Keywords((example.target.title,), (), ("left out",)) for example in examples}
    builder = RequestBuilder(targets, FixedAlpha(0.4), 0)
    preferences = {
        example.profile: Preference(
            example.profile,
            {
                "keywords": Keywords(("flat",), (), ("too long",)),
                "truth": Keywords((example.liked[0].title,)),
                "dislikes": Keywords(("gradients",), (), ("too many",)),
                "soft": torch.randn(2, 32),
            },
        )
        for example in examples
    }

    def again(hashes=None, scales=Scales(2, 2, 2), soft="a"):  # noqa: B008
        writer = RecordWriter(tmp_path / "study")
        sources = {**dict.fromkeys(("keywords", "truth", "dislikes"), "a"), "soft": soft}
        options = {"batch_size": 3, "hashes": hashes or {"config": "a"}, "sources": sources}
        return DatasetGenerator(build(scales), builder, preferences, writer, **options), examples

    return again, tmp_path / "study"


def test_one_user_alone_has_no_mismatched_control(caplog):
    def controls(*users):
        examples = [Example(f"e{number}", user, (), Item("i", "i", "i"), ()) for number, user in enumerate(users)]
        found = leave_out_control({"none": Method(), "keywords": Method(keywords="x")}, examples)
        return [(name, control) for name, _, control in list_controlled(found)]

    both = [("none", "own"), ("keywords", "own"), ("keywords", "mismatched")]
    assert controls("a", "b") == both
    assert not caplog.text
    assert controls("a", "a") == both[:2]
    assert "nobody else whose preference could be the mismatched control" in caplog.text


def test_study_makes_own_and_mismatched_images_of_each_method(study):
    build, folder = study
    generator, examples = build()
    generator.run(examples, METHODS)
    records = read_records(folder)
    methods = {(record.method, record.control) for record in records}
    personal = {(method, control) for method in ("keywords", "pmg_paper") for control in ("own", "mismatched")}
    assert methods == {("none", "own"), *personal}
    assert len(records) == len(methods) * len(examples)
    own = {example.id: example.profile for example in examples}
    assert all((r.preference_from == own[r.example]) == (r.control == "own") for r in records)
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


def test_what_is_missing_of_a_batch_is_made_as_with_the_whole_batch(study):
    build, folder = study
    build()[0].run(build()[1], {"pmg_paper": METHODS["pmg_paper"]})
    whole = (folder / "records.jsonl").read_text().splitlines()
    pictures = {record.image: (folder / record.image).read_bytes() for record in read_records(folder)}
    (folder / "records.jsonl").write_text("\n".join([*whole[:1], *whole[2:]]) + "\n")
    again, examples = build()
    again.run(examples, {"pmg_paper": METHODS["pmg_paper"]})
    assert again.made == 1
    assert sorted((folder / "records.jsonl").read_text().splitlines()) == sorted(whole)
    assert {name: (folder / name).read_bytes() for name in pictures} == pictures


def test_folder_of_another_config_is_refused(study):
    build, _ = study
    generator, examples = build()
    generator.run(examples, {"none": METHODS["none"]})
    other, _ = build({"config": "b"})
    with pytest.raises(PmgError, match="made with another config"):
        other.run(examples, {"none": METHODS["none"]})


def test_preferences_of_another_source_are_refused_where_a_method_uses_it(study):
    build, _ = study
    generator, examples = build()
    generator.run(examples[:1], {name: METHODS[name] for name in ("keywords", "pmg_paper")})
    other, _ = build(soft="b")
    other.run(examples[:1], {"keywords": METHODS["keywords"]})
    with pytest.raises(PmgError, match="'pmg_paper' made with another preference"):
        other.run(examples[:1], {"pmg_paper": METHODS["pmg_paper"]})


def test_oracle_has_no_mismatched_control():
    assert [(name, control) for name, _, control in list_controlled(ORACLE)] == [("oracle", "own")]


def test_records_say_how_an_image_was_chosen(study):
    build, folder = study
    generator, examples = build(scales=Scales(2, 2, 2, 1))
    generator.run(examples[:2], {"none": METHODS["none"], "pmg_paper": PMG})
    by_method = {record.method: record for record in read_records(folder)}
    pmg, none = by_method["pmg_paper"], by_method["none"]
    points = [(candidate.preference, candidate.accuracy) for candidate in pmg.candidates]
    assert pmg.front == pareto_front(points)
    assert pmg.alpha == 0.4
    assert (pmg.negative_keywords, pmg.dropped_keywords) == (("gradients",), ("left out", "too long", "too many"))
    assert (none.front, none.alpha, none.negative_keywords) == ((), 0.0, ())
    assert none.dropped_keywords == ("left out",)


def test_what_had_no_effect_is_not_in_the_record(study):
    build, folder = study
    generator, examples = build()
    generator.run(examples[:1], {"pmg_paper": PMG})
    (record,) = read_records(folder)[:1]
    assert (record.negative_keywords, record.dropped_keywords) == ((), ("left out", "too long"))


def test_method_of_the_same_name_but_other_blocks_is_refused(study):
    build, _ = study
    generator, examples = build()
    generator.run(examples[:1], {"pmg_paper": PMG})
    other, _ = build()
    with pytest.raises(PmgError, match="made with another method"):
        other.run(examples[:1], {"pmg_paper": replace(PMG, soft_tokens="")})
