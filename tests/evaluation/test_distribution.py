"""Distances of sets: closed forms, invariances, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from pmg.domain import Example, Item, PmgError
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.metrics.distribution import Cmmd, Fid, Kid
from pmg.evaluation.result_tables import ResultTables
from pmg.evaluation.set_comparison import compare_sets


def vectors(count, width=6, seed=0, shift=0.0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + shift


def frechet(a, b):
    """The closed formula for Gaussians with the moments of a and b."""
    means, covariances = zip(*((x.mean(0), np.cov(x, rowvar=False)) for x in (a, b)), strict=True)
    root = sqrtm(covariances[0] @ covariances[1]).real
    return ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)


def test_fid_is_the_closed_formula():
    a, b = vectors(300), vectors(400, seed=1, shift=0.5) * torch.arange(1, 7)
    got = Fid(allow_few=True)(a, b)["value"]
    assert got == pytest.approx(frechet(a.double().numpy(), b.double().numpy()), rel=1e-6)
    assert Fid()(a, a)["value"] == pytest.approx(0, abs=1e-6)


def test_fid_of_known_gaussians():
    a = vectors(1000, 2).double()
    a = (a - a.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(a.T.cov())).T  # mean 0, covariance 1
    torch.testing.assert_close(a.T.cov(), torch.eye(2, dtype=torch.float64))
    b = 3 * a + torch.tensor([1.0, -2.0])
    assert Fid()(a, b)["value"] == pytest.approx(1 + 4 + 2 * (3 - 1) ** 2)


def test_kid_is_the_unbiased_estimate():
    a, b = vectors(40).double(), vectors(40, seed=1, shift=0.3).double()

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def without_itself(x):
        whole = kernel(x, x)
        return (whole.sum() - whole.trace()) / (len(x) * (len(x) - 1))

    expected = without_itself(a) + without_itself(b) - 2 * kernel(a, b).mean()
    got = Kid(subsets=3, subset_size=40)(a, b)  # every subset is the whole set
    assert got["value"] == pytest.approx(float(expected), rel=1e-6)
    assert got["std"] == pytest.approx(0, abs=1e-9)
    half = Kid(subsets=20, subset_size=20)
    assert half(a, b) == half(a, b)  # drawn from the seed alone
    assert half(a, b)["std"] > 0


def test_kid_leaves_the_global_seed_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    Kid(subsets=2, subset_size=4)(vectors(8), vectors(8, seed=1))
    assert torch.equal(torch.rand(1), expected)


def test_cmmd_is_the_unbiased_estimate_of_a_loop():
    a, b = vectors(5), vectors(4, seed=1)
    x, y = ((v / v.norm(dim=1, keepdim=True)).double() for v in (a, b))

    def k(u, v):
        return float(torch.exp(-(u - v).square().sum() / (2 * 10**2)))

    within = sum(
        sum(k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / (len(s) * (len(s) - 1))
        for s in (x, y)
    )
    across = sum(k(u, v) for u in x for v in y) / (len(x) * len(y))
    assert Cmmd()(a, b)["value"] == pytest.approx(1000 * (within - 2 * across), rel=1e-5)


def test_cmmd_of_equal_sets_and_of_samples_of_one_distribution():
    a = vectors(30)
    x = (a / a.norm(dim=1, keepdim=True)).double()
    kernel = ((x @ x.T - 1) / 100).exp()
    apart = (kernel.sum() - 30) / (30 * 29)  # mean kernel of two different ones
    assert Cmmd()(a, a)["value"] == pytest.approx(float(-2000 * (1 - apart) / 30), rel=1e-5)
    draws = [Cmmd()(vectors(50, seed=2 * n + 1), vectors(50, seed=2 * n + 2))["value"] for n in range(60)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / 60**0.5
    assert Cmmd()(vectors(50), vectors(50, seed=1, shift=2.0))["value"] > 10 * np.std(draws)


@pytest.mark.parametrize("metric", [Fid(allow_few=True), Kid(subsets=2, subset_size=30), Cmmd()])
def test_order_of_images_does_not_matter(metric):
    a, b = vectors(30), vectors(30, seed=1, shift=0.2)
    shuffled = metric(a[torch.randperm(30)], b[torch.randperm(30)])
    assert shuffled["value"] == pytest.approx(metric(a, b)["value"], rel=1e-6)


def test_small_sets_are_refused():
    with pytest.raises(
        PmgError, match=r"there are 200, and 2,000 are needed.*KID is unbiased.*fid_dino\.allow_few=true"
    ):
        Fid("dino").check(200)
    Fid().check(2000)
    Fid(allow_few=True).check(2)
    with pytest.raises(PmgError, match=r"subsets of 100 from 60 images: set metrics\.kid_features\.subset_size"):
        Kid().check(60)
    Kid().check(100)
    with pytest.raises(PmgError, match=r"there are 1 images; metrics\.cmmd_features=null"):
        Cmmd().check(1)


def colours(images):
    """Real features, if tiny: each channel's mean and deviation."""
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


