"""Scores of the options of one question, which all histories share."""

from __future__ import annotations

import torch

from pmg.models.language.language_model import Question


def score_shared_options(language_model, context, prompt, options, batch_size=32):
    """Float32 `(B, n_options)`."""
    questions = [[Question(prompt, tuple(options))]] * len(context)
    return torch.stack([scores for (scores,) in language_model.score_options(context, questions, batch_size)])
