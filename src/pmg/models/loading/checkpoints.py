"""Loads models of transformers and diffusers, and checks that a checkpoint matches its config."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from pmg.domain import PmgError
from pmg.models.loading.weight_files import COMPUTED, check_files, check_tokenizer

SHARD = re.compile(r"-\d+-of-\d+")
WEIGHTS = re.compile(r"(?:pytorch_|diffusion_pytorch_)?model(?:\.(?P<variant>\w+))?\.(?:safetensors|bin)")
RESTORE = "Save it beside the model's weights."
SHOWN = 3  # names in a message
SENTENCE = "a person who likes plain drawings without an outline " * 4
SUMMED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_leaves_out_weights: ContextVar[bool] = ContextVar("leaves_out_weights", default=False)


@contextmanager
def without_weights() -> Iterator[None]:
    """Loads models by their configs alone inside: parameters are on torch's meta device and have no values."""
    token = _leaves_out_weights.set(True)
    try:
        yield
    finally:
        _leaves_out_weights.reset(token)


def leaves_out_weights() -> bool:
    """Returns whether models are loaded inside `without_weights`."""
    return _leaves_out_weights.get()


def load_checkpoint(
    kind: Any, path: str | Path, subfolder: str = "", unused: tuple[str, ...] = (), **options: Any
) -> Any:
    """Loads a model with ``from_pretrained``, without code of the checkpoint, and checks its weights.

    A folder with a single variant of the weights (``model.fp16.safetensors``) is supported. Inside
    `without_weights` the model is created from its config. PmgError if weights are missing, superfluous, of
    another shape, or not finite; with their names. Or see `check_files`; or the config describes a much larger
    model than the weights are of.

    `kind` is a class of transformers or diffusers, or an ``Auto`` class; `path` a folder or hub id. Weights whose
    names begin with one of `unused` may be missing; `options` are those of ``from_pretrained``.
    """
    where = f"{path}/{subfolder}" if subfolder else str(path)
    limit = check_files(Path(where))
    if leaves_out_weights():
        return _create(kind, path, subfolder, options)
    if limit is not None and "quantization_config" not in options:
        described = sum(part.numel() for part in _create(kind, path, subfolder, options).state_dict().values())
        if described > limit:
            raise PmgError(f"{where}: config.json describes {described} numbers; its weights allow {limit}")
    if kind.__module__.startswith("transformers.") or issubclass(kind, PreTrainedModel):
        options |= {"trust_remote_code": False, "ignore_mismatched_sizes": True}  # `_check_names` raises for them
    if subfolder:
        options["subfolder"] = subfolder
    with quiet_libraries():
        model, info = kind.from_pretrained(path, variant=find_variant(where), output_loading_info=True, **options)
    _check_names(model, info, where, unused)
    bad = [name for name, weight in model.state_dict().items() if not _is_finite(weight)]
    if bad:
        raise PmgError(
            f"{where} has weights that are NaN or infinite: {_shorten(bad)}. Load it again, or train it again."
        )
    return model


def _create(kind: Any, path: str | Path, subfolder: str, options: Mapping[str, Any]) -> Any:
    """Returns a model of a config's sizes on torch's meta device, whole also where `options` quantize it."""
    if issubclass(kind, ModelMixin):
        values, dtype = kind.load_config(path, subfolder=subfolder), None
        with torch.device("meta"):
            model = kind.from_config(values)
    else:
        own = kind.config_class if issubclass(kind, PreTrainedModel) else AutoConfig
        where = {"gguf_file": options["gguf_file"]} if "gguf_file" in options else {}
        config = own.from_pretrained(path, subfolder=subfolder, trust_remote_code=False, **where)
        dtype = config.dtype
        with torch.device("meta"):
            model = kind(config) if issubclass(kind, PreTrainedModel) else kind.from_config(config)
    # some buffers are computed on the CPU
    return nn.Module.to(model, torch.device("meta"), options.get("dtype", dtype)).eval()


def find_variant(folder: str | Path) -> str | None:
    """Returns the variant of a folder's weights, e.g. ``fp16``; None if weights without a variant exist."""
    names = (WEIGHTS.fullmatch(SHARD.sub("", path.name)) for path in Path(folder).glob("*") if path.is_file())
    variants = {match["variant"] for match in names if match}
    return None if None in variants or not variants else sorted(variants)[0]


