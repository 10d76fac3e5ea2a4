"""Evaluation of images by all metrics, on a shop with tiny models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from checkpoints import write_clip, write_dinov2
from pmg.domain import Interaction, PmgError, Turn
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.image_evaluation import ImageEvaluation, RowCache, in_order
from pmg.evaluation.metric_builders import build_metrics, check_independent
from pmg.evaluation.metric_interface import Input, MetricInfo
from pmg.evaluation.metrics.lpips import LpipsToHistory
from pmg.evaluation.references import ReferenceMethods, ReferenceReader, preference_words
from pmg.evaluation.result_tables import ResultTables
from pmg.evaluation.results import ResultBuilder, write_results
from pmg.evaluation.set_comparison import compare_sets
from pmg.evaluation.table_rendering import to_markdown
from pmg.installation import find_assets
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.records.storage import Candidate, Record

NEW = {"ms_ssim_truth", "dino_truth", "dino_history", "clip_i_truth", "clip_t_target", "clip_t_preference"}
DISTANCES = {"lpips_truth", "lpips_history", "ssim_truth"}
NO_SETS = ["~metrics.kid_dino", "~metrics.cmmd_clip"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {"dino": write_dinov2(folder / "dino"), "clip": write_clip(folder / "clip")}


@pytest.fixture
def config(compose, checkpoints):
    """Composes `metrics=real` on the tiny checkpoints, with further overrides."""
    users = {"dino": ("dino", "kid_dino"), "clip": ("clip", "cmmd_clip")}
    places = [f"metrics.{each}.features.source={checkpoints[name]}" for name in users for each in users[name]]
    small = ["metrics.kid_dino.subset_size=3", "metrics.kid_dino.subsets=2"]
    return lambda *overrides, group="real": compose("evaluate", f"metrics={group}", *places, *small, *overrides)


def record(example, method, control="own", words=()):
    chosen = Candidate(1.0, 1.0, None, 0.5, 0.1)
    return Record(
        example.id, example.user, method, control, example.user, 0, (chosen,), target_keywords=("red apple",),
        preference_keywords=words,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(shop):
    """Four users' questions, records of three methods, and an image for each: their own truth, or noise."""
    examples = shop.examples("test", 4, 1)
    methods = [("none", "own", ()), ("pmg_paper", "own", ("blue",)), ("pmg_paper", "mismatched", ("outline",))]
    records = {(one := record(example, *method)).key: one for method in methods for example in examples}
    noise = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    truths = shop.images.pixels(shop.images.rows([example.truth[0] for example in examples]))
    pictures = {("pmg_paper", "own"): truths}
    number = {example.id: place for place, example in enumerate(examples)}
    images = {r.key: pictures.get((r.method, r.control), noise)[number[r.example]] for r in records.values()}
    return examples, records, images


def build(metrics, shop, generator, cache=None):
    """The evaluation of these metrics, built as the command builds it."""
    reader = ReferenceReader(shop.images, metrics.inputs, Comparison())
    return ImageEvaluation(metrics.per_image, reader, ReferenceMethods(shop.images, generator), shop.labels, cache)


def judge(cfg, shop, generator, made):
    """Metrics, rows and sets."""
    examples, records, images = made
    metrics = build_metrics(cfg.metrics)
    evaluation = build(metrics, shop, generator)
    rows = in_order([evaluation.rows(examples, records, images)])
    return metrics, rows, compare_sets(metrics.per_set, examples, evaluation.method_images(images))


@pytest.mark.ci
@pytest.mark.slow
def test_results_hold_the_new_columns_and_sets(config, checkpoints, shop, generator, made, tmp_path):
    place = f"metrics.fid_dino.features.source={checkpoints['dino']}"
    cfg = config("metrics.fid_dino.allow_few=true", place, group="[real,fid_dino]")
    metrics, rows, sets = judge(cfg, shop, generator, made)
    assert set(rows.columns) >= NEW
    results = ResultBuilder(metrics.outputs, groups=shop.groups).build(rows, sets=sets)
    for name in NEW - {"clip_t_target", "clip_t_preference", "dino_history"}:  # pmg drew the truth itself here
        assert results["methods"]["pmg_paper"][name]["mean"] == pytest.approx(1, abs=1e-4)
        assert results["methods"]["truth"][name]["mean"] == pytest.approx(1, abs=1e-4)
        assert results["methods"]["none"][name]["mean"] < 0.999
    assert set(results["control"]["pmg_paper"]) >= NEW
    assert list(results["sets"]) == ["kid_dino", "cmmd_clip", "fid_dino"]
    assert list(results["sets"]["fid_dino"]) == ["none", "nearest", "pmg_paper", "vae_reconstruction"]
    assert results["sets"]["fid_dino"]["pmg_paper"] == {"value": pytest.approx(0, abs=1e-3), "n": 4}
    assert results["sets"]["cmmd_clip"]["none"]["value"] > results["sets"]["cmmd_clip"]["pmg_paper"]["value"]
    write_results(tmp_path, results, rows)
    table = (tmp_path / "table.md").read_text()
    assert "DINO to truth ↑ | DINO to history ↑ | CLIP to truth ↑ | CLIP to target's words ↑" in table
    assert "| method | KID (dino) ↓ | CMMD (clip) ↓ | FID (dino) ↓ |" in table


