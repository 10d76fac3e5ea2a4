"""PMG: personalised multimodal generation with large language models."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Gives `PersonalizedPipeline` when it is asked for: it loads torch, which commands' help must not."""
    if name == "PersonalizedPipeline":
        from pmg.generation.pipeline_personalized import PersonalizedPipeline

        return PersonalizedPipeline
    raise AttributeError(f"module 'pmg' has no attribute '{name}'")
