"""Soft tokens from a file: rows in the order of the profiles, and what is missing is named."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from pmg.domain import PmgError
from pmg.methods.stored_tokens import StoredTokens


def context(*profiles):
    generator = SimpleNamespace(text_encoder=SimpleNamespace(width=6))
    return SimpleNamespace(examples=[SimpleNamespace(profile=profile) for profile in profiles], generator=generator)


def test_tokens_are_those_of_each_profile(tmp_path):
    tokens = {name: torch.randn(4, 6) for name in ("ann", "bob", "eve")}
    save_file(tokens, tmp_path / "tokens.safetensors")
    found = StoredTokens(str(tmp_path / "tokens.safetensors"))(context("eve", "ann"))
    assert torch.equal(found, torch.stack([tokens["eve"], tokens["ann"]]))


def test_what_is_missing_is_named(tmp_path):
    path = tmp_path / "tokens.safetensors"
    with pytest.raises(PmgError, match=r"preference\.stored\.file is not set"):
        StoredTokens().check("preference.stored", {})
    with pytest.raises(PmgError, match=r"tokens\.safetensors"):
        StoredTokens(str(path))(context("ann"))
    save_file({"ann": torch.zeros(4, 6)}, path)
    with pytest.raises(PmgError, match="has no soft tokens of the profile 'bob'"):
        StoredTokens(str(path))(context("ann", "bob"))
    path.write_bytes(b"no tensors")
    with pytest.raises(PmgError, match=r"tokens\.safetensors: "):
        StoredTokens(str(path))(context("ann"))


@pytest.mark.parametrize("odd", [torch.zeros(4, 5), torch.zeros(3, 6), torch.zeros(6), torch.full((4, 6), torch.nan)])
def test_what_no_generator_takes_is_refused(tmp_path, odd):
    save_file({"ann": torch.zeros(4, 6), "bob": odd}, tmp_path / "tokens.safetensors")
    with pytest.raises(PmgError, match=r"'bob' has .*, not finite \(n, 6\)"):
        StoredTokens(str(tmp_path / "tokens.safetensors"))(context("ann", "bob"))
