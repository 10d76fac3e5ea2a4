"""Types of numbers with the range that a config may give, and the check of a config's values.

A constructor declares what it takes in its annotations, e.g. ``size: Count | None = None``; `check_targets` compares
every value with them before anything is loaded.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MinLen
from omegaconf import MISSING

from pmg.configuration.targets import is_library
from pmg.configuration.trees import nodes, targets

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Count = Annotated[int, Ge(1)]
Counts = Annotated[Sequence[Count], MinLen(1)]
CountOrZero = Annotated[int, Ge(0)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Fraction = Annotated[float, Ge(0), Le(1)]
WEAKEST = 0.05  # less would leave nothing to draw
Strength = Annotated[float, Ge(WEAKEST), Le(1)]  # share of a solver's time, see `Start`
Cosine = Annotated[float, Ge(-1), Le(1)]
Decay = Annotated[float, Ge(0), Lt(1)]
Repeats = Annotated[int, Ge(1), Le(1_000)]  # of what one image takes: steps, noises
Side = Annotated[int, Ge(1), Le(8192)]  # of an image, in pixels
LARGEST_SCALE = 1000
Scale = Annotated[float, Ge(0), Le(LARGEST_SCALE)]  # of guidance
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]

_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_BOUNDS = ((Ge, "ge", "at least"), (Gt, "gt", "more than"), (Le, "le", "at most"), (Lt, "lt", "less than"),
           (MinLen, "min_length", "a length of at least"))  # fmt: skip
_LIBRARY_RANGES = (
    (Count, """max_steps num_nodes accumulate_grad_batches num_train_timesteps in_channels out_channels latent_channels
        sample_size layers_per_block norm_num_groups cross_attention_dim projection_class_embeddings_input_dim"""),
    (Counts, """block_out_channels encoder_block_out_channels decoder_block_out_channels encoder_layers_per_block
        decoder_layers_per_block"""),
    (Count | Sequence[Count], "attention_head_dim"),
    (Count | None, "check_val_every_n_epoch"),
    (Count | Literal[-1] | None, "max_epochs"),
    (Count | Literal[-1] | Sequence[CountOrZero] | str, "devices"),
    (Count | Annotated[float, Gt(0), Le(1)] | None, "val_check_interval"),
    (CountOrZero, "log_every_n_steps patience"),
    (CountOrZero | Literal[-1], "num_sanity_val_steps"),
    (CountOrZero | Fraction | None, "limit_train_batches limit_val_batches"),
    (bool, "detect_anomaly"),
    (bool | CountOrZero, "fast_dev_run"),
    (bool | Literal["warn"] | None, "deterministic"),
    (Positive, "lr"),
    (NotNegative, "min_delta weight_decay eps"),
    (NotNegative | None, "gradient_clip_val"),
    (Decay, "momentum dropout"),
    (Sequence[Decay], "betas"),
)  # fmt: skip
LIBRARY_ARGUMENTS: dict[str, Any] = {name: hint for hint, names in _LIBRARY_RANGES for name in names.split()}
"""What a config may give to the classes of `RANGED`, whose own annotations have no ranges."""
RANGED = ("pytorch_lightning.Trainer", "pytorch_lightning.callbacks.EarlyStopping", "torch.optim.Adam",
          "torch.optim.AdamW", "torch.optim.SGD", "diffusers.DDPMScheduler", "diffusers.AutoencoderDC",
          "diffusers.AutoencoderKL", "diffusers.UNet2DConditionModel",
          "diffusers.UNet2DConditionModel.from_pretrained")  # fmt: skip
"""Targets of other packages, whose arguments' ranges `LIBRARY_ARGUMENTS` has."""


