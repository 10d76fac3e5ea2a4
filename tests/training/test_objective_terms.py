"""The objective terms of docs/extending.md, run as they are printed there, from a module outside of pmg."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path

import pytest
import torch

from pmg.domain import Item, PmgError
from pmg.preferences.scenarios import Attribute
from pmg.training.objective import (
    AcceptedTokens,
    Align,
    Answer,
    Answers,
    Contrast,
    Denoise,
    DiffusionDPO,
    SampleOutputs,
    StepOutputs,
)
from pmg.training.preference_setup import describe_accepted

GUIDE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def my_terms(importable):
    """The module of the guide's section."""
    section = GUIDE.read_text().split("## An objective term")[1]
    (importable / "my_terms.py").write_text(re.search(r"```python\n(.*?)```", section, re.S)[1])
    return importlib.import_module("my_terms")


def test_terms_of_the_guide_train_without_a_change_of_the_module(training, my_terms):
    terms = {"alignment": my_terms.KeywordAlignment(0.1), "preference": DiffusionDPO(0.5, beta=100.0)}
    module, batches = training(terms={"denoise": Denoise(1.0), **terms})
    outputs = module.step_outputs(batches.train.batch(0))
    values = {name: term(outputs) for name, term in terms.items()}
    assert values["alignment"].shape == (len(outputs.soft_tokens),)
    assert values["preference"].shape == (outputs.samples,)
    for value in values.values():
        (gradient,) = torch.autograd.grad(value.mean(), module.encoder.multimodal_tokens, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_contrast_is_bounded_and_has_no_gradient_once_the_margin_is_reached():
    own, other = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.1, 0.55, 9.0], requires_grad=True)
    losses = {"own": own, "other": other}
    outputs = StepOutputs(torch.zeros(3, 1, 1), None, 1, lambda owner, soft: SampleOutputs(None, losses[owner]))
    loss = Contrast(1.0, margin=0.1)(outputs)
    torch.testing.assert_close(loss, torch.tensor([0.5, 0.05, 0.0]))
    loss.sum().backward()
    assert other.grad.tolist() == [-1.0, -1.0, 0.0]


def test_preference_optimisation_compares_what_soft_tokens_gain_on_own_and_on_other_images():
    gained = {("own", True): 0.3, ("own", False): 0.5, ("other", True): 0.9, ("other", False): 0.8}
    losses = {key: torch.tensor([value], requires_grad=key[1]) for key, value in gained.items()}
    outputs = StepOutputs(torch.zeros(1, 1, 1), None, 1, lambda *key: SampleOutputs(None, losses[key]))
    loss = DiffusionDPO(1.0, beta=2.0)(outputs)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-2 * (0.1 + 0.2))))
    loss.sum().backward()
    assert losses["own", True].grad > 0 > losses["other", True].grad  # own images get likelier, others less likely
    same = StepOutputs(torch.zeros(1, 1, 1), None, 1, lambda owner, _: SampleOutputs(None, losses[owner, False]))
    assert float(DiffusionDPO(1.0, beta=2.0)(same)) == pytest.approx(math.log(2))


def outputs_of(soft, tokens, samples_per_user=1):
    variance = tokens.var(0, correction=0).sum().expand(len(tokens))
    return StepOutputs(soft, None, samples_per_user, None, AcceptedTokens(tokens, variance))


def test_alignment_is_the_share_of_variance_that_soft_tokens_don_t_explain():
    tokens = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0))
    align = Align(1.0)
    assert align(outputs_of(tokens, tokens)).tolist() == [0.0] * 6
    mean = tokens.mean(0, keepdim=True).expand(6, -1, -1)
    assert float(align(outputs_of(mean, tokens)).mean()) == pytest.approx(1.0)
    shared = align(outputs_of(tokens[:3], tokens.repeat_interleave(2, 0)[:6], 2))
    assert shared.tolist() == [0.0] * 6


def test_alignment_needs_as_many_soft_tokens_as_an_image_has():
    tokens = torch.randn(6, 4, 5)
    with pytest.raises(PmgError, match="soft_tokens is 3, and the generator has 4 tokens of an image"):
        Align(1.0)(outputs_of(tokens[:, :3], tokens))


class PictureReader:
    """Two tokens of a picture: its pixels, by a fixed random map."""

    are_tokens = True

    def __init__(self, width):
        self.width = width

    def __call__(self, pictures):
        flat = torch.nn.functional.adaptive_avg_pool2d(pictures, 4).flatten(1)
        return flat @ torch.randn(flat.shape[1], 2 * self.width, generator=torch.Generator().manual_seed(0))


def test_alignment_learns_without_a_pass_of_the_generator(training):
    width = training()[0].encoder.config.text_width
    module, batches = training(terms={"align": Align(1.0)}, image_encoder=PictureReader(width))
    batch = batches.train.batch(0)
    optimizer = torch.optim.Adam(module.encoder.parameters(), lr=2e-2)
    losses = []
    for _ in range(15):
        outputs = module.step_outputs(batch)
        loss = Align(1.0)(outputs).mean()
        assert "own" not in vars(outputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_an_image_encoder_without_tokens_of_the_generator_is_refused(training):
    plain = PictureReader(8)
    plain.are_tokens = False
    message = r"objective\.image_encoder=PictureReader gives no soft tokens; `align` needs image_encoder=style"
    with pytest.raises(PmgError, match=message):
        training(image_encoder=plain)
    with pytest.raises(PmgError, match="vectors of 14 numbers are no soft tokens of this generator"):
        training(image_encoder=PictureReader(7))


def test_terms_that_declare_no_need_get_no_tokens(training):
    module, batches = training()
    with pytest.raises(PmgError, match="needs_accepted = True"):
        Align(1.0)(module.step_outputs(batches.train.batch(0)))


def test_answers_are_the_cross_entropy_of_what_describes_the_image():
    scores = [torch.randn(3, 4), torch.randn(3, 2)]
    described = torch.tensor([[1, 0], [3, -1], [-1, -1]])
    outputs = StepOutputs(torch.zeros(3, 1, 1), None, 1, None, answers=Answers(scores, described))
    value = Answer(1.0)(outputs)
    logs = [part.log_softmax(1) for part in scores]
    assert value[0] == pytest.approx(-float(logs[0][0, 1] + logs[1][0, 0]) / 2)
    assert value[1] == pytest.approx(-float(logs[0][1, 3]) / 2)
    assert value[2] == 0
    shared = StepOutputs(
        torch.zeros(3, 1, 1), None, 2, None, answers=Answers(scores, described.repeat_interleave(2, 0))
    )
    assert torch.equal(Answer(1.0)(shared), value.repeat_interleave(2))
    with pytest.raises(PmgError, match="needs an encoder that scores the options of scenario"):
        Answer(1.0)(StepOutputs(torch.zeros(3, 1, 1), None, 1, None, answers=Answers((), described)))


def test_captions_say_which_option_describes_an_image():
    attributes = {"ground": Attribute("?", ("white ground", "black ground")), "free": Attribute("?"),
                  "colour": Attribute("?", ("red", "blue"))}  # fmt: skip
    items = [Item(name, "", "") for name in "ab"]
    captions = {"a": "ground: black ground, colour: blue", "b": "colour: green; white ground"}
    assert describe_accepted(captions, items, attributes).tolist() == [[1, 1], [0, -1]]
