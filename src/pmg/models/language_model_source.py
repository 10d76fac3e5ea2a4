"""The language model of a config, which may share the weights of the generator's text encoder."""

from __future__ import annotations

from typing import Protocol

from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.models.language.language_model import LanguageModel


class LanguageModelSource(Protocol):
    """In the place of a language model: makes one of the weights of the generator's text encoder."""

    def of(self, text_encoder: PromptEncoder) -> LanguageModel:
        """Returns the language model.

        Raises:
            PmgError: the text encoder is no language model.
        """
        ...


def resolve_language_model(built: LanguageModel | LanguageModelSource, text_encoder: PromptEncoder) -> LanguageModel:
    """Returns the language model that a config's ``language_model`` builds beside a text encoder.

    Raises:
        PmgError: see `LanguageModelSource.of`.
    """
    match built:
        case LanguageModel():
            return built
    return built.of(text_encoder)