def test_all_methods_are_compared_with_the_own_users_words(shop, generator, made, config):
    _, rows, _ = judge(config("metrics.dino=null", *NO_SETS), shop, generator, made)
    none, other = (
        rows[(rows["method"] == m) & (rows["control"] == c)] for m, c in (("none", "own"), ("pmg_paper", "mismatched"))
    )
    assert none["clip_t_preference"].tolist() == pytest.approx(other["clip_t_preference"].tolist())  # the same noise
    assert "dino_truth" not in rows


def test_own_words_are_those_of_pmg_and_never_the_true_taste(shop):
    (example,) = shop.examples("test", 1, 1)
    oracle, counting = record(example, "oracle", words=("true",)), record(example, "counting", words=("counted",))
    pmg, other = record(example, "pmg_paper", words=("read",)), record(example, "pmg_paper", "mismatched", ("other",))
    assert preference_words([oracle, counting, other, pmg], Comparison()) == ("read",)
    assert preference_words([oracle, counting, other], Comparison()) == ("counted",)
    assert preference_words([oracle, record(example, "none")], Comparison()) == ()


def test_distances_measure_what_they_declare(compose, shop, generator, made):
    metrics, rows, sets = judge(compose("evaluate", "metrics=distances"), shop, generator, made)
    assert set(rows.columns) & (DISTANCES | NEW) == DISTANCES == {info.name for info in metrics.outputs}
    assert list(rows.columns[:4]) == ["example", "user", "method", "control"]
    assert sets == {}
    results = ResultBuilder(metrics.outputs).build(rows[rows["method"] == "none"], sets=sets)
    assert "sets" not in results
    assert "Sets of" not in to_markdown(ResultTables.of(results).build(results), "")


def test_sets_alone_are_compared(compose, checkpoints, shop, generator, made):
    small = ["metrics.kid_dino.subset_size=3", "metrics.kid_dino.subsets=2"]
    cfg = compose("evaluate", "metrics=[kid_dino]", f"metrics.kid_dino.features.source={checkpoints['dino']}", *small)
    metrics, rows, sets = judge(cfg, shop, generator, made)
    assert len(rows) == 24  # four users, three methods of images and three references
    assert list(sets["kid_dino"]) == ["none", "pmg_paper", "nearest", "vae_reconstruction"]
    results = ResultBuilder(metrics.outputs).build(rows, sets=sets)
    assert "KID (dino)" in to_markdown(ResultTables.of(results).build(results), "")


def test_what_selects_never_reports(config, compose, checkpoints, tmp_path):
    metrics = config().metrics
    scorer = compose("generate", "scorer=clip", f"scorer.source={checkpoints['clip']}/.").scorer
    with pytest.raises(
        PmgError, match=r"metrics\.clip\.features and scorer are both .*metrics\.clip\.features\.source"
    ):
        check_independent(metrics, scorer)
    with pytest.raises(PmgError, match=r"and the scorer of runs/a are both"):
        check_independent(metrics, scorer, "the scorer of runs/a")
    node = {"_target_": "x", "source": "openai/clip-vit-large-patch14"}
    hub = OmegaConf.create({"clip": {"features": node}})
    with pytest.raises(PmgError, match="are both openai/clip-vit-large-patch14"):
        check_independent(hub, {"source": "openai/clip-vit-large-patch14"})
    check_independent(hub, {"source": "openai/clip-vit-base-patch32"})
    check_independent(hub, {"folder": "assets/look_scorer"})
    check_independent(metrics, compose("generate").scorer)


def test_equal_models_are_loaded_once_and_null_metrics_left_out(config):
    metrics = build_metrics(config("metrics.clip=null").metrics)
    first, *others = [metric.perceptual for metric in metrics.per_image if hasattr(metric, "perceptual")]
    assert len(others) == 3
    assert all(other is first for other in others)
    (dino,) = (metric for metric in metrics.per_image if type(metric).__name__ == "DinoSimilarity")
    assert metrics.per_set[0].features is dino.features
    assert {info.name for info in metrics.outputs if info.per_set} == {"kid_dino", "cmmd_clip"}


def test_models_that_can_not_be_used_are_named_by_their_key(config):
    missing = config("metrics.dino.features.source=/nowhere")
    with pytest.raises(PmgError, match=r"metrics\.dino\.features: can't load a vision transformer from /nowhere"):
        build_metrics({"dino": missing.metrics.dino})
    cfg = config()
    cfg.metrics.clip.features = cfg.metrics.dino.features
    with pytest.raises(PmgError, match=r"metrics\.clip: features: VisionFeatures encodes no texts"):
        build_metrics({"clip": cfg.metrics.clip})


