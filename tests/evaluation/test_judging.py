"""From images to results with every judge, over the real catalogue with tiny models."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from checkpoints import write_clip, write_dinov2
from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.evaluation.distribution_metrics import measure_sets
from pmg.evaluation.judging import Judging, in_order, own_words
from pmg.evaluation.metric_builders import build_features, build_measures, build_sets, check_independent
from pmg.evaluation.report import build_results, write_results
from pmg.evaluation.row_cache import KeptRows
from pmg.evaluation.tables import build_tables, to_markdown
from pmg.generation.records import Candidate, Record

NEW = {"ms_ssim_truth", "dino_truth", "dino_history", "clip_i_truth", "clip_t_target", "clip_t_preference"}
DISTANCES = {"lpips_truth", "lpips_history", "ssim_truth"}
OLD = DISTANCES | {"style_accuracy", "concept_accuracy"}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {"dino": write_dinov2(folder / "dino"), "clip": write_clip(folder / "clip")}


@pytest.fixture
def config(compose, checkpoints):
    """Composes `judge=real` on the tiny checkpoints, with further overrides."""
    places = [f"judge.features.{name}.source={folder}" for name, folder in checkpoints.items()]
    small = ["judge.sets.kid.subset_size=3", "judge.sets.kid.subsets=2"]
    return lambda *overrides: compose("evaluate", "judge=real", *places, *small, *overrides)


def record(example, method, control="own", words=()):
    chosen = Candidate(1.0, 1.0, None, 0.5, 0.1)
    return Record(
        example.id, example.user, method, control, example.user, 0, (chosen,), target_keywords=("red apple",),
        preference_keywords=words,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(emoji):
    """Four users' questions, records of three arms, and an image for each: their own truth, or noise."""
    examples = emoji.examples("test", 4, 1)
    arms = [("none", "own", ()), ("pmg", "own", ("blue",)), ("pmg", "mismatched", ("outline",))]
    records = [record(example, *arm) for arm in arms for example in examples]
    noise = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    truths = emoji.images.pixels(emoji.images.rows([example.truth[0] for example in examples]))
    pictures = {("pmg", "own"): truths}
    number = {example.id: place for place, example in enumerate(examples)}
    images = {r.key: pictures.get((r.method, r.control), noise)[number[r.example]] for r in records}
    return examples, records, images


def judge(cfg, emoji, generator, made):
    """Rows and sets, built as the command builds them."""
    examples, records, images = made
    sets = build_sets(cfg.judge, len(examples))
    features = build_features(cfg.judge, sets, "cpu")
    classifier = instantiate(cfg.judge.classifier) if cfg.judge.classifier else None
    judging = Judging(
        emoji.images, classifier, instantiate(cfg.judge.perceptual), generator, build_measures(cfg.judge, features),
        bool(cfg.judge.get("ms_ssim")),
    )  # fmt: skip
    own = {(r.example, r.method): images[r.key] for r in records if r.control == "own"}
    return in_order([judging.rows(examples, records, images)]), measure_sets(
        sets, features, examples, judging.galleries(examples, own)
    )


def test_results_hold_the_new_columns_and_sets(config, emoji, generator, made, tmp_path):
    rows, sets = judge(
        config("judge.sets.fid.features=[dino]", "judge.sets.fid.allow_few=true"), emoji, generator, made
    )
    assert set(rows.columns) >= NEW
    results = build_results(rows, None, {}, {}, sets=sets)
    for name in NEW - {"clip_t_target", "clip_t_preference", "dino_history"}:  # pmg drew the truth itself here
        assert results["arms"]["pmg"][name]["mean"] == pytest.approx(1, abs=1e-4)
        assert results["arms"]["truth"][name]["mean"] == pytest.approx(1, abs=1e-4)
        assert results["arms"]["none"][name]["mean"] < 0.999
    assert set(results["control"]["pmg"]) >= NEW
    assert list(results["sets"]) == ["fid_dino", "kid_dino", "cmmd_clip"]
    assert list(results["sets"]["fid_dino"]) == ["none", "nearest", "pmg", "ceiling"]
    assert results["sets"]["fid_dino"]["pmg"] == {"value": pytest.approx(0, abs=1e-3), "n": 4}
    assert results["sets"]["cmmd_clip"]["none"]["value"] > results["sets"]["cmmd_clip"]["pmg"]["value"]
    write_results(tmp_path, results, rows)
    table = (tmp_path / "table.md").read_text()
    assert "DINO to truth ↑ | DINO to history ↑ | CLIP to truth ↑ | CLIP to target's words ↑" in table
    assert "| method | FID (dino) ↓ | KID (dino) ↓ | CMMD (clip) ↓ |" in table


def test_all_arms_are_compared_with_the_own_users_words(emoji, generator, made, config):
    rows, _ = judge(config("judge.features.dino=null", "judge.sets=null"), emoji, generator, made)
    none, other = (
        rows[(rows["method"] == m) & (rows["control"] == c)] for m, c in (("none", "own"), ("pmg", "mismatched"))
    )
    assert none["clip_t_preference"].tolist() == pytest.approx(other["clip_t_preference"].tolist())  # the same noise
    assert "dino_truth" not in rows


