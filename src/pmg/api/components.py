"""The closed set of classes that a pipeline folder may name, and the check of their arguments.

A node of ``model_index.json`` is ``{"_class_name": NAME, ARGUMENT: VALUE, ...}``, as diffusers writes configs. The
name is looked up among the entry points ``pmg.components`` of its part, and only what is registered there is imported;
arguments are compared with the constructor's annotations. An argument that is called like a part is a component of
that part. A plug-in's component has its dotted name there, which is imported only for a caller who trusts the plug-in.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import Any

from diffusers import ModelMixin
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from pmg.api.weight_locations import LOCATIONS, Locations
from pmg.configuration.instantiate import import_target, nearest
from pmg.configuration.plugins import component_targets
from pmg.configuration.targets import check_object, is_public, is_reserved
from pmg.configuration.trees import mappings, nodes, texts
from pmg.domain import PmgError
from pmg.preferences.scenarios import Scenario, build_scenario

CLASS = "_class_name"
LARGEST = 1_000_000  # number of an index


@dataclass(frozen=True)
class Component:
    """A constructor with checked arguments; those that are called like a part are components that aren't built yet."""

    build: Callable[..., Any]
    arguments: Mapping[str, Any]

    def create(self) -> Any:
        """Builds it, nested components first."""
        built = {
            name: value.create() if name in component_targets() else value for name, value in self.arguments.items()
        }
        return self.build(**built)


@dataclass(frozen=True)
class ComponentReader:
    """Checks the components of an index, and builds nothing."""

    locations: Locations  # folders of this machine, into which paths may lead
    trust: tuple[str, ...] = ()  # plug-ins whose classes and functions the index may name, too

    def read_component(self, part: str, key: str, node: Any) -> Component:
        """Checks one component, whose class must be of the set of a part; messages name the key.

        PmgError if the class is none of the part's nor a trusted plug-in's, or an argument is unknown, missing, of
        another type, or a path that leads elsewhere.
        """
        if not isinstance(node, Mapping):
            raise PmgError(f"{key} is no component: {str(node)[:80]!r}. Write a mapping with {CLASS}.")
        build = self._find_constructor(part, f"{key}.{CLASS}", str(node.get(CLASS)))
        arguments = {argument: value for argument, value in node.items() if argument != CLASS}
        return Component(build, self.read_arguments(build, key, arguments))

    def read_class(self, part: str, node: Any) -> type[Any]:
        """Checks a component whose arguments are beside its weights, and returns its class.

        The class must be one of the set of `part`, which is its place in the index, too; `node` has it and nothing
        else. PmgError if the class is none of the part's nor a trusted plug-in's, or no model of diffusers.
        """
        if not isinstance(node, Mapping) or set(node) != {CLASS}:
            raise PmgError(f"{part} must be a mapping with {CLASS} alone: {str(node)[:80]!r}")
        found = self._find_constructor(part, f"{part}.{CLASS}", str(node[CLASS]))
        if not (inspect.isclass(found) and issubclass(found, ModelMixin)):
            raise PmgError(f"{part}.{CLASS} is no model of diffusers: {str(node[CLASS])[:80]!r}. Name a ModelMixin.")
        return found

    def _find_constructor(self, part: str, key: str, name: str) -> Callable[..., Any]:
        """Returns a part's constructor by its name, or a plug-in's by its dotted name."""
        registered = component_targets()[part]
        if name in registered:
            return import_target(key, registered[name])
        package, dot, _ = name.partition(".")
        if not (dot and is_public(name)) or is_reserved(package):
            allowed = ", ".join(registered)
            raise PmgError(f"{key} is not allowed: {name[:80]!r}. A shared pipeline builds {allowed}.")
        if package not in self.trust:
            raise PmgError(
                f"{key} is code of another package: {name[:80]!r}. If you trust it, install it, and load the pipeline "
                f"with trust=[{package[:80]!r}]."
            )
        found = import_target(key, name)
        check_object(key, name, found, package)
        return found

    def read_arguments(self, build: Callable[..., Any], key: str, node: Any) -> dict[str, Any]:
        """Checks arguments of `build`, see `read_component`, and replaces folder names by folders; errors as there."""
        if not isinstance(node, Mapping):
            raise PmgError(f"{key} is no mapping: {str(node)[:80]!r}")
        parameters = _parameters(build)
        _check_names(key, node, parameters)
        parts = [name for name in node if name in component_targets()]
        plain = {name: value for name, value in node.items() if name not in parts}
        left_out = [name for name in parts if node[name] is None and parameters[name].default is None]
        nested = {
            name: self.read_component(name, f"{key}.{name}", node[name]) for name in parts if name not in left_out
        }
        for place, part in mappings(plain, key):
            if private := [str(name) for name in part if str(name).startswith("_")]:  # libraries act on these
                raise PmgError(f"{place} can't hold a key that begins with '_': {private[0][:80]!r}")
        for place, text in texts(plain, key):
            _check_text(place, text)
        _check_types(build, key, plain)
        paths = [name for name in plain if name in LOCATIONS and plain[name] is not None]
        found = {name: self.locations.resolve(LOCATIONS[name], f"{key}.{name}", plain[name]) for name in paths}
        return {**plain, **found, **nested}


def _check_names(key: str, node: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> None:
    if unknown := [name for name in node if name not in parameters]:
        raise PmgError(f"{key}.{unknown[0]} is no argument of {key}{nearest(unknown[0], parameters)}")
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    if missing := [name for name in required if name not in node]:
        raise PmgError(f"{key}.{missing[0]} is missing")


@lru_cache
def _parameters(build: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(Scenario if build is build_scenario else build, eval_str=True).parameters


@lru_cache
def _schema(build: Callable[..., Any]) -> type[BaseModel]:
    """The constructor's annotations, but for components, which are checked one by one."""
    # arbitrary types: a plug-in's own, which no JSON value is
    strict = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    plain = {name: parameter for name, parameter in _parameters(build).items() if name not in component_targets()}
    fields: Any = {
        name: (Any if parameter.annotation is parameter.empty else parameter.annotation, None)
        for name, parameter in plain.items()
    }
    return create_model("Arguments", __config__=strict, **fields)


def _check_types(build: Callable[..., Any], key: str, values: Mapping[str, Any]) -> None:
    try:
        _schema(build).model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, (key, *first["loc"])))
        raise PmgError(f"{where} can't be {str(first['input'])[:80]!r}: {first['msg']}") from None
    for place, value in nodes(values, key):
        if isinstance(value, (int, float)) and abs(value) > LARGEST and place.rpartition(".")[2] != "seed":
            raise PmgError(f"{place} is {value}; a shared pipeline can have numbers up to {LARGEST}")


def _check_text(key: str, text: str) -> None:
    """Refuses interpolations, and templates that reach into what is put into them."""
    if "${" in text:
        raise PmgError(f"{key} holds an interpolation, which a shared pipeline can't have: {text[:80]!r}")
    try:
        fields = [(name, kind) for _, name, kind, _ in Formatter().parse(text) if name is not None]
    except ValueError:  # a single brace: no template
        return
    for name, kind in fields:
        if kind or not (name == "" or name.isidentifier()) or name.startswith("_"):
            raise PmgError(f"{key} holds a field that is no plain name: {name[:60]!r}. Templates insert names alone.")
