"""PMG: personalised multimodal generation with large language models."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pmg.api.pipeline_personalized import PersonalizedPipeline as PersonalizedPipeline
    from pmg.configuration.compose import compose as compose
    from pmg.configuration.instantiate import instantiate as instantiate
    from pmg.domain import PmgError as PmgError
    from pmg.installation import find_assets as find_assets

__version__ = "0.2.0"
__all__ = ["PersonalizedPipeline", "PmgError", "compose", "find_assets", "instantiate"]

# a warning at its import that a kernel can't be downloaded, although no model with weights of 4 bits is used
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

_HOMES = {
    "PersonalizedPipeline": "pmg.api.pipeline_personalized",
    "PmgError": "pmg.domain",
    "compose": "pmg.configuration.compose",
    "find_assets": "pmg.installation",
    "instantiate": "pmg.configuration.instantiate",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use: importing them loads Hydra or torch, which would delay ``--help``."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pmg' has no attribute '{name}'")