def test_own_words_are_those_of_pmg_and_never_the_true_taste(emoji):
    (example,) = emoji.examples("test", 1, 1)
    oracle, counting = record(example, "oracle", words=("true",)), record(example, "counting", words=("counted",))
    pmg, other = record(example, "pmg", words=("read",)), record(example, "pmg", "mismatched", ("other",))
    assert own_words([oracle, counting, other, pmg]) == ("read",)
    assert own_words([oracle, counting, other]) == ("counted",)
    assert own_words([oracle, record(example, "none")]) == ()


@pytest.mark.parametrize(("name", "columns"), [("emoji", OLD), ("distances", DISTANCES)])
def test_the_other_judges_measure_what_they_did(compose, emoji, generator, made, name, columns):
    rows, sets = judge(compose("evaluate", f"judge={name}"), emoji, generator, made)
    assert set(rows.columns) & (OLD | NEW) == columns
    assert sets == {}
    results = build_results(rows[rows["method"] == "none"], None, {}, {}, sets=sets)
    assert "sets" not in results
    assert "Sets of" not in to_markdown(build_tables(results))


def test_vgg_is_measured_where_it_is_given(config, root):
    cfg = config("judge.features=null")
    cfg.judge.perceptual_vgg = cfg.judge.perceptual  # AlexNet in its place: VGG takes seconds to build
    (vgg,) = build_measures(cfg.judge, {})
    assert type(vgg).__name__ == "VggDistance"


def test_what_selects_never_reports(config, checkpoints, tmp_path):
    cfg = config("scorer=clip", f"scorer.source={checkpoints['clip']}/.")
    with pytest.raises(PmgError, match=r"judge\.features\.clip and scorer are both .*judge\.features\.clip\.source"):
        check_independent(cfg.judge, cfg.scorer)
    with pytest.raises(PmgError, match=r"and the scorer of runs/a are both"):
        check_independent(cfg.judge, cfg.scorer, "the scorer of runs/a")
    hub = OmegaConf.create({"features": {"clip": {"source": "openai/clip-vit-large-patch14"}}})
    with pytest.raises(PmgError, match="are both openai/clip-vit-large-patch14"):
        check_independent(hub, {"source": "openai/clip-vit-large-patch14"})
    check_independent(hub, {"source": "openai/clip-vit-base-patch32"})
    check_independent(hub, {"folder": "assets/scorer"})
    check_independent(config().judge, config().scorer)


def test_too_few_images_and_unknown_features_are_refused_before_anything_is_loaded(config):
    with pytest.raises(PmgError, match=r"there are 4, and 2,000 are needed"):
        build_sets(config("judge.sets.fid.features=[inception]").judge, 4)
    with pytest.raises(
        PmgError, match=r"judge\.sets\.kid\.features: no 'dinno' in judge.features; did you mean 'dino'"
    ):
        build_sets(config("judge.sets.kid.features=[dinno]").judge, 4)
    with pytest.raises(PmgError, match=r"no 'dino' in judge.features .known: clip, inception"):
        build_sets(config("judge.features.dino=null").judge, 4)
    assert list(build_sets(config().judge, 4)) == ["kid", "cmmd"]  # fid names no features


def test_only_features_that_are_used_are_loaded(config):
    sets = build_sets(config().judge, 4)
    assert set(build_features(config().judge, sets, "cpu")) == {"dino", "clip"}
    missing = config("judge.features.dino.source=/nowhere")
    with pytest.raises(PmgError, match=r"judge\.features\.dino: can't load a vision transformer from /nowhere"):
        build_features(missing.judge, {}, "cpu")
    cfg = config()
    cfg.judge.features.clip = cfg.judge.features.dino
    with pytest.raises(PmgError, match=r"judge\.features\.clip reads no texts"):
        build_measures(cfg.judge, build_features(cfg.judge, {}, "cpu"))


def test_what_was_judged_before_is_not_judged_again(emoji, generator, made, config, tmp_path, monkeypatch, caplog):
    examples, records, images = made
    monkeypatch.setattr("pmg.evaluation.judging.CHUNK", 2)
    perceptual = instantiate(config().judge.perceptual)
    whole = Judging(emoji.images, None, perceptual, generator).rows(examples, records, images)
    judging = Judging(emoji.images, None, perceptual, generator, kept=KeptRows(tmp_path))
    assert judging.rows(examples[:2], records, images).equals(whole[whole["chunk"] == 0])
    judged, chunk = [], Judging._chunk
    monkeypatch.setattr(Judging, "_chunk", lambda self, some, *rest: judged.append(some) or chunk(self, some, *rest))
    assert judging.rows(examples, records, images).equals(whole)
    assert judged == [examples[2:]]
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-40])
    assert judging.rows(examples, records, images).equals(whole)
    assert "is damaged" in caplog.text
    other = {key: image.flip(-1) for key, image in images.items()}
    assert not judging.rows(examples, records, other).equals(whole)