def load_tokenizer(
    path: str | Path, model: nn.Module, kind: Any = AutoTokenizer, subfolder: str = "", **options: Any
) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a model, of a class of transformers, from a folder or hub id.

    PmgError if it is missing or damaged, can't split a sentence, or has tokens without an embedding in the model;
    or see `check_tokenizer`.
    """
    where = f"{path}/{subfolder}" if subfolder else str(path)
    check_tokenizer(Path(where, "tokenizer.json"))
    try:
        tokenizer = kind.from_pretrained(path, subfolder=subfolder, trust_remote_code=False, **options)
    except Exception as error:  # the types for missing files, other formats and remote code differ
        reason = " ".join(str(error).split())[:160]
        name = type(error).__name__
        raise PmgError(f"{where} has no tokenizer that can be read ({name}: {reason}). {RESTORE}") from error
    try:
        tokenizer(SENTENCE)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        raise PmgError(f"{where}: the tokenizer can't split a plain sentence ({str(error)[:160]})") from None
    framing = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.cls_token, tokenizer.sep_token}
    special = set(tokenizer.all_special_tokens)  # padding, for example, needs no embedding
    words = {token: number for token, number in tokenizer.get_vocab().items() if token not in special - framing}
    if not words.keys() - special:  # as transformers' classes build it from missing files
        raise PmgError(f"{where} has no tokenizer that can be read: its vocabulary is empty. {RESTORE}")
    largest, rows = max(words.values()), _vocabulary(model)
    if largest >= rows:
        raise PmgError(
            f"{where}: the tokenizer has tokens up to number {largest}, and the model has {rows} embeddings. Use the "
            "tokenizer that the model was trained with."
        )
    return tokenizer


def load_image_processor(path: str | Path, subfolder: str = "") -> BaseImageProcessor:
    """Loads a model's image processor from a folder or hub id; PmgError if it is missing or damaged."""
    try:
        return AutoImageProcessor.from_pretrained(path, subfolder=subfolder, trust_remote_code=False)
    except Exception as error:  # the types for missing files and other formats differ
        reason = " ".join(str(error).split())[:160]
        raise PmgError(
            f"{path} has no image processor that can be read ({type(error).__name__}: {reason}). Save it beside the "
            "model's weights"
        ) from error


def load_with_tokenizer(kind: Any, path: str | Path, **options: Any) -> tuple[Any, PreTrainedTokenizerBase]:
    """Loads a model by `load_checkpoint` and its tokenizer by `load_tokenizer`."""
    model = load_checkpoint(kind, path, **options)
    return model, load_tokenizer(path, model)


def _vocabulary(model: Any) -> int:
    """Returns the number of a model's token embeddings."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):  # models of images and texts
        return int(model.config.get_text_config().vocab_size)


def _check_names(model: nn.Module, info: Mapping[str, Any], path: str, unused: tuple[str, ...]) -> None:
    """Raises for missing, superfluous and misshapen weights in the library's loading report."""
    missing = [name for name in info["missing_keys"] if not (COMPUTED.search(name) or name.startswith(unused))]
    superfluous = [name for name in info["unexpected_keys"] if not (COMPUTED.search(name) or _is_head(model, name))]
    shapes = [f"{name} is {tuple(found)} and not {tuple(wanted)}" for name, found, wanted in info["mismatched_keys"]]
    problems = [
        f"{len(names)} {what}: {_shorten(names)}"
        for what, names in (("missing", missing), ("superfluous", superfluous), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise PmgError(
            f"{path} has not the weights of a {type(model).__name__}: {'; '.join(problems)}. Load it again."
        )


def _is_head(model: nn.Module, name: str) -> bool:
    """Returns whether a weight belongs to a head, e.g. a classifier, of the checkpoint's class that `model` lacks."""
    config = getattr(model, "config", None)
    saved = getattr(config, "architectures", None) or ()  # of transformers
    own = {*dict(model.named_children()), getattr(model, "base_model_prefix", "")}
    return bool(saved) and type(model).__name__ not in saved and name.split(".")[0] not in own


def _is_finite(weight: Any) -> bool:
    if not isinstance(weight, torch.Tensor) or weight.dtype not in SUMMED or weight.is_meta:
        return True
    if torch.isfinite(weight.sum(dtype=torch.float64 if weight.dtype == torch.float64 else torch.float32)):
        return True  # one pass without a copy
    return bool(torch.isfinite(weight).all())  # the sum may overflow


def _shorten(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:SHOWN]) + (f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else "")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silences transformers and diffusers while they load or save a model, except bars of downloads.

    Their tables of missing weights are silenced since `_check_names` reports these in one line.
    """
    libraries = (transformers_logging, diffusers_logging)
    earlier = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    downloads = not are_progress_bars_disabled()
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    if downloads:  # transformers' switch turns those of the hub off, too
        enable_progress_bars()
    try:
        yield
    finally:
        for library, (level, bars) in zip(libraries, earlier, strict=True):
            library.set_verbosity(level)
            if bars:
                library.enable_progress_bar()
        if not downloads:
            disable_progress_bars()
