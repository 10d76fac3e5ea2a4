"""Compiling frozen models (``torch.compile``): fewer and larger operations, after a minute or two of compiling.

One compilation serves batches of all sizes, except the denoiser's in training. Compiled code is cached on disk, except
code that holds weights as constants.
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
from pmg.models.diffusion.interfaces import Generator
from pmg.models.language.context import ContextLayer
from pmg.models.language.language_model import LanguageModel

log = logging.getLogger(__name__)

COMPILERS = ("c++", "g++", "clang++")
GROUP_SIZE = 3  # layers in a group: fewer calls cost less, more layers take longer to compile

uncompiled = partial(torch.compiler.set_stance, "force_eager")
"""A context in which nothing that was compiled is used."""


def compile_models(generator: Generator, language_model: LanguageModel | None, folder: Path) -> None:
    """Compiles a frozen generator on its next call, and a language model's layers behind cached histories.

    Compiled code is kept in `folder`, unless ``TORCHINDUCTOR_CACHE_DIR`` names another. PmgError if there is no
    C++ compiler, which processors need; or see `check_layers`.
    """
    check_layers(language_model)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    if generator.device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
        raise PmgError("compile=true needs a C++ compiler: install g++, name one in CXX, or leave compile=false")
    log.info("compiling the frozen models: the first steps take a minute or two (compile=false: none)")
    warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")  # in diffusers; harmless
    inductor.freezing = True  # weights become constants; in effect where there are no gradients
    # batches of a training have one size, which is compiled for; generation has batches of any size
    generator.compile_model(dynamic=None if language_model else True)
    if language_model is not None:
        decoder, single = language_model.model.get_decoder(), language_model.adds_between_layers
        join_layers(decoder, language_model.cache_argument, single)


def check_layers(language_model: LanguageModel | None) -> None:
    """Raises a `PmgError` where states between the layers of a language model are read; None: there is none."""
    if language_model is not None and language_model.read_layers:
        raise PmgError(
            "compile=true groups layers, and language_model=shared reads states between them: leave compile=false"
        )


class LayerGroup(nn.Module):
    """Successive decoder layers, compiled as one; groups of equal layers share one compilation.

    A decoder reads attributes of its layers, e.g. ``attention_type``: the group has the plain ones of its first layer.
    `first` is the number of its first layer, `argument` the name by which the decoder passes its cache to a layer.
    """

    def __init__(self, layers: Sequence[nn.Module], first: int, argument: str) -> None:
        super().__init__()
        plain = {name: value for name, value in vars(layers[0]).items() if not name.startswith("_")}
        for name, value in plain.items():
            setattr(self, name, value)
        self.layers, self.first, self.argument = nn.ModuleList(layers), first, argument

    def forward(self, hidden_states: Tensor, **inputs: Any) -> Tensor:
        """Returns the last layer's hidden states; compiled where the cache holds histories."""
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
    """Returns hidden states `(B, N, width)` after layers, each of which attends to its own part of the histories."""
    for layer, part in zip(layers, parts, strict=True):
        states = layer(states, **inputs, **{argument: part})
    return states


def join_layers(decoder: nn.Module, argument: str, single: bool = False) -> None:
    """Replaces a decoder's layers by groups of them.

    Layers of several kinds make groups of one layer, since the decoder passes each kind its own mask or rotation.
    `single`: all groups have one layer, see `ContextDecoder.adds_between_layers`. PmgError without a list of layers.
    """
    layers = list(getattr(decoder, "layers", ()))
    if not layers:
        raise PmgError(f"{type(decoder).__name__} has no list of layers to compile: leave compile=false")
    joined = not single and len(set(getattr(decoder.config, "layer_types", None) or ())) < 2
    size = max(n for n in range(1, GROUP_SIZE + 1) if len(layers) % n == 0) if joined else 1
    starts = range(0, len(layers), size)
    decoder.layers = nn.ModuleList(LayerGroup(layers[first : first + size], first, argument) for first in starts)