@pytest.fixture
def examples():
    item = Item("i", "i", "i")
    return [Example(str(number), str(number), (), item, (item,)) for number in range(70)]


def test_every_method_is_compared_with_the_reference(examples):
    shapes = []

    def method(seed):
        whole = torch.rand(70, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1

        def show(some):
            shapes.append(len(some))
            return whole[[int(example.id) for example in some]]

        return show, whole

    (truth, real), (pmg, made) = method(0), method(1)
    metrics = [Kid(name, colours, 4, 20) for name in ("colours", "same")] + [Cmmd("colours", colours)]
    found = compare_sets(metrics, examples, {"pmg_paper": pmg, "truth": truth})
    assert list(found) == ["kid_colours", "kid_same", "cmmd_colours"]
    assert max(shapes) <= 32
    assert len(shapes) == 6  # chunks of two methods: three metrics share one encoder
    expected = {**Cmmd()(colours(made), colours(real)), "n": 70}
    assert found["cmmd_colours"] == {"pmg_paper": pytest.approx(expected, rel=1e-6)}
    assert found["kid_colours"] == found["kid_same"]
    assert set(found["kid_colours"]["pmg_paper"]) == {"value", "std", "n"}


def test_a_method_with_too_few_images_is_left_out(examples, caplog):
    noise = torch.rand(70, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def show(some, users=70):
        numbers = torch.tensor([int(example.id) for example in some])
        return torch.where((numbers < users)[:, None, None, None], noise[numbers], torch.nan)

    metrics = [Kid("colours", colours, 2, 40), Cmmd("colours", colours)]
    found = compare_sets(metrics, examples, {"pmg_paper": show, "nearest": lambda some: show(some, 39), "truth": show})
    assert list(found["kid_colours"]) == ["pmg_paper"]
    assert found["cmmd_colours"]["nearest"]["n"] == 39
    assert "kid_colours of nearest is left out" in caplog.text
    table = ResultTables([metric.outputs[0] for metric in metrics], Comparison()).sets(found)
    assert "39 to 70 images" in table.title
    assert table.rows[1][1].text == "–"


def test_too_few_examples_are_refused(examples):
    with pytest.raises(PmgError, match="subset_size"):
        compare_sets([Kid("colours", colours)], examples, {"truth": lambda some: torch.zeros(len(some), 3, 8, 8)})
    with pytest.raises(PmgError, match=r"metrics\.kid_dino\.features: not set"):
        compare_sets([Kid("dino")], examples, {})
    assert compare_sets([], examples, {}) == {}


def test_table_marks_the_nearest_set_of_those_that_compete():
    sets = {
        "kid_dino": {name: {"value": v, "std": 0.25, "n": 9} for name, v in [("none", 2.0), ("pmg_paper", -1.5)]},
        "cmmd_clip": {name: {"value": v, "n": 9} for name, v in [("none", 0.5), ("pmg_paper", 0.75)]},
    }
    for values in sets.values():
        values["vae_reconstruction"] = {**values["pmg_paper"], "value": -9.0}
    tables = ResultTables([Kid("dino").outputs[0], Cmmd("clip").outputs[0]], Comparison())
    table = tables.sets(sets)
    assert table.header == ("method", "KID (dino) ↓", "CMMD (clip) ↓")
    assert "9 images" in table.title
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["none", "2 ± 0.25", "0.5"], ["pmg_paper", "−1.5 ± 0.25", "0.75"], ["vae_reconstruction", "−9 ± 0.25", "−9"],
    ]  # fmt: skip
    assert [[cell.best for cell in row[1:]] for row in table.rows] == [[False, True], [True, False], [False, False]]
    assert not tables.sets({}).rows
