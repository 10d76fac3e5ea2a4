"""Allow-list of the classes and functions that a config may build.

A dotted path says how an object is reached, not what it is: ``pmg.models.diffusion.generator.torch.hub.load`` begins
with ``pmg``. So the checks compare the module that defines the object.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from pmg.configuration.plugins import find_module, installed_plugins, leaves
from pmg.domain import PmgError

# modules of the core whose classes, class methods and functions configs build; what reads and writes files is left out
CORE = [f"pmg.{name}" for name in ("data", "domain", "evaluation", "generation", "models", "preferences")]
CORE += ["pmg.tracking", "pmg.training", "pmg.api.exported_tokens"]
# modules whose classes and class methods configs build
LIBRARIES = [
    "diffusers.configuration_utils", "diffusers.models", "diffusers.schedulers",
    "pytorch_lightning.accelerators", "pytorch_lightning.callbacks", "pytorch_lightning.loggers",
    "pytorch_lightning.plugins", "pytorch_lightning.profilers", "pytorch_lightning.strategies",
    "pytorch_lightning.trainer", "torch.nn", "torch.optim", "torchmetrics",
    "transformers.configuration_utils", "transformers.modeling_utils", "transformers.models",
    "transformers.tokenization_utils_base",
]  # fmt: skip
LIBRARY_PACKAGES = {module.partition(".")[0] for module in LIBRARIES}
# arguments by which libraries run code that comes with weights
CODE_ARGUMENTS = frozenset({"trust_remote_code", "custom_pipeline", "allow_pickle", "weights_only", "pickle_module"})
# packages of plug-ins that this process may build from: named by its command line or its Python code
_allowed: dict[str, None] = {}


def allow_plugin(name: str) -> None:
    """Lets configs build from a module that passes `check_plugin`, which is not imported yet."""
    _allowed[check_plugin(name)] = None


def check_plugin(name: str) -> str:
    """Returns a plug-in's name, not imported; PmgError if there is no such module, or it is of Python or a library."""
    if is_reserved(name):
        raise PmgError(f"plugins: '{name}' is no plug-in. Name a module of your own: plugins=[my_module].")
    find_module(name)
    return name


def is_reserved(name: str) -> bool:
    """Returns whether a top-level package is no plug-in's: Python's, pmg's, or a library's."""
    return name in sys.stdlib_module_names or name in LIBRARY_PACKAGES or name in ("pmg", "hydra", "omegaconf")


def allowed_plugins() -> tuple[str, ...]:
    """Returns the plug-ins that this process may build from."""
    return tuple(_allowed)


def is_library(target: str) -> bool:
    """Returns whether a dotted name is of a library, whose own annotations hold no ranges."""
    return target.partition(".")[0] in LIBRARY_PACKAGES


def check_package(key: str, target: Any) -> str:
    """Returns the ``_target_`` of the node at `key`, checked before anything is imported.

    PmgError if it is no dotted name, a part of it is private, or its package is not allowed.
    """
    packages = list(dict.fromkeys(module.split(".")[0] for module in (*CORE, *LIBRARIES, *_allowed)))
    where, root, dotted = f"{key or 'node'}: target '{target}'", str(target).split(".")[0], "." in str(target)
    way_out = f"If its code may run, add plugins=[{root}]"
    if root in installed_plugins() and root not in packages:
        raise PmgError(f"{where} is of the plug-in '{root}', which this command does not name. {way_out}.")
    if root not in packages or not dotted:
        own = "A module of your own: see docs/extending.md."
        hint = own if not dotted or is_reserved(root) else f"{way_out} (docs/extending.md)."
        raise PmgError(f"{where} is outside the allowed packages ({', '.join(packages)}). {hint}")
    if not is_public(target):
        raise PmgError(f"{where} is no dotted name of a public class or function")
    return target


def is_public(target: str) -> bool:
    """Returns whether a text is a dotted name without private parts."""
    return all(part.isidentifier() and not part.startswith("_") for part in target.split("."))


def check_object(key: str, target: str, found: Any, package: str | None = None) -> None:
    """Checks that what a ``_target_`` names, `found`, is a class, class method or function of the allowed modules.

    These are `package` alone, or else those of pmg, its libraries and allowed plug-ins. PmgError names the `key`.
    """
    where = f"{key or 'node'}: target '{target}'"
    own, libraries = ([package], []) if package else ([*CORE, *leaves(), *_allowed], LIBRARIES)
    if inspect.isclass(found):
        modules, allowed = [found.__module__], [*own, *libraries]
    elif inspect.ismethod(found) and inspect.isclass(found.__self__):
        modules, allowed = [found.__self__.__module__, found.__func__.__module__], [*own, *libraries]
    elif isinstance(found, FunctionType) and "." not in found.__qualname__:
        modules, allowed = [found.__module__], own
    else:
        raise PmgError(f"{where} is no class, function or class method; name one of pmg's")
    for module in modules:
        if not any(module == name or module.startswith(f"{name}.") for name in allowed):
            raise PmgError(
                f"{where} is defined in '{module}', which is outside the allowed packages; see docs/configuration.md"
            )


def check_arguments(key: str, node: Mapping[str, Any]) -> None:
    """Refuses arguments that make a library run code that comes with weights, by PmgError."""
    if found := sorted(CODE_ARGUMENTS & node.keys()):
        raise PmgError(
            f"{key or 'node'}: {found[0]} can't be set by a config: it decides whether checkpoints run code"
        )
