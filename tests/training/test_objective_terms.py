"""The objective terms of docs/extending.md, run as they are printed there, from a module outside of pmg."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch

from pmg.training.objective import Denoise

GUIDE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def my_terms(tmp_path, monkeypatch):
    """The module of the guide's section."""
    section = GUIDE.read_text().split("## An objective term")[1]
    (tmp_path / "my_terms.py").write_text(re.search(r"```python\n(.*?)```", section, re.S)[1])
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("my_terms")


def test_terms_of_the_guide_train_without_a_change_of_the_module(training, my_terms):
    terms = {"alignment": my_terms.KeywordAlignment(0.1), "preference": my_terms.DiffusionDPO(0.5, beta=100.0)}
    module, batches = training(terms={"denoise": Denoise(1.0), **terms})
    outputs = module.step_outputs(batches.train.batch(0))
    values = {name: term(outputs) for name, term in terms.items()}
    assert values["alignment"].shape == (len(outputs.soft_tokens),)
    assert values["preference"].shape == (outputs.samples,)
    for value in values.values():
        (gradient,) = torch.autograd.grad(value.mean(), module.encoder.multimodal_tokens, retain_graph=True)
        assert gradient.abs().sum() > 0
