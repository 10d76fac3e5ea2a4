"""Builds objects from config nodes, and checks every ``_target_``."""

from __future__ import annotations

import difflib
import functools
import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from pmg.configuration.keys import schema_ranges
from pmg.configuration.plugins import add_current_folder, installed_plugins
from pmg.configuration.precision import is_bfloat16, settle_dtype, to_precision
from pmg.configuration.prepared_folders import find_prepared
from pmg.configuration.ranges import argument_hints, find_infinite, find_problems
from pmg.configuration.search_path import OptionSource, PluginSource, PmgSearchPath, SchemaSource
from pmg.configuration.targets import allow_plugin, check_arguments, check_object, check_package, is_reserved
from pmg.configuration.trees import leaves, targets
from pmg.domain import PmgError
from pmg.installation import find_assets

_HYDRA_KEYS = frozenset({"_target_", "_partial_", "_convert_", "_recursive_", "_args_"})


def register_configs() -> None:
    """Registers schemas and search path with Hydra, and the resolvers with OmegaConf; safe to call again."""
    for plugin in (PmgSearchPath, SchemaSource, OptionSource, PluginSource):
        Plugins.instance().register(plugin)
    OmegaConf.register_new_resolver("pmg.assets", find_assets, replace=True)
    OmegaConf.register_new_resolver("pmg.prepared", find_prepared, replace=True)
    OmegaConf.register_new_resolver("pmg.digest", lambda text: sha256(text.encode()).hexdigest()[:8], replace=True)
    OmegaConf.register_new_resolver("pmg.bfloat16", is_bfloat16, replace=True)
    OmegaConf.register_new_resolver("pmg.dtype", settle_dtype, replace=True)
    OmegaConf.register_new_resolver("pmg.precision", to_precision, replace=True)
    OmegaConf.register_new_resolver(  # the folder of an experiment's run of a command; in a study that of its job
        "pmg.run", lambda command, folder, job, running: str(Path(job if running == "study" else folder, command)),
        replace=True,
    )  # fmt: skip