def find_problems(key: str, node: Mapping[str, Any], hints: Mapping[str, Any]) -> list[str]:
    """Returns one line for each value of a config node that its hint does not allow.

    `key` is the node's, e.g. ``"data.users"``; empty: the root. `hints` are types by name, see `argument_hints`;
    values that are built first (with a ``_target_``) are passed over.
    """
    problems = []
    for name, value in node.items():
        where = f"{key}.{name}" if key else str(name)
        if hints.get(name) is object:
            problems += [f"{where} must be a node with a _target_, got null"] if value is None else []
        elif name in hints and value != MISSING and not any(targets(value)):
            problems += _compare(where, value, hints[name])
    return problems


def find_infinite(leaves: Iterator[tuple[str, Any]]) -> list[str]:
    """Returns one line for each number that is not finite: no key takes one."""
    return [f"{key} must be a finite number, got {_show(value)}" for key, value in leaves if not _is_finite(value)]


@cache
def argument_hints(name: str, target: Callable[..., Any]) -> dict[str, Any]:
    """Returns the types of a target's arguments, as far as a config's values can be compared with them.

    An argument that takes an instance of a class has the type `object`: its node is built first.
    The target is a class or a function of pmg or a plug-in; libraries' ranges are in `LIBRARY_ARGUMENTS`. What a
    function takes as ``**rest`` belongs to the dataclass that it returns.
    """
    if is_library(name):
        return LIBRARY_ARGUMENTS if name in RANGED else {}
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else getattr(target, "__func__", target))
    hints = _evaluated(function)
    passed_on = hints.pop("return", None)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(function).parameters.values()):
        taken = _evaluated(passed_on.__init__) if isinstance(passed_on, type) and is_dataclass(passed_on) else {}
        hints = {**taken, **hints}
    plain = {argument: hint for argument, hint in hints.items() if _is_plain(hint)}
    classes = {argument for argument, hint in hints.items() if isinstance(hint, type) and hint not in (Any, object)}
    return dict.fromkeys(classes, object) | plain


def _evaluated(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns a function's annotations; those with names that are imported for type checkers alone are left out."""
    found: dict[str, Any] = {}
    for argument, annotation in getattr(function, "__annotations__", {}).items():
        with contextlib.suppress(NameError, TypeError):
            alone = SimpleNamespace(__annotations__={argument: annotation})
            found |= get_type_hints(alone, function.__globals__, include_extras=True)
    return found


def describe(hint: Any) -> str:
    """Returns what a type allows in words, e.g. ``"a whole number of at least 1, or null"``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [f"{word} {getattr(bound, name)}" for bound in arguments[1:]
                  for kind, name, word in _BOUNDS if isinstance(bound, kind)]  # fmt: skip
        return f"{describe(arguments[0])} of {' and '.join(bounds)}"
    if origin in (Union, types.UnionType):
        return ", or ".join(map(describe, arguments))
    if origin is Literal:
        return " or ".join(map(_show, arguments))
    if arguments and issubclass(origin, Mapping):
        return f"a mapping whose values are each {describe(arguments[1])}"
    if arguments:
        return f"a list of which each is {describe(arguments[0])}"
    return "null" if hint is type(None) else _WORDS[hint]


def _compare(key: str, value: Any, hint: Any) -> list[str]:
    from pydantic import ValidationError

    if not _is_finite(value):
        return []  # `find_infinite` names it
    try:
        _adapter(hint).validate_json(json.dumps(value, default=str))  # JSON: lists are compared with tuples, too
    except ValidationError:
        return [f"{key} must be {describe(hint)}, got {_show(value)}"]
    return []


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(hint, config=ConfigDict(strict=True))


def _is_plain(hint: Any) -> bool:
    """Whether a type is made of numbers, texts, lists and mappings alone."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _is_plain(arguments[0])
    if origin is Literal:
        return True
    if origin in (Union, types.UnionType):
        return all(map(_is_plain, arguments))
    if inspect.isclass(origin) and issubclass(origin, (Mapping, Sequence)):
        return all(map(_is_plain, (argument for argument in arguments if argument is not ...)))
    return hint in _WORDS or hint is type(None)


def _is_finite(value: Any) -> bool:
    return all(math.isfinite(part) for _, part in nodes(value) if isinstance(part, float))


def _show(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
