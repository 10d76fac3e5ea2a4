"""Methods of a pipeline: what images are conditioned on, by name; users are read together as they are alone."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from exports import nodes_of
from pipelines import SCENARIO, write_pipeline
from pmg import PersonalizedPipeline
from pmg.api.call_arguments import UserInput
from pmg.api.export import name_methods
from pmg.api.serialization import INDEX
from pmg.api.user_preference import TOGETHER, read_together
from pmg.domain import Item, PmgError
from pmg.orchestration.exported_pipeline import read_sources

COLOURED = {"pack": "Noto", "colour": "full colour", "outline": "no outline", "shading": "flat"}
DRAWN = {"pack": "Stencil", "colour": "black and white", "outline": "thick black outline", "shading": "soft gradients"}
ONE = [{"title": title, "facts": COLOURED} for title in ("dog face", "cactus")]
OTHER = [{"title": title, "facts": DRAWN} for title in ("crown", "heart", "cat")]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    pipe = PersonalizedPipeline.from_pretrained(write_pipeline(tmp_path_factory.mktemp("pipeline")), "cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def change(folder, **sections):
    """Changes sections of a pipeline's index; returns its folder."""
    path = folder / INDEX
    path.write_text(json.dumps(json.loads(path.read_text()) | sections))
    return folder


def test_each_method_conditions_on_its_own_sources(pipe):
    requests = {method: pipe.read(ONE, "rocket", OTHER, method=method) for method in pipe.methods}
    assert list(requests) == ["pmg_paper", "keywords", "none"]
    assert {name for name, one in requests.items() if one.soft_tokens is not None} == {"pmg_paper"}
    assert {name for name, one in requests.items() if one.keywords.words} == {"pmg_paper", "keywords"}
    assert {name for name, one in requests.items() if one.negative.words} <= {"pmg_paper", "keywords"}
    assert pipe.method == "pmg_paper"
    assert torch.equal(pipe.read(ONE, "rocket").soft_tokens, requests["pmg_paper"].soft_tokens)


def test_the_method_none_draws_as_for_nobody(pipe):
    _, record = pipe.draw_candidates(None, "rocket", 3)
    (one,) = pipe(ONE, "rocket", method="none", generator=torch.Generator().manual_seed(0)).records
    for key in ("target_keywords", "preference_keywords", "negative_keywords", "alpha"):
        assert one[key] == record[key]
    assert one["preference_keywords"] == []


def test_unknown_methods_are_refused_with_the_nearest_one(pipe):
    with pytest.raises(
        PmgError, match=r"method is 'keyword', which .* did you mean 'keywords'.* Methods: pmg_paper, key"
    ):
        pipe(ONE, "rocket", method="keyword")
    with pytest.raises(PmgError, match="method is 3, which this pipeline doesn't have"):
        pipe.extract_preference(ONE, method=3)


def test_users_of_a_batch_are_read_together_as_alone(pipe, monkeypatch):
    calls = []
    extract = pipe.extractor.extract

    def counted(given, *rest, **more):
        calls.append(len(given))
        return extract(given, *rest, **more)

    monkeypatch.setattr(pipe.extractor, "extract", counted)
    histories = [ONE, OTHER, ONE[:1]]
    together = [pipe.extract_preference(history) for history in histories]
    assert calls == [1, 1, 1]
    users, _ = pipe.arguments.users(histories, (), ())
    for alone, read in zip(together, pipe._read(users, None), strict=True):
        assert alone.keywords.words == read.keywords.words
        torch.testing.assert_close(alone.sources.rows["soft"], read.sources.rows["soft"])
    assert calls == [1, 1, 1, 3]


def test_users_who_mean_different_items_by_one_id_are_read_apart():
    def user(level, name="same", size=64):
        return UserInput([(Item(name, "dog", "dog"), Image.new("RGB", (size, size), (level,) * 3))], (), ())

    assert [len(group) for group in read_together([user(9), user(9), user(8), user(8, "other")])] == [2, 2]
    assert [len(group) for group in read_together([user(9), user(9, size=32)])] == [1, 1]  # read at another size
    assert [len(group) for group in read_together([user(9)] * (TOGETHER + 1))] == [TOGETHER, 1]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"methods": {}}, "methods is empty"),
        ({"methods": ["none"]}, "methods is no mapping"),
        ({"methods": {"mine": {"keywords": "keyword"}}}, "no preference source 'keyword'; did you mean 'keywords'"),
        ({"methods": {"mine": {"keywords": "soft"}}}, "'soft' gives soft tokens. Name one that gives keywords"),
        ({"methods": {"mine": {"keyword": "keywords"}}}, "methods.mine.keyword is no argument"),
        ({"methods": {"mine": {"strength": 0.5}}}, "a method has a start with its strength"),
        ({"methods": {"mine": {"start_denoiser": "os.system"}}}, "start_denoiser can't be 'os.system'"),
        ({"preference": {"soft": {"_class_name": "TrainedTokens", "run": "/"}}}, "not allowed: 'TrainedTokens'"),
        ({"preference": {"soft": {"_class_name": "os.system"}}}, "preference.soft._class_name is not allowed"),
        ({"preference": {"soft": {"_class_name": "LoadedTokens", "encoder": "mine"}}}, "soft.encoder can't be 'mine'"),
    ],
)  # fmt: skip
def test_methods_and_sources_of_strangers_are_checked(tmp_path, sections, message):
    folder = change(write_pipeline(tmp_path), **sections)
    with pytest.raises(PmgError) as error:
        PersonalizedPipeline.from_pretrained(folder, "cpu")
    assert message in str(error.value)