def nearest(word: str, choices: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the choice closest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def to_plain(node: Any) -> Any:
    """Returns `node` resolved, in built-in types alone."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def instantiate(node: Any, **kwargs: Any) -> Any:
    """Builds the object of a config node, or a partial for ``_partial_: true``; the only function of pmg that does.

    `node` is a mapping with ``_target_``, whose nested nodes are built first; `kwargs` are late arguments, passed as
    they are (never copied or converted). PmgError if there is no target, it is outside of the allowed packages, or
    can't be found.
    """
    import hydra.utils

    plain = to_plain(node)
    if not isinstance(plain, Mapping) or "_target_" not in plain:
        raise PmgError(f"this part of the config has no _target_ to build: {plain}")
    for key, target in targets(plain):
        _find_target(key, target)
    wanted = {name: value for name, value in plain.items() if name not in kwargs and name != "_partial_"}
    try:
        build = hydra.utils.instantiate(wanted, _convert_="all", _partial_=True)
    except InstantiationException as error:
        raise _root_cause(error) from error
    # late arguments bypass OmegaConf, which would turn dataclasses into dicts and copy long lists
    if plain.get("_partial_"):
        return functools.partial(build, **kwargs)
    try:
        return build(**kwargs)
    except ModuleNotFoundError as error:
        needed = error.name or str(error).splitlines()[0]
        raise PmgError(f"{plain['_target_']} needs a package that is not installed: {needed}") from error


def instantiate_by_name(nodes: Any, **kwargs: Any) -> dict[str, Any]:
    """Builds each value of a mapping of nodes and keeps its name (methods); null nodes are left out."""
    return {name: instantiate(node, **kwargs) for name, node in (to_plain(nodes) or {}).items() if node}


def instantiate_all(nodes: Any, **kwargs: Any) -> list[Any]:
    """Builds each value of a mapping of nodes (callbacks, loggers); null nodes are left out."""
    return list(instantiate_by_name(nodes, **kwargs).values())


def built_class(node: Any) -> type:
    """Returns the class of what a config node builds, without building it.

    Its ``_target_`` is a class, a class method, or a function with an annotated result. PmgError if it is not allowed,
    can't be found, or has no annotation that names a class.
    """
    plain = to_plain(node)
    target = _find_target("", plain)
    found = target if inspect.isclass(target) else getattr(target, "__self__", None)
    if found is None:
        found = inspect.signature(target, eval_str=True).return_annotation
    if not inspect.isclass(found) or found in (inspect.Signature.empty, Any):
        raise PmgError(f"{plain['_target_']} doesn't say what it builds: annotate its result with a class")
    return found


def check_targets(node: Any) -> None:
    """Compares every ``_target_`` node with the signature of its target, and every value with its range.

    Required arguments may be absent, since the code supplies some of them late. PmgError names in one line every
    unknown argument, foreign or unknown target, missing value, and value that its key doesn't take or nothing reads.
    """
    plain = to_plain(node)
    problems = [f"{key} is missing a value" for key, value in leaves(plain) if value == "???"]
    problems += find_infinite(leaves(plain))
    if OmegaConf.is_config(node):
        problems += find_problems("", dict(leaves(plain)), schema_ranges(OmegaConf.get_type(node)))
        problems += _find_unread(node)
    for key, target in targets(plain):
        try:
            problems += _check_signature(key, target)
        except PmgError as error:
            problems.append(str(error))
    if problems:
        raise PmgError("config: " + " · ".join(problems))


def _find_unread(node: Any) -> list[str]:
    """Returns a problem for each value that nothing reads: at the root, or in a group whose values the schema has."""
    raw: Any = OmegaConf.to_container(node, resolve=False)
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):
        return []
    known, found = {part.name for part in fields(schema)} | schema_ranges(schema).keys(), dict(leaves(raw))
    listed = {"", *(key.partition(".")[0] for key in known if "." in key)}
    groups = {name for name in listed if f"{name}._target_" not in found}
    unknown = [key for key in found.keys() - known if key.rpartition(".")[0] in groups and "${" not in str(found[key])]
    return [f"nothing reads {key}{nearest(key, known)}" for key in sorted(unknown) if f"${{{key}}}" not in str(raw)]


def allow_plugins(cfg: DictConfig) -> None:
    """Allows a command's own config the plug-ins that it names: in ``plugins``, or an installed one by a ``_target_``.

    What files of runs and pipelines name is not allowed by this: it is read later. PmgError if `plugins` names none.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    if named := [str(name) for name in plain.get("plugins") or []]:
        add_current_folder()
    roots = {str(node["_target_"]).partition(".")[0] for _, node in targets(plain)}
    installed = {name for name in roots.intersection(installed_plugins()) if not is_reserved(name)}
    for name in (*named, *sorted(installed)):
        allow_plugin(name)


def refuse_infinite(config: Mapping[str, Any]) -> None:
    """Checks that every number of a config in built-in types is finite, else PmgError names those that aren't."""
    if problems := find_infinite(leaves(config)):
        raise PmgError("config: " + " · ".join(problems))


def import_target(key: str, target: str) -> Any:
    """Returns what a checked ``_target_`` names, imported; PmgError with the nearest name if it doesn't exist."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(pkgutil.resolve_name(module), name)
    except ImportError as error:
        raise PmgError(f"{key}: can't import '{target}' ({error})") from error
    except AttributeError as error:  # of the module's own name, or of something before it
        hint = nearest(error.name or name, dir(error.obj))
        raise PmgError(f"{key}: can't find '{target}': there is no '{error.name}'{hint}") from error


def _find_target(key: str, node: Mapping[str, Any]) -> Any:
    """Imports what a node builds; says which part of its dotted name is wrong, or why it may not be built."""
    target = check_package(key, node["_target_"])
    check_arguments(key, node)
    found = import_target(key, target)
    check_object(key, target, found)
    return found


def _check_signature(key: str, node: Mapping[str, Any]) -> list[str]:
    """Returns one problem for each argument that the target doesn't take, or not with this value."""
    target = _find_target(key, node)
    problems = find_problems(key, node, argument_hints(node["_target_"], target))
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # built in C: no signature to compare with
        return problems
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return problems
    unknown = [name for name in node if name not in parameters and name not in _HYDRA_KEYS]
    where = f"{key}." if key else ""
    return problems + [
        f"{where}{name} is no argument of {node['_target_']}{nearest(name, parameters)}" for name in unknown
    ]


def _root_cause(error: BaseException) -> BaseException:
    """Returns the PmgError or first cause behind Hydra's wrapping of an error in a nested target."""
    cause: BaseException | None = error
    while isinstance(cause, InstantiationException):
        error, cause = cause, cause.__cause__
    return cause or PmgError(" ".join(str(error).split()))
