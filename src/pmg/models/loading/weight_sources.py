"""Sources of weights: a hub id, a folder, or a file inside an installed package."""

from __future__ import annotations

import logging
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from transformers import PreTrainedModel

from pmg.cache import find_replaced
from pmg.domain import PmgError
from pmg.installation import PACKAGE_SCHEME, find_in_package, install_weights, restore_assets
from pmg.models.loading.checkpoints import leaves_out_weights, load_checkpoint

log = logging.getLogger(__name__)

CONFIGS = "; pmg-estimate reads configs and tokenizers from the hub or a folder: go online once, or name a folder"


def resolve_source(source: str) -> str:
    """Returns a local path or hub id that ``from_pretrained`` accepts.

    ``package:NAME/path`` is a path inside an installed package, found without an import; other sources are
    unchanged. PmgError if the package or the path inside it is missing, or the source is a single file.
    """
    if source.endswith((".safetensors", ".ckpt")) and Path(source).is_file():
        raise PmgError(
            f"{source} is a single file, where a folder of from_pretrained is read. Convert it, e.g. by diffusers' "
            "StableDiffusionXLPipeline.from_single_file(FILE).save_pretrained(FOLDER), and name the folder"
        )
    if not source.startswith(PACKAGE_SCHEME):
        return source
    name, path = source.removeprefix(PACKAGE_SCHEME).partition("/")[0], find_in_package(source)
    if path is None:
        raise PmgError(f"package '{name}' with the embedded weights is not installed; run `{install_weights()}`")
    if not path.exists():
        raise PmgError(f"{path} is missing from package '{name}'; run `{install_weights()}` to install it again")
    return str(path)


@cache
def try_hub_once() -> None:
    """Has this process read what was downloaded before alone, where the hub's host has no address.

    The hub's library would ask for each file six times, for half a minute. A proxy finds addresses itself: behind one,
    nothing is changed.
    """
    from huggingface_hub import constants

    hub = urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or getproxies().get(hub.scheme):
        return
    try:
        socket.getaddrinfo(hub.hostname, hub.port or hub.scheme)
    except OSError:
        log.warning("%s can't be found from here: models are taken from the hub's cache alone", hub.hostname)
        constants.HF_HUB_OFFLINE = True


def download(source: str, problem: str) -> Path:
    """Returns the folder of a repository of the hub, which is downloaded into the hub's cache.

    `problem` begins the message of a failure. PmgError if the hub doesn't give it.
    """
    from huggingface_hub import snapshot_download

    try_hub_once()
    try:
        return Path(snapshot_download(source))
    except Exception as error:  # the hub raises whatever it likes
        reason = " ".join(str(error).split())[:160]
        raise PmgError(f"{problem}, and the hub says: {reason}") from error


@contextmanager
def loading(what: str, path: str, hint: str = "") -> Iterator[None]:
    """Converts errors of missing or damaged weights into a `PmgError` of one line, which ends with the hint.

    `what` is the model, with its article, and `path` its source. PmgError if an error was raised inside; a
    `PmgError` is raised unchanged. A source that is no folder is asked for at the hub, see `try_hub_once`.
    """
    if not Path(path).exists():
        try_hub_once()
    try:
        yield
    except PmgError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        hint += CONFIGS if leaves_out_weights() else ""
        raise PmgError(f"can't load {what} from {path} ({type(error).__name__}: {reason}){hint}") from error


def load_part(kind: Any, folder: str | Path) -> Any:
    """Loads a model or scheduler from a ``save_pretrained`` folder; PmgError, with the remedy, if that fails."""
    hint = f"; {restore_assets('', 'pretrain')}"
    if old := find_replaced(Path(folder)):
        hint = f"; its replacement was killed: restore it with `{shlex.join(['mv', str(old), str(folder)])}`"
    try:
        if not Path(folder).is_dir():
            raise FileNotFoundError("no such folder")  # from_pretrained would try to download it
        if not issubclass(kind, torch.nn.Module):
            return kind.from_pretrained(Path(folder))
        return load_checkpoint(kind, Path(folder))
    except PmgError as error:
        raise PmgError(f"{error}{hint}") from error
    except Exception as error:  # the types for missing folders, bad JSON and truncated weights differ
        reason = " ".join(str(error).split())[:160]
        raise PmgError(f"{folder} can't be loaded ({type(error).__name__}: {reason}){hint}") from error


def load_frozen(kind: Any, folder: str | Path) -> Any:
    """Loads a model by `load_part` in float32 and evaluation mode, without gradients."""
    return load_part(kind, folder).float().requires_grad_(False).eval()


class Frozen(torch.nn.Module):
    """A model that is never trained: it stays in evaluation mode."""

    def train(self, mode: bool = True) -> Self:
        """Keeps evaluation mode, also where a parent module is set to train mode."""
        return super().train(False)


class EmbeddedModel(PreTrainedModel):
    """A model that `pmg-pretrain` trains or begins with."""

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Keeps torch's initialisation: transformers' standard deviation of 0.02 is too small for shallow branches."""

    @classmethod
    def from_folder(cls, folder: str) -> Self:
        """Loads a frozen model; PmgError if the folder is missing or damaged."""
        return load_frozen(cls, folder)
