"""What commands use on looks: style tokens as preference sources, and the judge of looks as a metric."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import pmg
from looks import FEW_TOPICS, SPACE
from pmg.cache import Cache
from pmg.domain import Example, Item, PmgError
from pmg.evaluation.metric_interface import References
from pmg.installation import find_assets
from pmg.looks.dataset import LookDataset
from pmg.looks.drawings import REFERENCES
from pmg.looks.finish_targets import SIZE
from pmg.looks.metrics import LookAccuracy, LookJudging, StyleReader
from pmg.looks.models.judge import LookJudge, LookJudgeConfig
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.looks.style_tokens import StyleTokens, TrueStyleTokens
from pmg.looks.true_words import TrueWords
from pmg.looks.users import LookUsers
from pmg.orchestration.preference_sources import build_methods, build_sources, check_labels

USERS = LookUsers(4, 4, 4, 1, 4, 6, noise=0.2, several=0.5, spread=0.03, seed=0)


@pytest.fixture(scope="module")
def data():
    return LookDataset(f"{find_assets()}/drawings", FEW_TOPICS, SPACE, ["twemoji", "noto-line"], 0, USERS)


@pytest.fixture
def source(tmp_path):
    torch.manual_seed(0)
    StyleEncoder(in_channels=3, channels=16, tokens=2, width=8, heads=2).save_pretrained(tmp_path)
    return tmp_path


def context(data, examples):
    generator = SimpleNamespace(encode_images=lambda images: torch.nn.functional.avg_pool2d(images, 8))
    return SimpleNamespace(examples=examples, images=data.images, generator=generator)


def test_style_tokens_depend_on_the_latest_pictures_alone(data, source):
    (example, other) = data.examples("test", 2)
    tokens = StyleTokens(str(source), pictures=2)(context(data, [example, other]))
    assert tokens.shape == (2, 2, 8)
    shorter = Example(example.id, example.user, example.history[-2:], example.target, example.truth)
    assert torch.allclose(StyleTokens(str(source), pictures=2)(context(data, [shorter]))[0], tokens[0], atol=1e-6)
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-3)
    nothing = Example(example.id, example.user, (), example.target, example.truth)
    with pytest.raises(PmgError, match=f"user {example.user} liked nothing that has a picture"):
        StyleTokens(str(source))(context(data, [nothing]))


def test_the_mean_of_pictures_read_alone_is_the_mean_of_each(data, source):
    (example,) = data.examples("test", 1)
    mean = StyleTokens(str(source), pictures=3, alone=True)(context(data, [example]))
    each = [
        StyleTokens(str(source))(context(data, [replace(example, history=(one,))])) for one in example.history[-3:]
    ]
    assert torch.allclose(mean, torch.stack(each).mean(0), atol=1e-6)
    assert not torch.allclose(mean, StyleTokens(str(source), pictures=3)(context(data, [example])), atol=1e-3)


def test_style_tokens_may_read_the_latents_of_another_autoencoder(data, source):
    (example,) = data.examples("test", 1)
    codec = SimpleNamespace(encode=lambda images: torch.nn.functional.max_pool2d(images, 8))
    there = context(data, [example])
    there.generator = SimpleNamespace(encode_images=codec.encode)
    own = StyleTokens(str(source), codec=codec)(context(data, [example]))
    assert torch.equal(own, StyleTokens(str(source))(there))
    assert not torch.allclose(own, StyleTokens(str(source))(context(data, [example])), atol=1e-3)


def test_the_oracle_sees_the_exact_look_and_neither_target_nor_history(data, source):
    for example in data.examples("test"):
        references = TrueStyleTokens(str(source)).references(example, context(data, [example]))
        pictures = [data.images.picture(item) for item in references]
        truth = data.images.picture(example.truth[0])
        assert len(pictures) == REFERENCES
        for picture in pictures:
            assert picture.finish == truth.finish
            assert data.drawings.artists[picture.row] == data.drawings.artists[truth.row]
            assert data.drawings.items[picture.row].concept != example.target.concept
            assert data.splits[picture.row] not in ("validation", "test")


@pytest.mark.ci
@pytest.mark.slow
def test_the_best_of_several_truths_counts(data):
    torch.manual_seed(0)
    judge = LookJudge(LookJudgeConfig(size=48, values=SIZE, concepts=tuple(data.drawings.concepts))).eval()
    several = next(example for example in data.examples("test") if len(example.truth) > 1)
    examples = [data.examples("test", 1)[0], several]
    metric = LookAccuracy(judge, data)
    images = torch.cat([data.images.pixels(data.images.rows([example.truth[0]])) for example in examples])
    values = metric(images, References(examples))
    assert set(values) == {info.name for info in metric.outputs}
    for number, example in enumerate(examples):
        alone = [
            metric(images[[number]], References([Example(example.id, "", (), example.target, (truth,))]))
            for truth in example.truth
        ]
        assert values["finish_error"][number] == pytest.approx(min(float(one["finish_error"]) for one in alone))
        assert values["style_accuracy"][number] == max(float(one["style_accuracy"]) for one in alone)


def test_a_second_judge_has_columns_of_its_own(data):
    torch.manual_seed(0)
    judge = LookJudge(LookJudgeConfig(size=48, values=SIZE, concepts=tuple(data.drawings.concepts))).eval()
    examples = data.examples("test", 2)
    images = torch.cat([data.images.pixels(data.images.rows([example.truth[0]])) for example in examples])
    first, second = LookAccuracy(judge, data), LookAccuracy(judge, data, judge_name="second")
    values, others = first(images, References(examples)), second(images, References(examples))
    assert [info.name for info in second.outputs] == [f"{name}_second" for name in values] == list(others)
    assert all(torch.equal(values[name], others[f"{name}_second"]) for name in values)
    assert [info.title for info in second.outputs][:2] == ["style accuracy (second)", "concept accuracy (second)"]


def test_a_judge_of_other_parameters_than_finishes_have_is_refused(data):
    judge = LookJudge(LookJudgeConfig(size=48, values=SIZE - 1, concepts=("cat",)))
    with pytest.raises(PmgError, match=f"reads {SIZE - 1} values of a finish, and a finish has {SIZE}. Train one"):
        LookJudging(data, StyleReader(judge), [])


def test_style_is_read_once_for_a_judge_and_pictures(tmp_path):
    torch.manual_seed(0)
    judge, other = (LookJudge(LookJudgeConfig(size=48, values=SIZE, concepts=("cat",))).eval() for _ in range(2))
    first, second = torch.rand(2, 3, 3, 64, 64)
    read = StyleReader(judge, Cache(tmp_path))
    styles = read(first)
    assert torch.equal(styles, StyleReader(judge, None)(first))
    assert not torch.equal(read(second), styles)
    assert not torch.equal(StyleReader(other, Cache(tmp_path))(first), styles)
    again = LookJudge(judge.config)
    again.load_state_dict(judge.state_dict())
    again.forward = None  # it can't read
    assert torch.equal(StyleReader(again, Cache(tmp_path))(first), styles)


def test_true_words_are_those_of_the_exact_look_and_not_of_the_clicks(compose, looks):
    cfg = compose("generate")
    example = looks.examples("test", users=1, targets=1)[0]
    captioner, scenario, images = pmg.instantiate(cfg.captioner), pmg.instantiate(cfg.scenario), looks.images
    context = SimpleNamespace(
        examples=[example, replace(example, history=())], images=images,
        extractor=SimpleNamespace(scenario=scenario, budget=SimpleNamespace(fit=lambda words: words)),
    )  # fmt: skip
    source = TrueWords(captioner)
    assert source.requires.labels == ("look_references",)
    words, without_clicks = source(context)
    references = [Item(name, "", "") for name in example.labels["look_references"].split()]
    described = captioner.describe(images.pixels(images.rows(references)))
    assert words == without_clicks
    assert words.words
    for attribute, word in zip(scenario.attributes, words.words, strict=True):
        counted = Counter(one[attribute] for one in described)
        assert counted[word] == max(counted.values())


def test_the_true_taste_is_refused_where_examples_lack_it(compose, looks):
    cfg = compose("generate", "method=[style,oracle]")
    methods = build_methods(cfg.method, cfg.mismatched)
    assert {name: (method.soft_tokens, method.mismatch) for name, method in methods.items()} == {
        "style": ("style", True), "oracle": ("true_style", False),
    }  # fmt: skip
    sources = build_sources(cfg.preference, methods)
    examples = looks.examples("test", users=2, targets=1)
    check_labels(sources, examples)
    missing = r"preference.true_style needs the label 'look_references', .* method=real or ~method.oracle"
    with pytest.raises(PmgError, match=missing):
        check_labels(sources, [type(examples[0])("0", "u", (), examples[0].target, ())])
