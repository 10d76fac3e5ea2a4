"""Where weights come from: a hub id, a folder, or a file inside an installed package."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pmg.domain import PmgError
from pmg.models.loading.checkpoints import load_checkpoint

PACKAGE_SCHEME = "package:"


def resolve_source(source: str) -> str:
    """Turns a source into something ``from_pretrained`` accepts.

    Args:
        source: ``package:NAME/path`` (a path inside an installed package, found without importing it),
            a folder, or a hub id.

    Returns:
        A local path for package sources, otherwise `source` unchanged.

    Raises:
        PmgError: the package or the path inside it is missing.
    """
    if not source.startswith(PACKAGE_SCHEME):
        return source
    name, _, inner = source.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None  # of a dotted name, it imports the parent
    if spec is None or not spec.submodule_search_locations:
        raise PmgError(f"package '{name}' with the embedded weights is not installed; run `make setup`")
    path = Path(spec.submodule_search_locations[0], inner)
    if not path.exists():
        raise PmgError(f"{path} is missing from package '{name}'; run `make setup` to install it again")
    return str(path)


@contextmanager
def loading(what: str, path: str, hint: str = "") -> Iterator[None]:
    """Turns whatever readers of weights raise on missing or damaged files into one clear line.

    Args:
        what: is loaded, with its article.
        path: where from.
        hint: what to do, behind the reason.

    Raises:
        PmgError: something was raised inside; errors for users pass as they are.
    """
    try:
        yield
    except PmgError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise PmgError(f"can't load {what} from {path} ({type(error).__name__}: {reason}){hint}") from error


def load_part(kind: Any, folder: str | Path) -> Any:
    """Loads one model or scheduler of diffusers or transformers from its folder.

    Args:
        kind: the class.
        folder: what ``save_pretrained`` wrote.

    Raises:
        PmgError: the folder is missing or damaged; names it and the ways to restore it.
    """
    hint = "; restore it with `git checkout -- assets` or train it with `make pretrain`"
    try:
        if not Path(folder).is_dir():
            raise FileNotFoundError("no such folder")  # which a reader would ask the hub for, again and again
        if not issubclass(kind, torch.nn.Module):
            return kind.from_pretrained(Path(folder))
        return load_checkpoint(kind, Path(folder))
    except PmgError as error:
        raise PmgError(f"{error}{hint}") from error
    except Exception as error:  # a missing folder, bad JSON and truncated weights raise different things
        reason = " ".join(str(error).split())[:160]
        raise PmgError(f"{folder} can't be loaded ({type(error).__name__}: {reason}){hint}") from error


def load_frozen(kind: Any, folder: str | Path) -> Any:
    """Loads a model as `load_part` does: float32, evaluation mode, no gradients."""
    return load_part(kind, folder).float().requires_grad_(False).eval()
