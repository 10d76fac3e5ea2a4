"""Compiling frozen models (``torch.compile``): fewer and larger operations, after a minute or two of compiling.

Shapes stay free, but for the denoiser's in training: one compilation serves batches of all sizes. What was compiled
once is found again on disk, except what holds weights as constants.
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config as inductor
from torch import Tensor, nn

from pmg.domain import PmgError
from pmg.models.diffusion.generator import Generator
from pmg.models.language.context import ContextLayer
from pmg.models.language.language_model import LanguageModel

log = logging.getLogger(__name__)

COMPILERS = ("c++", "g++", "clang++")
TOGETHER = 3  # layers in one piece: fewer calls cost less, more layers take longer to compile

uncompiled = partial(torch.compiler.set_stance, "force_eager")
"""A context in which everything runs as if nothing had been compiled."""


def compile_models(generator: Generator, language_model: LanguageModel | None, folder: Path) -> None:
    """Has the denoiser compiled when it is next called, and the layers that stand behind kept histories.

    Args:
        generator: of the denoiser.
        language_model: whose layers are compiled, too; None: none.
        folder: where compiled code is kept, unless ``TORCHINDUCTOR_CACHE_DIR`` names another.

    Raises:
        PmgError: there is no C++ compiler, which processors need.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    if generator.device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
        raise PmgError("compile=true needs a C++ compiler: install g++, name one in CXX, or leave compile=false")
    log.info("compiling the frozen models: the first steps take a minute or two (compile=false: none)")
    warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")  # in diffusers; harmless
    inductor.freezing = True  # weights become constants; in effect where there are no gradients
    # a training's batches have one size, which is compiled for; drawings come in batches of any
    generator.denoiser.compile(dynamic=None if language_model else True)
    if language_model is not None:
        join_layers(language_model.model.get_decoder(), language_model.cache_argument)


class Stretch(nn.Module):
    """Decoder layers in a row, compiled as one; stretches of equal layers share one compilation.

    It stands where its first layer stood, and answers for it whatever else a decoder asks of a layer.

    Args:
        layers: in their order.
        first: number of the first.
        argument: under which the decoder hands its cache on.
    """

    def __init__(self, layers: Sequence[nn.Module], first: int, argument: str) -> None:
        super().__init__()
        self.layers, self.first, self.argument = nn.ModuleList(layers), first, argument

    def __getattr__(self, name: str) -> Any:
        """What the first layer knows."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.layers[0], name)

    def forward(self, hidden_states: Tensor, **inputs: Any) -> Tensor:
        """Runs the layers, compiled where they stand behind kept histories."""
        cache = inputs.pop(self.argument, None)
        parts = [] if cache is None else cache.layers[self.first : self.first + len(self.layers)]
        if parts and all(isinstance(part, ContextLayer) for part in parts):
            for part in parts:
                part.load()
            # contiguous: a batch of the same tokens is expanded, and another layout is compiled again
            return run_behind(self.layers, hidden_states.contiguous(), parts, self.argument, inputs)
        for layer in self.layers:
            hidden_states = layer(hidden_states, **inputs, **{self.argument: cache})
        return hidden_states


@torch.compile(dynamic=True)
def run_behind(
    layers: nn.ModuleList, states: Tensor, parts: Sequence[ContextLayer], argument: str, inputs: dict[str, Any]
) -> Tensor:
    """Runs layers on hidden states `(B, N, width)`, each behind its own part of the histories."""
    for layer, part in zip(layers, parts, strict=True):
        states = layer(states, **inputs, **{argument: part})
    return states


def join_layers(decoder: nn.Module, argument: str) -> None:
    """Replaces a decoder's layers by stretches of them.

    Of one layer each where they are of several kinds: then the decoder gives each its own mask or rotation.

    Raises:
        PmgError: the decoder keeps its layers elsewhere.
    """
    layers = list(getattr(decoder, "layers", ()))
    if not layers:
        raise PmgError(f"{type(decoder).__name__} has no list of layers to compile: leave compile=false")
    uniform = len(set(getattr(decoder.config, "layer_types", None) or ())) < 2
    size = max(n for n in range(1, TOGETHER + 1) if len(layers) % n == 0) if uniform else 1
    starts = range(0, len(layers), size)
    decoder.layers = nn.ModuleList(Stretch(layers[first : first + size], first, argument) for first in starts)
