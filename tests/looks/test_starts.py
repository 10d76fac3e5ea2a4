"""`stage.start`: a saved model is trained further, and one of other sizes is refused in one line."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from looks import SPACE, deep_codec, save_codec
from pmg.domain import PmgError
from pmg.installation import find_assets
from pmg.looks.catalogue import TargetCaptions
from pmg.looks.drawings import LookData
from pmg.looks.measured_captions import MeasuringCaptioner
from pmg.looks.models.efficientnet_lite import EfficientNetLite
from pmg.looks.models.judge import LookJudge
from pmg.looks.models.scorer import LookScorer, LookScorerConfig
from pmg.looks.stages.autoencoder import LookAutoencoderStage, LookAutoencoderTraining
from pmg.looks.stages.judge import LookJudgeStage, LookJudgeTraining
from pmg.looks.stages.pretraining import count_groups, save_half
from pmg.looks.stages.scorer import LookScorerStage, LookScorerTraining
from pmg.models.tiny_models import tiny_text_encoder
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.runs.run_folder import identify
from pmg.training.optim import adamw, constant

FIT = {"optimizer": adamw(1e-3), "lr_scheduler": constant}


def look_data(topic="tool"):
    return LookData(f"{find_assets()}/drawings", [topic], SPACE, ["twemoji"], 0)


@pytest.fixture(scope="module")
def data():
    return look_data()


@pytest.fixture(scope="module")
def perceptual(root):
    return PerceptualDistance.from_folder(root / "assets" / "lpips")


@pytest.fixture(scope="module")
def trunk(root):
    return EfficientNetLite.from_folder(str(root / "assets" / "efficientnet_lite0"))


@pytest.fixture(scope="module")
def generator_folder(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    save_codec(data, folder)
    return folder


def first_loss(stage, data):
    """Returns the loss of the stage's first step."""
    module, batches = stage.build(data, seed=0)
    module.log_dict = lambda *values, **options: None  # there is no trainer
    torch.manual_seed(0)
    return float(module.training_step(batches.train.batch(0), 0).detach())


def autoencoder_stage(perceptual, start=None, widths=(8, 16)):
    model = deep_codec(torch.zeros(1, 3, 64, 64), widths).autoencoder
    return LookAutoencoderStage("out", model, perceptual, partial(LookAutoencoderTraining, **FIT), 2, start)


def test_an_autoencoder_is_trained_further(data, perceptual, tmp_path):
    other = deep_codec(torch.zeros(1, 3, 64, 64)).autoencoder
    with torch.no_grad():
        other.decoder.conv_out.bias += 1.0
    save_half(other, str(tmp_path / "vae"))
    start = str(tmp_path / "vae")
    fresh, further = (first_loss(autoencoder_stage(perceptual, begun), data) for begun in (None, start))
    assert further != pytest.approx(fresh, abs=0.01)
    with pytest.raises(PmgError, match=r"can't be trained further: .*stage.start=null, or its sizes") as error:
        autoencoder_stage(perceptual, start, widths=(16, 32))
    assert "\n" not in str(error.value)


def scorer_stage(generator_folder, trunk, start=None, width=32, text_width=32):
    captioner = MeasuringCaptioner("{ground}, {outline}")
    torch.manual_seed(0)
    scorer = LookScorer.from_trunk(trunk, width, 64, 2)
    return LookScorerStage(
        "out", str(generator_folder), tiny_text_encoder(width=text_width), captioner, scorer,
        captions=TargetCaptions("sticker"), restored=0.5, training=partial(LookScorerTraining, **FIT),
        batch_size=4, start=start,
    )  # fmt: skip


def test_a_scorer_is_trained_further(data, trunk, generator_folder, tmp_path):
    torch.manual_seed(1)
    scorer = LookScorer(LookScorerConfig(width=32, size=64))
    save_half(scorer, str(tmp_path / "scorer"))
    start = str(tmp_path / "scorer")
    further = scorer_stage(generator_folder, trunk, start)
    assert all(torch.equal(value, scorer.state_dict()[name]) for name, value in further.scorer.state_dict().items())
    assert first_loss(further, data) != pytest.approx(
        first_loss(scorer_stage(generator_folder, trunk), data), abs=1e-3
    )
    with pytest.raises(PmgError, match="can't be trained further") as error:
        scorer_stage(generator_folder, trunk, start, width=16, text_width=16)
    assert "\n" not in str(error.value)


def test_a_scorer_of_another_width_than_the_text_encoder_is_refused(trunk, generator_folder):
    with pytest.raises(PmgError, match=r"32 wide\. Set stage\.scorer\.width=32"):
        scorer_stage(generator_folder, trunk, width=16)