def test_sources_of_the_exported_encoder_become_the_pipelines_own(compose, tmp_path):
    pytest.importorskip("pmg.looks.style_tokens", reason="style tokens are a leaf's")
    cfg = compose("train", "image_encoder=style", f"run_dir={tmp_path}")
    methods = {
        "pmg_read": {"_target_": "pmg.generation.requests.Method", "keywords": "read", "soft_tokens": "soft"},
        "mean_style": {"keywords": "counting", "show_keywords": False, "soft_tokens": "mean_style", "negative": ""},
    }
    sources = read_sources(cfg, str(tmp_path), methods, [])
    written = name_methods(methods, sources, str(tmp_path), reads=True)
    assert written["methods"] == {
        "pmg_read": {"keywords": "read", "soft_tokens": "soft"},
        "mean_style": {"keywords": "counting", "show_keywords": False, "soft_tokens": "mean_style"},
    }
    assert written["preference"]["soft"] == {"_class_name": "LoadedTokens"}
    assert written["preference"]["read"] == {"_class_name": "LoadedKeywords", "least": 0.15}
    assert written["preference"]["mean_style"]["_class_name"] == "StyleTokens"
    without = name_methods(methods, sources, str(tmp_path), reads=False)
    assert list(without["methods"]) == ["mean_style"]
    assert set(without["preference"]) == {"counting", "mean_style"}
    with pytest.raises(PmgError, match=r"preference\.soft is of another training"):
        name_methods(methods, sources, "elsewhere", reads=True)
    assert set(nodes_of(compose("study"))) > {"methods", "preference"}


@pytest.fixture(scope="module")
def wishing(tmp_path_factory):
    """Returns a pipeline whose default method reads wishes by a rule."""
    colours = {"names": ["colour"], "words": {}, "alone": {"black and white": ["monochrome"]}}
    shades = {"names": ["shading"], "words": {"flat": ["flat", "no"]}, "alone": {"soft gradients": ["gradients"]}}
    cues = {"negations": ["no"], "behind": ["off"], "keeps": ["keep"], "before": ["back"], "breaks": ["but"]}
    rule = {
        "_class_name": "WishRule", "attributes": {"colour": colours, "shading": shades}, "colours": {}, "cues": cues,
        "reach": 5, "spelling": 4, "example": "monochrome",
    }  # fmt: skip
    spoken = {"_class_name": "SpokenKeywords", "wishes": rule}
    wished = {"_class_name": "WishedKeywords", "wishes": rule, "emphasis": 5.0, "limit": 8}
    folder = change(
        write_pipeline(tmp_path_factory.mktemp("wishing")),
        scenario=SCENARIO | {"chat_template": "{conversation}\n{instruction}", "turn": "{speaker}: {text}"},
        methods={"pmg": {"keywords": "spoken", "compared": "wished"}, "none": {}},
        preference={"spoken": spoken, "wished": wished},
    )
    pipe = PersonalizedPipeline.from_pretrained(folder, "cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_message_names_what_it_asks_for_and_is_compared_with_the_whole_look(wishing):
    silent, asked = (wishing.read(ONE, "rocket", conversation=said) for said in ((), [("user", "monochrome please")]))
    assert silent.keywords.words == ()
    assert set(silent.compared.words) == {"full colour", "flat"}
    assert asked.keywords.words == ("black and white",)
    assert asked.compared.words == ("black and white", "flat")
    assert asked.compared.scores == (5.0, 1.0)
    assert asked.wanted is asked.compared


def test_users_are_told_of_messages_without_a_wish_in_records_and_notebooks(wishing):
    seed = torch.Generator().manual_seed(0)
    output = wishing(ONE, "rocket", conversation=[("user", "<b>hm</b>")], generator=seed)
    (record,) = output.records
    assert record["note"] == 'I found no wish in: "<b>hm</b>"; try: monochrome'
    html = output._repr_html_()
    assert "<b>note</b> I found no wish in: &quot;&lt;b&gt;hm&lt;/b&gt;&quot;" in html
    silent = wishing(ONE, "rocket", generator=torch.Generator().manual_seed(0))
    assert silent.records[0]["note"] == ""
    assert "<b>note</b>" not in silent._repr_html_()
