"""What the embedded models of images share: torch's initialisation, and a frozen copy from a folder."""

from __future__ import annotations

from typing import Self

from torch import nn
from transformers import PreTrainedModel

from pmg.models.loading.weight_sources import load_frozen


class EmbeddedModel(PreTrainedModel):
    """A model that `pmg-pretrain` trains or begins with."""

    def _init_weights(self, module: nn.Module) -> None:
        """Keeps torch's initialisation: transformers' standard deviation of 0.02 is too small for shallow branches."""

    @classmethod
    def from_folder(cls, folder: str) -> Self:
        """Loads a frozen model.

        Raises:
            PmgError: the folder is missing or damaged.
        """
        return load_frozen(cls, folder)