def judge_stage(trunk, generator_folder, folder, batch_size, start=None):
    return LookJudgeStage(
        str(folder), str(generator_folder), partial(LookJudge.from_trunk, trunk=trunk, frozen_stages=2), size=64,
        restored=0.0, spread=0.02,
        training=partial(LookJudgeTraining, **FIT), batch_size=batch_size, start=start,
    )  # fmt: skip


def test_a_judge_of_other_concepts_is_refused(data, trunk, generator_folder, tmp_path):
    def stage(start=None):
        """Returns a stage whose judge begins there."""
        return judge_stage(trunk, generator_folder, tmp_path / "judge", 16, start)

    first = stage()
    judge = first.build(data, seed=0)[0].judge
    judge.config.concepts = list(reversed(judge.config.concepts))
    save_half(judge, first.folder)
    with pytest.raises(PmgError, match="judges other concepts than the data has") as error:
        stage(first.folder).build(data, seed=0)
    assert "\n" not in str(error.value)


def test_batches_that_are_no_whole_groups_or_have_too_many_artists_are_refused(
    data, trunk, generator_folder, tmp_path
):
    with pytest.raises(PmgError, match=r"stage\.batch_size must be a multiple of 8, got 12: set it to 8 or 16"):
        judge_stage(trunk, generator_folder, tmp_path, 12)
    with pytest.raises(PmgError, match=r"must be a multiple of 4, got 3: set it to 4"):
        count_groups(3, 4)
    artists = len(data.rows_by_artist("train", "unseen_artists"))
    judge_stage(trunk, generator_folder, tmp_path, 8 * artists).build(data, seed=0)
    wanted = rf"the data has {artists} artists: set stage\.batch_size={8 * artists} or less"
    with pytest.raises(PmgError, match=wanted):
        judge_stage(trunk, generator_folder, tmp_path, 8 * (artists + 1)).build(data, seed=0)


def test_the_scorers_accuracy_is_that_of_all_pictures_whatever_their_batches(data, trunk, generator_folder, tmp_path):
    stage = scorer_stage(generator_folder, trunk)
    module, batches = stage.build(data, seed=0)
    whole, stage.folder = {**batches.validation[0]}, str(tmp_path)
    save_half(stage.scorer.eval(), stage.folder)  # which rounds the weights
    with torch.no_grad():
        whole["concept"] = stage.module.logits(whole)["title"].argmax(1)
    whole["concept"][-1] = (whole["concept"][-1] + 1) % len(whole["titles"])  # wrong for the last picture alone
    rows = len(whole["images"])
    per_picture = ("images", "concept", "words", "fits")
    batches.validation = [
        {name: part[some] if name in per_picture else part for name, part in whole.items()}
        for some in (slice(rows - 1), slice(rows - 1, None))
    ]
    assert stage.save_and_evaluate((module, batches), data)["title_accuracy"] == pytest.approx(1 - 1 / rows)


def test_a_judge_of_pictures_without_finishes_is_refused(trunk, generator_folder, tmp_path):
    stage = judge_stage(trunk, generator_folder, tmp_path, 16)
    with pytest.raises(PmgError, match=r"stage=look_judge learns the finishes .* metrics=distances"):
        stage.build(object(), seed=0)


def test_a_judge_keeps_the_first_stages_of_its_trunk(data, trunk, generator_folder, tmp_path):
    stage = judge_stage(trunk, generator_folder, tmp_path, 16)
    module, batches = stage.build(data, seed=0)
    module.log_dict = lambda *values, **options: None
    module.training_step(batches.train.batch(0), 0).backward()
    trained = {name for name, one in module.judge.trunk.named_parameters() if one.grad is not None}
    frozen = {name for name, _ in module.judge.trunk.named_parameters()} - trained
    assert {name.split(".")[0] for name in frozen} == {"stem", "stages"}
    assert {name.split(".")[1] for name in frozen if name.startswith("stages")} == {"0", "1"}
    assert all(torch.equal(one, trunk.state_dict()[name]) for name, one in module.judge.trunk.named_parameters())


def test_what_a_training_starts_from_counts_unless_it_replaces_it(compose, tmp_path):
    weights = tmp_path / "models" / "denoiser"
    weights.mkdir(parents=True)
    (weights / "weights.safetensors").write_bytes(b"1234")
    given = ["stage=look_unet", f"stage.start={weights}", f"run_dir={tmp_path}/run"]
    assert "stage.start.content" in identify(compose("pretrain", *given), "pretrain")
    cfg = compose("pretrain", *given, f"into={weights.parent}")
    assert "stage.start.content" not in identify(cfg, "pretrain")
