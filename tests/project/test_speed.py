"""The benchmark: the naive ways are right, on tiny models, and its numbers are what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(benchmarks):
    """The package benchmarks."""
    import benchmarks.diffusers_loop
    import benchmarks.generation
    import benchmarks.kernels
    import benchmarks.keywords
    import benchmarks.report
    import benchmarks.training

    return benchmarks


@pytest.fixture
def plan(bench, tmp_path):
    """The smoke plan."""
    return bench.stack.smoke(tmp_path)


@pytest.mark.slow
def test_naive_training_has_the_loss_and_the_gradients_of_pmg(bench, plan):
    drop = "objective.batches.drop={target: 0.5, keywords: 0.5, soft: 0.3}"
    torch.manual_seed(0)
    training = bench.stack.build_training(bench.stack.Study(plan, "train", *bench.training.OVERRIDES, drop))
    encoder = training.module.encoder
    with torch.no_grad():  # at its start an encoder copies: what the language model says has no effect yet
        for weight in (encoder.map.weight, encoder.picture_mean.query.weight, encoder.picture_mean.query.bias):
            weight.normal_(std=0.1)
    batches = bench.training.NaiveBatches(training, 8)
    batch = batches.batches.batch(0)
    for part in ("target", "keywords", "soft"):
        assert set(batch[f"keep_{part}"].tolist()) == {True, False}, "the batch must drop some and keep some"
    naive = bench.training.build_naive(training)
    ours = training.module.step_outputs(training.batches.train.collate.read(batch)).own.loss.mean()
    theirs = naive.training_step(batches.translate(batch), 0)
    assert theirs.item() == pytest.approx(ours.item(), rel=1e-5)
    ours.backward()
    theirs.backward()
    expected = dict(encoder.named_parameters())
    for name, parameter in naive.encoder.named_parameters():
        gradient = expected[name].grad
        assert (parameter.grad - gradient).norm() < 1e-3 * gradient.norm() + 1e-7, name
    assert sum(float(p.grad.abs().max()) > 1e-6 for p in expected.values()) > len(expected) - 2


@pytest.mark.slow
def test_plain_generation_draws_what_the_pipeline_draws(bench, plan):
    study = bench.stack.build_study(plan, "sampling.bfloat16=false")
    requests = bench.stack.build_requests(study, study.examples("test"))
    pipeline = bench.stack.build_drawing(study)
    plain = bench.plain_models.plain_models(pipeline.generator)
    ours, make = pipeline(requests).images, bench.plain_generation.plain_generator
    alike = make(pipeline, plain, pipeline.steps)
    assert torch.allclose(ours, alike(requests), atol=2e-3)
    assert torch.allclose(ours, bench.generation.draw_each(alike, pipeline, requests), atol=2e-3)
    other = make(pipeline, plain, pipeline.steps + 2)
    assert not torch.allclose(ours, other(requests), atol=2e-3)


@pytest.mark.slow
def test_the_recorded_benchmark_makes_its_requests_as_the_smoke_run_does(bench, plan):
    study = bench.stack.build_study(plan)
    study.plan = bench.stack.full(plan.folder)  # its models stay tiny
    requests = bench.stack.build_requests(study, study.examples("test")[:2])
    assert [request.soft_tokens.isfinite().all().item() for request in requests] == [True, True]


def test_quality_is_equal_unless_ours_is_worse(bench):
    users, better = [f"u{n}" for n in range(30)], torch.ones(30).numpy()
    worse = better - 0.5
    for name, ours, naive, equal in (
        ("style_accuracy", better, worse, True), ("style_accuracy", worse, better, False),
        ("lpips_truth", worse, better, True), ("lpips_truth", better, worse, False),
    ):  # fmt: skip
        assert bench.generation.compare({name: ours}, {name: naive}, users)["equal"] is equal


@pytest.mark.slow
def test_naive_keywords_are_written_behind_the_same_texts(bench, plan):
    study = bench.stack.build_study(plan)
    histories = study.histories(study.examples("test"))
    language_model, attributes = study.extractor.language_model, study.extractor.scenario.attributes.values()
    questions, longest = [attribute.question for attribute in attributes], bench.keywords.longest_answer(study)
    model = bench.plain_models.plain_language_model(language_model)
    ask = bench.keywords.ask_each
    naive = ask(model, language_model.tokenizer, histories, questions, longest)
    context = language_model.prefill(histories)
    ours = [language_model.generate(context, question, longest) for question in questions]
    assert naive == [list(answers) for answers in zip(*ours, strict=True)]
    assert any(answer for answers in naive for answer in answers)


def test_speedup_is_the_ratio_of_medians_with_an_interval(bench):
    found = bench.timing.speedup([10.0, 20.0, 30.0], [2.0, 4.0, 6.0])
    assert found["ratio"] == 5.0 == pytest.approx(found["low"]) == pytest.approx(found["high"])
    noisy = bench.timing.speedup([10.0, 20.0, 30.0], [1.0, 1.0, 1.0])
    assert noisy["low"] == 10.0 < noisy["ratio"] == 20.0 < noisy["high"] == 30.0
    assert noisy["ours"]["quartiles"] == [15.0, 25.0]


def test_ways_take_turns_and_the_first_round_is_left_out(bench):
    order = []
    ways = {name: lambda name=name: order.append(name) or float(len(order)) for name in "ab"}
    assert bench.timing.alternate(ways, 2, "") == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert order == list("ababab")


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_exponent_of_growth(bench, power):
    sizes = [2, 4, 8, 16]
    assert bench.timing.exponent(sizes, [3.0 * size**power for size in sizes]) == pytest.approx(power)


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::addmm", "matrix"), ("aten::mkldnn_convolution", "convolution"),
        ("aten::convolution_backward", "convolution"), ("aten::_softmax_backward_data", "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::native_group_norm_backward", "normalisation"), ("aten::copy_", None), ("aten::norm", None),
        ("MmBackward0", None), ("aten::index_add", None), ("mkldnn::_linear_pointwise", "matrix"),
        ("mkldnn::_convolution_pointwise_", "convolution"), ("graph_1_cpp_fused__softmax_21", "attention"),
        ("graph_1_cpp_fused__to_copy_add_convolution_native_group_norm_silu_9", "normalisation"),
        ("graph_0_cpp_fused__to_copy_mean_mul_pow_rsqrt_0", "normalisation"),  # RMS, written out
        ("graph_0_cpp_fused__to_copy_convolution_backward_gelu_3", None), ("graph_0_cpp_fused_bmm_clone_2", None),
    ],
)  # fmt: skip
def test_kinds_of_kernels(bench, operation, kind):
    assert bench.kernels.kind_of(operation) == kind


def test_shares_of_a_step_sum_to_one(bench):
    found = bench.kernels.shares({"aten::mm": 5.0, "aten::copy_": 2.0, "aten::add": 1.0}, wall=10.0)
    assert found["kernels"]["matrix"] == 0.5 == found["outside"]
    assert found["others"] == {bench.kernels.BETWEEN: pytest.approx(0.2), "aten::copy_": 0.2, "aten::add": 0.1}


def test_profile_of_matrix_products_is_matrix_products(bench):
    left = torch.randn(600, 600)
    found = bench.kernels.profiled(lambda: [left @ left for _ in range(20)])
    assert found["kernels"]["matrix"] > 0.5
    assert found["kernels"]["convolution"] == 0


def test_operations_of_a_matrix_product_are_counted(bench):
    from benchmarks.limit import rate

    left, right = torch.randn(8, 16), torch.randn(16, 4)
    assert rate(lambda: left @ right)["operations"] == 2 * 8 * 16 * 4


def test_report_holds_bounds_against_numbers(bench, tmp_path):
    origin = {
        "machine": {"processor": "P", "cores": 2},
        "bfloat16": True,
        "threads": 2,
        "load": 0.1,
        "revision": "abc",
    }
    speedup = bench.timing.speedup([20.0, 22.0], [2.0, 2.0])
    step = {"kernels": {"matrix": 0.88}, "outside": 0.12, "others": {"aten::copy_": 0.12}, "seconds": 2.0}
    parts = {
        "training": {"speedup": speedup, "origin": origin},
        "kernels": {"training": step, "sampling": step, "origin": origin},
    }
    text = bench.report.write_report(parts, tmp_path)
    ratios = json.loads((tmp_path / "results.json").read_text())["ratios"]
    assert ratios["training"] == {"value": 10.5, "at_least": 10, "met": True, "low": 10.0, "high": 11.0}
    assert ratios["outside_kernels_training"]["met"]
    assert not ratios["outside_kernels_sampling"]["met"]
    assert ratios["time_of_compiled_sampling"] == {"value": 1.0}
    assert "| outside kernels sampling | 0.12 | ≤ 0.1 | **no** |" in text == (tmp_path / "table.md").read_text()
    assert (tmp_path / "shares.png").stat().st_size > 1000


@pytest.mark.slow
def test_smoke_makes_table_and_figures(shell, tmp_path):
    program = sys.executable, "-m", "benchmarks.speed", "--smoke", "--into", "into"
    done = shell(*program, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path.name for path in (tmp_path / "into").iterdir()} == {
        "results.json", "table.md", "growth.png", "shares.png",
    }  # fmt: skip
    assert set(json.loads((tmp_path / "into" / "results.json").read_text())["parts"]) > {"training", "startup"}

    done = shell(*program, "--only", "limit", PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "training:" not in done.stdout, "other parts are kept as they are"
