"""What a command takes from an exported pipeline, or from the training that it exports, in place of its own config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from pmg.configuration.compose import compose
from pmg.configuration.identity import used_sources
from pmg.configuration.instantiate import allow_plugins, to_plain
from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.orchestration.command_lines import config_folder, override_root
from pmg.orchestration.preference_sources import build_methods, build_sources
from pmg.runs.run_folder import read_run

FIXED = ("language_model", "preference_encoder", "inputs", "image_encoder", "text_encoder", "generator")
"""Groups that the trained encoder belongs to."""
SETTINGS = ("sampling", "balance")
"""Groups of an exported pipeline that are no part of a training."""
WORDS = {
    "scenario": ("scenario",), "captioner": ("scenario", "captioner"), "decoding": ("decoding",), "scorer": ("scorer",)
}  # fmt: skip
"""By group, the groups of the command line that keep it: a captioner's template may be its scenario's."""


def take_pipeline_parts(cfg: DictConfig, command: str, overrides: Sequence[str]) -> None:
    """Replaces what a command takes from its pipeline or training, if anything.

    An export takes the settings of sampling and balance that the training's generator brings. Another command takes
    the parts of ``cfg.pipeline`` in place of groups, and its encoder as ``preference.soft`` and ``preference.read``.
    Scenario, captioner, decoding and scorer stay where the command line names them (another catalogue has other
    facts), methods, balance and sampling always. PmgError if there is no such training or pipeline, the command line
    names another part, or it trains.
    """
    named = {override_root(override): override for override in overrides}
    if command == "export":
        if cfg.train_run:
            cfg.update(read_generator_defaults(cfg.train_run, overrides))
        return
    if command not in ("generate", "study") or not cfg.get("pipeline"):
        return
    if command == "study":
        raise PmgError("pmg-study trains its own encoder: leave pipeline out, or use pmg-generate")
    if given := sorted(named.keys() & {*FIXED, "train_run"}):
        raise PmgError(f"{named[given[0]]}: pipeline={cfg.pipeline} has its own. Leave one of them out")
    allow_plugins(cfg)
    from pmg.api.exported_tokens import read_parts  # heavy, and most commands returned before

    parts = read_parts(cfg.pipeline)
    model = parts["language_model"]
    if model.get("dtype") in ("bfloat16", "float32"):  # that of the machine which exported it
        model["dtype"] = "${pmg.dtype:${dtype}}"
    with open_dict(cfg):
        cfg.language_model = model
        cfg.text_encoder, cfg.generator = parts["text_encoder"], parts["generator"]
        keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
        groups = [group for group, keeping in WORDS.items() if not set(keys) & set(keeping)]  # that are the pipeline's
        given_keys = {key: OmegaConf.select(cfg, key) for key in keys if key.partition(".")[0] in groups}
        cfg.update({group: parts[group] for group in groups})
        for key, value in given_keys.items():
            OmegaConf.update(cfg, key, value)
        for name in {"soft", "read"} & set(cfg.preference or ()):
            kept = {"least": cfg.preference.read.least} if name == "read" else {}
            target = f"pmg.api.exported_tokens.{'ExportedKeywords' if kept else 'ExportedTokens'}"
            cfg.preference[name] = {"_target_": target, "pipeline": "${pipeline}", **kept}


def read_generator_defaults(train_run: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the nodes ``sampling`` and ``balance`` that the generator of a training brings, unresolved.

    There are none for a training that didn't record its generator. PmgError if there is no such training.
    """
    _, metrics = read_run(train_run, "train")
    if not (option := (metrics.get("choices") or {}).get("generator")):
        return {}
    composed = _compose_generation([f"generator={option}"], overrides)
    return {group: OmegaConf.to_container(composed[group], resolve=False) for group in SETTINGS}


def _compose_generation(first: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """Returns the config of a generation by what an export was told of it."""
    given = [one for one in overrides if override_root(one) in (*SETTINGS, "method", "plugins", "experiment")]
    return compose("generate", [*first, *config_folder("hydra.searchpath"), *given])


def read_sources(
    trained: DictConfig, train_run: str, methods: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Returns the nodes of the preference sources that methods use, by name, with values of a training's config.

    `methods` are config nodes, `trained` is the config of the run in `train_run`, and `overrides` are an export's.
    PmgError as `build_sources`.
    """
    nodes = OmegaConf.to_container(_compose_generation([], overrides).preference, resolve=False)
    own: Any = OmegaConf.to_container(trained, resolve=False)
    whole = OmegaConf.create({**own, "preference": nodes, "train_run": train_run})
    used = used_sources(dict(leaves({"method": methods})))
    sources = {name: to_plain(whole.preference[name]) for name in whole.preference if name in used}
    build_sources(sources, build_methods(methods, mismatched=True))
    return sources
