"""Preference sources: several of a kind are methods of one generation, and each refusal names the way out."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch

import pmg
from commands import FEW
from plugins import write_examples
from pmg.commands.generate import body as generate
from pmg.commands.train import body as train
from pmg.configuration import targets
from pmg.configuration.identity import KINDS, used_sources
from pmg.configuration.instantiate import built_class, to_plain
from pmg.configuration.masked_folders import mask_folders
from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.generation.dataset_generation import list_controlled
from pmg.models.preference.visual_encoder import VisualPreferenceEncoder
from pmg.orchestration.preference_sources import (
    build_methods,
    build_sources,
    check_sources,
    hash_sources,
    runs_in_use,
)
from pmg.orchestration.run import execute
from pmg.records.storage import read_records
from pmg.runs.content import select_content
from pmg.runs.run_folder import identify
from runs import write_trained

TINY = [
    "language_model=tiny", "text_encoder=tiny", "generator=tiny", "logger=none", "paths.cache_dir=cache",
    "split_sizes={train: 4, validation: 2, test: 2}", "objective.users_per_step=2", "objective.batches.draws=1",
    "sampling.steps=1", "trainer=cpu", "trainer.max_steps=1", "trainer.val_check_interval=1", "sheet_users=1",
    *FEW,
]  # fmt: skip
THREE = "{_target_: pmg.preferences.keyword_sources.LikedKeywords, decoding: {_target_: \
pmg.preferences.keyword_decoding.Choose, per_attribute: 3}}"


def trained(folder):
    return f"{{_target_: pmg.training.token_sources.TrainedTokens, run: {folder}}}"


def build(cfg):
    return build_sources(cfg.preference, build_methods(cfg.method, cfg.mismatched))


def test_one_key_leaves_out_every_mismatched_control(compose):
    every, own = (
        [
            control
            for _, _, control in list_controlled(
                build_methods(compose("generate", "method=[none,soft,pmg_paper]").method, mismatched)
            )
        ]
        for mismatched in (True, False)
    )
    assert every.count("mismatched") > 1
    assert own == [control for control in every if control == "own"]


def test_sources_in_use_alone_are_built_and_decide(compose):
    cfg = compose("generate", "method=[counting,pmg_paper]", "train_run=elsewhere")
    assert (
        set(build(cfg))
        == {"counting", "dislikes", "keywords", "soft"}
        == used_sources(dict(leaves(mask_folders(cfg))))
    )
    assert runs_in_use(to_plain(cfg)) == {"elsewhere": "soft"}
    assert used_sources({f"method.any.{argument}": argument for argument in KINDS}) == set(KINDS)
    both = compose("generate", "method=[soft,image_prompt]", "train_run=a", "preference.image_prompt.run=b")
    assert list(runs_in_use(to_plain(both)).items()) == [("a", "soft"), ("b", "image_prompt")]
    assert runs_in_use(to_plain(compose("generate", "method=counting", "train_run=elsewhere"))) == {}


@pytest.mark.ci
@pytest.mark.slow
def test_two_keyword_decoders_and_two_encoders_are_told_apart(compose, tmp_path):
    first = write_trained(tmp_path / "a", compose("train"))
    other = write_trained(tmp_path / "b", compose("train", "preference_encoder.soft_tokens=8"))
    cfg = compose(
        "generate", f"preference.soft.run={first}", f"+preference.soft_b={trained(other)}",
        f"+preference.three={THREE}", "+method.soft_b={keywords: three, soft_tokens: soft_b}",
    )  # fmt: skip
    sources = build(cfg)
    check_sources(mask_folders(cfg) | select_content(identify(cfg, "generate")), sources)
    hashes = hash_sources(mask_folders(cfg)["preference"], sources, {})
    assert {"soft", "soft_b", "keywords", "three"} <= set(hashes)
    assert len(set(hashes.values())) == len(hashes)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["method.pmg_paper.keywords=keyword"],
            "method.pmg_paper.keywords: no preference source 'keyword'; did you mean 'keywords'?",
        ),
        (
            ["method.pmg_paper.soft_tokens=counting"],
            "method.pmg_paper.soft_tokens: the preference source 'counting' gives keywords. Name",
        ),
        (
            ["method.pmg_paper.negative=soft"],
            "method.pmg_paper.negative: the preference source 'soft' gives soft tokens. Name",
        ),
        (["+method.mine={word: keywords}"], "method.mine.word is no argument of .* did you mean 'keywords'?"),
        (
            ["method=soft", "train_run=null"],
            "preference.soft.run is not set: name the folder of a pmg-train run, train_run=RUN",
        ),
        (
            ["method=soft", "train_run=nowhere"],
            r"soft: nowhere is not a run folder \(no metrics.json in it\). Run pmg-train run_dir=nowhere first",
        ),
        (["method=soft", "train_run='x/encoders/seed=0'"], "Run pmg-train experiment=encoders first"),
        (["method=soft", "train_run=x/demo_smoke/train"], "Run pmg-train experiment=demo_smoke first"),
    ],
)
def test_refusals_name_the_key_and_the_way_out(compose, overrides, message):
    cfg = compose("generate", *overrides)
    with pytest.raises(PmgError, match=message.replace("?", r"\?")):
        check_sources(mask_folders(cfg) | select_content(identify(cfg, "generate")), build(cfg))


def test_groups_that_have_to_agree_exist(compose, tmp_path):
    run = write_trained(tmp_path / "a", compose("train"))
    cfg = compose("generate", "method=soft", f"train_run={run}", "preference.soft.same_as_training=[dat]")
    with pytest.raises(PmgError, match=r"preference.soft: no config group 'dat'; did you mean 'data'\?"):
        check_sources(mask_folders(cfg) | select_content(identify(cfg, "generate")), build(cfg))


def test_class_of_an_encoder_is_that_of_its_builder(compose):
    assert built_class(compose("train").preference_encoder) is VisualPreferenceEncoder
    scorer = {"_target_": "pmg.models.vision.scorer.EmbeddedScorer.from_folder"}
    assert built_class(scorer).__name__ == "EmbeddedScorer"
    with pytest.raises(PmgError, match="doesn't say what it builds: annotate its result with a class"):
        built_class({"_target_": "pmg.models.loading.weight_sources.load_frozen"})


@pytest.fixture
def extensions(root, tmp_path, monkeypatch):
    """The current folder holds the modules and configs of docs/extending_preferences.md."""
    write_examples((root / "docs" / "extending_preferences.md").read_text(), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(targets, "_allowed", {})
    yield tmp_path
    for name in ("my_sources", "my_encoder"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_own_encoder_and_own_source_are_methods_beside_shipped_ones(extensions, compose):
    """A module and its config each: a training of the encoder, and a generation that adds methods to a folder."""
    plain = compose("train", *TINY, "run_dir=a")
    mine = pmg.compose(
        "train", overrides=[*TINY[1:], "preference_encoder=topics", "plugins=[my_encoder]", "run_dir=mine"]
    )
    mine.language_model = plain.language_model
    execute(mine, "train", train)
    execute(plain, "train", train)
    shutil.copytree("a", "b")
    shared = [*TINY, "run_dir=out", "preference.soft.run=a"]
    execute(compose("generate", *shared, "method=[keywords,soft]"), "generate", generate)
    more = [
        f"+preference.soft_b={trained('b')}",
        "+method.soft_b={keywords: keywords, show_keywords: false, soft_tokens: soft_b}",
        f"+preference.mine={trained('mine')}",
        "+method.mine={keywords: keywords, show_keywords: false, soft_tokens: mine}",
        f"+preference.three={THREE}", "+method.three={keywords: three, negative: dislikes}",
        "plugins=[my_encoder,my_sources]", "method=[keywords,soft,latest]",
    ]  # fmt: skip
    execute(pmg.compose("generate", overrides=[*shared, *more]), "generate", generate)
    made = {record.key: record for record in read_records("out")}
    methods = {key.method for key in made}
    assert methods == {"keywords", "soft", "soft_b", "mine", "three", "latest"}
    example = next(key.example for key in made)
    chosen = {method: made[(example, method, "own", 0)] for method in methods}
    assert chosen["soft"].candidates == chosen["soft_b"].candidates != chosen["mine"].candidates
    assert len(chosen["three"].preference_keywords) > len(chosen["keywords"].preference_keywords)
    assert chosen["latest"].preference_keywords not in [(), chosen["keywords"].preference_keywords]
    identity = json.loads((extensions / "out" / "metrics.json").read_text())["identity"]
    assert identity["preference.mine.run.inputs.size"] == 64
    assert "preference.inversion.steps" not in identity
    assert torch.isfinite(torch.tensor([c.z for record in made.values() for c in record.candidates])).all()
