"""Training of the preference encoder: what is trained, logged, averaged and saved, and how it is resumed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import pytest
import pytorch_lightning as pl
import torch

from pmg.configuration.keys import schema_spec
from pmg.configuration.schemas import find_schemas
from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Block, join
from pmg.orchestration.builders import start_from
from pmg.runs.content import digest_path
from pmg.runs.run_folder import TRAINED
from pmg.training.checkpoints import BestCheckpoint, LastCheckpoint, Signature
from pmg.training.objective import Contrast, Denoise, ObjectiveTerm
from pmg.training.optim import constant
from pmg.training.preference import PARTS, PreferenceBatches, find_other_users
from runs import write_run
from shops import with_tastes


def trainer(folder, steps, signature="a"):
    return pl.Trainer(
        max_steps=steps, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        callbacks=[LastCheckpoint(str(folder)), Signature({"name": signature})], gradient_clip_val=1.0, max_epochs=-1,
        num_sanity_val_steps=0,
    )  # fmt: skip


BOTH = {"denoise": Denoise(1.0), "contrast": Contrast(0.5, 0.1)}


def weights(*models):
    return [value.clone() for model in models for value in model.state_dict().values()]


@pytest.mark.parametrize("placement", ["late", "front"])
def test_only_the_encoder_is_trained(training, tmp_path, placement):
    module, batches = training(placement=placement)
    language_model, generator = module.frozen.language_model, module.frozen.generator
    frozen = weights(language_model, generator)
    before = {name: value.clone() for name, value in module.encoder.named_parameters()}
    trainer(tmp_path, 3).fit(module, batches)
    after = weights(language_model, generator)
    assert all(torch.equal(a, b) for a, b in zip(frozen, after, strict=True))
    assert not any(parameter.grad is not None for m in (language_model, generator) for parameter in m.parameters())
    assert not generator.training
    assert all(not torch.equal(before[name], value) for name, value in module.encoder.named_parameters())


def test_a_single_training_profile_is_refused_before_the_first_step(training, tmp_path):
    module, batches = training()
    batches.train.rows = batches.train.rows[:1]
    one = trainer(tmp_path, 3)
    with pytest.raises(PmgError, match=r"a single training profile.* set split_sizes\.train=2 or more"):
        one.fit(module, batches)
    assert one.global_step == 0


def test_the_loss_on_one_batch_falls(training):
    module, batches = training()
    batch = batches.train.batch(0)
    optimizer = torch.optim.Adam(module.encoder.parameters(), lr=2e-2)
    losses = []
    for _ in range(15):
        loss = module.step_outputs(batch).own.loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_checkpoint_holds_trained_parts_alone_and_loads_safely(training, tmp_path):
    module, batches = training()
    trainer(tmp_path, 2).fit(module, batches)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(name.startswith("encoder.") for name in checkpoint["state_dict"])
    assert checkpoint["identity"] == {"name": "a"}


@pytest.mark.parametrize(
    "objective",
    [pytest.param({}, id="plain", marks=pytest.mark.slow),
     pytest.param({"ema_decay": 0.9, "terms": BOTH}, id="average and contrast")],
)  # fmt: skip
def test_resumed_equals_uninterrupted(training, tmp_path, stop_at, objective):
    whole, batches = training(**objective)
    trainer(tmp_path / "whole", 6).fit(whole, batches)
    first, batches = training(**objective)
    # the same schedule, stopped half way
    half = trainer(tmp_path / "parts", 6)
    half.callbacks.append(stop_at(3))
    half.fit(first, batches)
    second, batches = training(**objective)
    trainer(tmp_path / "parts", 6).fit(second, batches, ckpt_path=tmp_path / "parts" / "last.ckpt", weights_only=True)
    for module in (whole, second):
        module.recalibrate_statistics(batches.train.rows)
    for (name, a), b in zip(whole.encoder.state_dict().items(), second.encoder.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_training_of_constant_rate_goes_on_for_more_steps(training, tmp_path):
    whole, batches = training(lr_scheduler=constant)
    trainer(tmp_path / "whole", 4).fit(whole, batches)
    first, batches = training(lr_scheduler=constant)
    trainer(tmp_path / "parts", 2).fit(first, batches)
    more, batches = training(lr_scheduler=constant)
    trainer(tmp_path / "parts", 4).fit(more, batches, ckpt_path=tmp_path / "parts" / "last.ckpt", weights_only=True)
    for (name, a), b in zip(whole.encoder.state_dict().items(), more.encoder.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_training_starts_from_the_weights_of_another(training, tmp_path):
    trained, batches = training()
    trainer(tmp_path, 2).fit(trained, batches)
    run = tmp_path / "run"
    trained.encoder.save_pretrained(run / "encoder")
    write_run(run, "train", made={TRAINED: digest_path(run / TRAINED)})
    fresh = training()[0].encoder
    assert not all(map(torch.equal, fresh.state_dict().values(), trained.encoder.state_dict().values()))
    started = start_from(lambda: fresh, str(run))()
    for (name, a), b in zip(started.state_dict().items(), trained.encoder.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert all(parameter.requires_grad for parameter in started.parameters())
    fresh.register_parameter("another", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(PmgError, match=r"init_from: the encoder of .*run has other sizes"):
        start_from(lambda: fresh, str(run))()
    write_run(tmp_path / "run", "train", status="interrupted")
    with pytest.raises(PmgError, match="is interrupted"):
        start_from(lambda: fresh, str(run))


# tests/orchestration/test_processes.py has the first four
ELSEWHERE = {"devices", "num_nodes", "strategy", "use_distributed_sampler", "default_root_dir"}
EXECUTION = {
    "val_check_interval": 1, "check_val_every_n_epoch": None, "num_sanity_val_steps": 1, "log_every_n_steps": 1,
    "enable_model_summary": True, "deterministic": True, "detect_anomaly": True, "accelerator": "cpu",
}  # fmt: skip


@pytest.mark.ci
@pytest.mark.slow
def test_keys_that_decide_no_result_change_no_trained_weight(training, tmp_path, monkeypatch):
    spec = schema_spec(find_schemas()["train"])
    undecided = {key.removeprefix("trainer.") for key in spec if key.startswith("trainer.") and not spec[key]}
    assert undecided == EXECUTION.keys() | ELSEWHERE
    plain, batches = training()
    trainer(tmp_path / "plain", 3).fit(plain, batches)
    other, batches = training(keep=False)  # keep_contexts
    options = {"max_steps": 3, "max_epochs": -1, "gradient_clip_val": 1.0, "enable_progress_bar": False}
    callbacks = [LastCheckpoint(str(tmp_path / "other"), every_s=1e-6)]
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which Lightning sets, too
    try:
        pl.Trainer(**options, **EXECUTION, logger=False, callbacks=callbacks).fit(other, batches)
    finally:
        torch.use_deterministic_algorithms(False)
    for (name, a), b in zip(plain.encoder.state_dict().items(), other.encoder.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


def test_processes_agree_on_values_at_the_steps_that_are_recorded(training, tmp_path, monkeypatch):
    module, batches = training()
    fitting = trainer(tmp_path, 7)
    fitting.log_every_n_steps, fitting.val_check_interval, fitting.check_val_every_n_epoch = 3, 5, None
    reduced, whole = [], fitting.strategy.reduce

    def record(value, *options, **named):
        if options or named:  # Lightning's own call
            return whole(value, *options, **named)
        reduced.append(fitting.global_step + 1)
        return value + 1.0

    monkeypatch.setattr(fitting.strategy, "reduce", record)
    fitting.fit(module, batches)
    names = ["train/denoise", "train/total"]
    assert reduced == [step for step in (3, 5, 6, 7) for _ in names]
    assert all(fitting.callback_metrics[name] > 1.0 for name in names)  # what was reduced is what is logged


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("dropped", list(product([0.0, 1.0], repeat=3)))
def test_dropped_blocks_are_as_if_they_were_not_there(training, dropped):
    module, batches = training(drop=dict(zip(PARTS, dropped, strict=True)))
    module.eval()
    batch = batches.train.batch(0)
    target, keywords, soft = (chance == 0 for chance in dropped)
    language_model, generator = module.frozen.language_model, module.frozen.generator
    users = batch["users"].repeat_interleave(2)
    tokens = module.encoder(language_model, module.user_inputs.select(users))
    blocks = [module.texts.targets[batch["target"]] if target else module.texts.empty.expand(len(users))]
    blocks += [module.texts.keywords[users]] * keywords + [Block(tokens, torch.ones(tokens.shape[:2]).bool())] * soft
    by_hand = generator.loss(batch["latents"], join(*blocks), batch)
    got = module.step_outputs(batch).own.loss
    torch.testing.assert_close(got, by_hand, rtol=1e-3, atol=1e-5)
    module.encoder.zero_grad()
    got.mean().backward()
    assert bool(module.encoder.multimodal_tokens.grad.abs().sum() > 0) == soft


@pytest.mark.parametrize(
    "drop", [{"target": 0.1, "keywords": 0.3}, {"target": 0.1, "keywords": 0.3, "soft": 0.0, "prefix": 0.1},
             {"target": 0.1, "keywords": 1.3, "soft": 0.0}],
)  # fmt: skip
def test_impossible_chances_are_refused(drop, generator):
    with pytest.raises(
        PmgError, match=r"objective\.batches\.drop needs a chance from 0 to 1 for target, keywords, soft"
    ):
        PreferenceBatches(
            samples=[], tastes=[], latents=torch.zeros(1, 1, 1, 1), generator=generator, draws=1, drop=drop
        )


def test_what_is_not_kept_is_computed_to_the_same_loss(training):
    (kept, batches), (unkept, same) = training(), training(keep=False)
    assert type(kept.texts.keywords) is not type(unkept.texts.keywords)
    for step in range(2):
        one, other = (m.step_outputs(b.train.batch(step)).own.loss for m, b in ((kept, batches), (unkept, same)))
        torch.testing.assert_close(one, other)


def test_a_term_that_reads_the_generator_says_so(training):
    module, batches = training()
    batch = batches.train.batch(0)
    lacks = {name: part for name, part in batch.items() if not name.endswith("latents")}
    with pytest.raises(PmgError, match="outputs of the generator without declaring"):
        _ = module.step_outputs(lacks).own
    module.step_outputs(lacks).soft_tokens.sum().backward()  # what doesn't need latents runs


def test_objective_without_terms_is_refused(training):
    with pytest.raises(PmgError, match="name at least one term"):
        training(terms={})


def test_every_term_is_logged_and_the_total_is_their_weighted_sum(training, tmp_path):
    module, batches = training(terms=BOTH)
    fitted = trainer(tmp_path, 1)
    fitted.val_check_interval = 1
    fitted.fit(module, batches)
    for stage in ("train", "val"):
        denoise, contrast, total = (
            float(fitted.callback_metrics[f"{stage}/{name}"]) for name in ("denoise", "contrast", "total")
        )
        assert contrast > 0
        assert total == pytest.approx(denoise + 0.5 * contrast)


def test_other_users_bring_image_and_target_of_the_next_other_taste(training):
    module, batches = training(drop=dict.fromkeys(PARTS, 0.0))
    collate, batch = batches.train.collate, batches.train.batch(0)
    other = torch.tensor(find_other_users([collate.tastes[user] for user in batch["users"]]))
    rows = torch.stack([2 * other, 2 * other + 1], 1).flatten()  # 2 samples a user
    outputs = module.eval().step_outputs(batch)
    moved = {**batch, **{name: batch[name][rows] for name in ("target", "latents")}}
    torch.testing.assert_close(outputs.other.loss, module.step_outputs(moved).own.loss, rtol=1e-4, atol=1e-5)
    assert (outputs.other.loss - outputs.own.loss).abs().max() > 0


@pytest.mark.parametrize(("tastes", "others"), [
    ([0, 1, 2], [1, 2, 0]), ([0, 0, 1], [2, 2, 0]), ([0, 1, 1, 0], [1, 3, 3, 1]), ([0, 0], [0, 1]), ([0], [0]),
    ([], []),
])  # fmt: skip
def test_a_user_of_the_same_taste_is_no_negative(tastes, others):
    assert find_other_users(tastes) == others


def test_examples_of_one_taste_share_their_code(training, shop):
    _, batches = training()
    names = {example.profile: example.labels["taste"] for example in with_tastes(shop.examples("train", 8, 1))}
    pairs = list(zip(names.values(), batches.train.collate.tastes[: len(names)], strict=True))
    assert all((a == b) == (x == y) for a, x in pairs for b, y in pairs)


@dataclass(frozen=True)
class Alignment(ObjectiveTerm):
    """A term that reads predictions: 1 - cosine of prediction and target."""

    weight: float
    needs_prediction: ClassVar[bool] = True

    def __call__(self, outputs):
        denoising = outputs.own.denoising
        assert denoising.noisy_latents.shape == denoising.prediction.shape
        cosine = torch.nn.functional.cosine_similarity(denoising.prediction.flatten(1), denoising.target.flatten(1))
        return 1 - cosine


def test_terms_that_declare_it_get_predictions(training):
    module, batches = training(terms={"denoise": Denoise(1.0), "alignment": Alignment(0.1)})
    outputs = module.step_outputs(batches.train.batch(0))
    values = Alignment(0.1)(outputs)
    assert values.shape == (outputs.samples,)
    values.mean().backward()
    assert module.encoder.multimodal_tokens.grad.abs().sum() > 0
    plain, _ = training()
    with pytest.raises(PmgError, match="needs_prediction = True"):
        Alignment(0.1)(plain.step_outputs(batches.train.batch(0)))


def test_the_reference_has_no_soft_tokens_and_no_gradient(training):
    module, batches = training(drop=dict.fromkeys(PARTS, 0.0))
    batch = batches.train.batch(0)
    outputs = module.step_outputs(batch)
    without = module.step_outputs({**batch, "keep_soft": torch.zeros(outputs.samples, dtype=torch.bool)})
    torch.testing.assert_close(outputs.own_reference.loss, without.own.loss, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(outputs.other_reference.loss, without.other.loss, rtol=1e-3, atol=1e-5)
    assert not outputs.own_reference.loss.requires_grad
    assert outputs.own.loss.requires_grad


class Watch(pl.Callback):
    """Copies the weights after every step and those that a validation sees."""

    def __init__(self):
        self.steps, self.validated = [], []

    def on_train_batch_end(self, trainer, module, *_):
        self.steps.append([parameter.detach().clone() for parameter in module.encoder.parameters()])

    def on_validation_batch_start(self, trainer, module, *_):
        self.validated.append([parameter.detach().clone() for parameter in module.encoder.parameters()])


def test_the_moving_average_is_validated_saved_and_kept(training, tmp_path):
    module, batches = training(ema_decay=0.3)
    fitted, watch = trainer(tmp_path, 4), Watch()
    fitted.callbacks.append(watch)
    fitted.val_check_interval = 2
    fitted.fit(module, batches)
    expected = watch.steps[0]
    for step, decay in enumerate([2 / 11, 3 / 12, 0.3], start=1):
        pairs = zip(expected, watch.steps[step], strict=True)
        expected = [decay * old + (1 - decay) * new for old, new in pairs]
    for seen, average in zip(watch.validated[-1], expected, strict=True):
        torch.testing.assert_close(seen, average)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    (state,) = [state for name, state in saved["callbacks"].items() if "AveragedWeights" in name]
    for shadow, average, last, raw in zip(
        state["shadow_params"], expected, watch.steps[-1],
        [saved["state_dict"][f"encoder.{name}"] for name, _ in module.encoder.named_parameters()], strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(shadow, average)
        assert torch.equal(raw, last)
    module.recalibrate_statistics(batches.train.rows)
    for parameter, average in zip(module.encoder.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter, average)


def test_the_average_of_the_best_validation_is_kept(training, tmp_path):
    module, batches = training(ema_decay=0.9)
    fitted = trainer(tmp_path, 3)
    fitted.callbacks.append(BestCheckpoint(str(tmp_path), mode="max"))  # an early one, as a rule
    fitted.val_check_interval = 1
    fitted.fit(module, batches)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    (state,) = [state for name, state in best["callbacks"].items() if "AveragedWeights" in name]
    module.recalibrate_statistics(batches.train.rows)
    for parameter, average in zip(module.encoder.parameters(), state["shadow_params"], strict=True):
        assert torch.equal(parameter, average)


def test_weights_in_training_come_back_when_a_validation_is_broken_off(training, tmp_path):
    class Broken(Watch):
        def on_validation_batch_end(self, *_):
            raise RuntimeError("a fault")

    module, batches = training(ema_decay=0.9)
    fitted, watch = trainer(tmp_path, 4), Broken()
    fitted.callbacks.append(watch)
    fitted.val_check_interval = 3
    with pytest.raises(RuntimeError, match="a fault"):
        fitted.fit(module, batches)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    for (name, _), last in zip(module.encoder.named_parameters(), watch.steps[-1], strict=True):
        assert torch.equal(saved[f"encoder.{name}"], last), name