def test_rows_are_resumed_from_the_cache(shop, generator, made, compose, tmp_path, monkeypatch, caplog):
    examples, records, images = made
    monkeypatch.setattr("pmg.evaluation.image_evaluation.CHUNK", 2)
    monkeypatch.setattr("pmg.evaluation.image_evaluation.JOINED", 2)
    metrics = build_metrics(compose("evaluate", "metrics=lpips_truth").metrics)
    whole = build(metrics, shop, generator).rows(examples, records, images)
    shards = [whole[whole["chunk"] == start] for start in (2, 0)]
    assert in_order(shards).equals(whole.drop(columns="chunk"))
    evaluation = build(metrics, shop, generator, RowCache(tmp_path))
    assert evaluation.rows(examples[:2], records, images).equals(whole[whole["chunk"] == 0])
    judged, judge = [], ImageEvaluation._evaluate
    monkeypatch.setattr(
        ImageEvaluation, "_evaluate", lambda self, some, *rest: judged.append(some) or judge(self, some, *rest)
    )
    assert evaluation.rows(examples, records, images).equals(whole)
    assert judged == [examples[2:]]
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-40])
    assert evaluation.rows(examples, records, images).equals(whole)
    assert "is damaged" in caplog.text
    other = {key: image.flip(-1) for key, image in images.items()}
    assert not evaluation.rows(examples, records, other).equals(whole)
    rated = {key: replace(each, candidates=(Candidate(1.0, 1.0, None, 0.9, 0.2),)) for key, each in records.items()}
    assert set(evaluation.rows(examples[:1], rated, images)["selection_accuracy"].dropna()) == {0.9}


def read(shop, example, *inputs):
    return ReferenceReader(shop.images, inputs, Comparison()).read([example], {example.id: [record(example, "none")]})


def test_disliked_images_are_no_history(shop, generator):
    (example,) = shop.examples("test", 1, 1)
    liked, other = example.liked, shop.picture_items[0]
    mixed = replace(example, history=(*example.history, Interaction(other, "hid", liked=False)))
    (history,) = read(shop, mixed, Input.HISTORIES).histories
    assert torch.equal(history, shop.images.pixels(shop.images.rows(liked)))
    disliked = replace(example, history=tuple(replace(b, liked=False) for b in example.history))
    (none,) = read(shop, disliked, Input.HISTORIES).histories
    assert none.shape == (0, *history.shape[1:])
    nearest = ReferenceMethods(shop.images, generator).nearest([example, disliked])
    assert nearest[0].isfinite().all()
    assert nearest[1].isnan().all()
    same = replace(example, target=replace(example.target, title=liked[2].title))
    assert torch.equal(ReferenceMethods(shop.images, generator).nearest([same])[0], history[2])
    long = replace(example, target=replace(example.target, title="a mug " * 100))
    assert ReferenceMethods(shop.images, generator).nearest([long]).isfinite().all()  # titles are cut


def test_a_reconstruction_is_what_the_generator_draws_of_its_latents(shop, generator):
    examples, methods = shop.examples("test", 2, 1), ReferenceMethods(shop.images, generator)
    truths = shop.images.pixels(shop.images.rows([example.truth[0] for example in examples]))
    assert torch.equal(methods.truth(examples), truths)
    torch.testing.assert_close(methods.reconstruction(examples), generator.decode(generator.encode_images(truths)))
    assert (methods.reconstruction(examples) - truths).abs().max() > 0.01


class Brightness:
    """One value an image, which is never missing."""

    outputs = (MetricInfo("brightness", "brightness"),)
    inputs = ()

    def __call__(self, images, references):
        assert images.isfinite().all()
        return {"brightness": images.mean((1, 2, 3))}


def test_metrics_of_users_without_clicks_are_missing(shop, generator):
    examples = shop.examples("test", 2, 1)
    chat = replace(examples[1], history=(), conversation=(Turn("me", "I love neon."),))
    some, perceptual = [examples[0], chat], PerceptualDistance.from_folder(f"{find_assets()}/lpips")
    reader = ReferenceReader(shop.images, {Input.HISTORIES}, Comparison())
    methods = ReferenceMethods(shop.images, generator)
    records = {(made := record(one, "none")).key: made for one in some}
    images = dict(zip(records, methods.truth(some), strict=True))
    rows = ImageEvaluation([LpipsToHistory(perceptual), Brightness()], reader, methods).rows(some, records, images)
    own, nearest = (rows[rows["method"] == method].set_index("example") for method in ("none", "nearest"))
    assert own["lpips_history"].notna().tolist() == [True, False]
    assert own["brightness"].notna().all()
    assert nearest["brightness"].notna().tolist() == [True, False]


def test_only_declared_inputs_are_prepared_and_missing_ones_refused(shop):
    (example,) = shop.examples("test", 1, 1)
    bare = replace(example, truth=(), history=())
    assert read(shop, bare, Input.TARGET_WORDS).target_words == [("red apple",)]
    with pytest.raises(PmgError, match="has no true image"):
        read(shop, bare, Input.TRUTHS)
