"""Soft tokens from a file: any method that was computed elsewhere can be drawn and judged beside the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pmg.configuration.identity import Values
from pmg.domain import PmgError
from pmg.preferences.sources import SourceContext, TokenSource


@dataclass(frozen=True)
class StoredTokens(TokenSource):
    """Soft tokens that a safetensors file has for each profile, `(n, D)` under its name."""

    file: str | None = None

    def check(self, key: str, config: Values) -> None:
        """Checks that a file is named, else raises PmgError."""
        if not self.file:
            raise PmgError(f"{key}.file is not set: name a safetensors file with the soft tokens of each profile")

    def __call__(self, context: SourceContext) -> Tensor:
        """Returns the tokens of all profiles, `(U, n, D)`; PmgError if the file can't be read, or lacks one."""
        profiles = [example.profile for example in context.examples]
        try:
            with safe_open(str(self.file), "pt") as tensors:
                if missing := sorted(set(profiles) - set(tensors.keys())):
                    raise PmgError(f"{self.file} has no soft tokens of the profile '{missing[0]}'")
                rows = [tensors.get_tensor(profile).float() for profile in profiles]
        except (OSError, SafetensorError) as error:
            raise PmgError(f"{self.file}: {error}") from error
        shape = (*rows[0].shape[:-1], context.generator.text_encoder.width)
        for profile, row in zip(profiles, rows, strict=True):
            if row.shape != shape or row.ndim != 2 or not row.isfinite().all():
                raise PmgError(f"{self.file}: '{profile}' has {tuple(row.shape)}, not finite (n, {shape[-1]})")
        return torch.stack(rows)
