"""The config of a command, composed and checked as its console script does, and its errors in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pmg.configuration.instantiate import allow_plugins, check_targets, nearest, register_configs
from pmg.configuration.plugins import read_override, searched
from pmg.configuration.schemas import CORE, all_keys, find_schemas, read_keys
from pmg.configuration.search_path import CONFIG_MODULE
from pmg.configuration.trees import nodes, texts
from pmg.domain import PmgError
from pmg.installation import install_extra

FULL_KEY = re.compile(r"^\s*full_key: (\S+)", re.MULTILINE)  # in messages of OmegaConf
HYDRA_EXTRAS = {  # launchers and sweepers of other packages, with our extra that brings them
    "hydra/launcher/joblib": "sweep", "hydra/launcher/submitit_local": "sweep",
    "hydra/launcher/submitit_slurm": "sweep", "hydra/launcher/ray": "ray", "hydra/sweeper/optuna": "sweep",
}  # fmt: skip
ELSEWHERE = {  # keys of lightning-hydra-template, with what has their purpose here
    "ckpt_path": "run_dir=FOLDER resumes a training, init_from=FOLDER starts from the weights of one, and "
    "train_run=FOLDER generates with them",
    "print_config": "--cfg job prints the composed config, and config.yaml in the run folder has it",
    "extras": "--cfg job prints the composed config, and config.yaml in the run folder has it",
    "task_name": "name=NAME is part of the run folder",
    "tags": "logger.wandb.tags=[NAME] tags a run",
    "test": "pmg-generate and pmg-evaluate test a trained encoder",
    "model": "preference_encoder, text_encoder, generator and scorer are the models",
}


def compose(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Returns the checked config of a command: the keys that it reads.

    Example::

        cfg = pmg.compose("train", overrides=["language_model=tiny", "plugins=[my_module]"])
        data = pmg.instantiate(cfg.data)

    `command` is without ``pmg-``, `overrides` are as on the command line. The run's folder and dates are fixed; other
    interpolations follow changes. The process's own Hydra, where there is one, is left as it was. PmgError if there is
    no such command, an override is not valid, or a ``_target_`` or value is refused.
    """
    if command not in (schemas := find_schemas()):
        raise PmgError(f"no such command: '{command}'{nearest(command, schemas)}. Name one of {', '.join(schemas)}.")
    register_configs()
    given = list(overrides)
    refuse_overrides(given)
    try:
        with searched(read_override(given)), own_hydra(command):
            cfg = hydra.compose(command, overrides=given, return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            with open_dict(cfg):
                del cfg["hydra"]
            for key, value in texts(OmegaConf.to_container(cfg, resolve=False)):
                if "${hydra:" in value or "${now:" in value:  # which need Hydra
                    OmegaConf.update(cfg, key, OmegaConf.select(cfg, key))
            allow_plugins(cfg)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise PmgError(explain(error, command, given)) from error
    check_targets(cfg)
    return cfg


@contextmanager
def own_hydra(command: str) -> Iterator[None]:
    """Makes pmg's configs those of Hydra inside; the process's own Hydra and its config come back afterwards."""
    instance, config = GlobalHydra.instance(), HydraConfig.instance()
    outer, outer_config = instance.hydra, config.cfg
    instance.clear()
    try:
        with hydra.initialize_config_module(CONFIG_MODULE, job_name=command, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra, config.cfg = outer, outer_config


def refuse_overrides(overrides: Sequence[str]) -> None:
    """Refuses a group without an option, an empty run folder, and two experiments, by PmgError."""
    groups = {entry.name for entry in files(CONFIG_MODULE).iterdir() if entry.is_dir()}
    experiments = [override for override in overrides if override.startswith("experiment=")]
    if len(experiments) > 1 or any(override.startswith("experiment=[") for override in experiments):
        raise PmgError(f"{' '.join(experiments)}: name one experiment; keys of another can be given one by one")
    for override in overrides:
        key, _, value = override.partition("=")
        if key in groups and value in ("null", "[]"):
            raise PmgError(f"{override}: name at least one option of {key}")
        if key.lstrip("+") == "hydra.output_subdir" and value != "null":
            raise PmgError("hydra.output_subdir: leave it out; config.yaml in the run folder has the config")
        if override == "run_dir=":
            raise PmgError("run_dir is empty: name a folder, or leave it out")


def explain(error: BaseException, command: str, overrides: Sequence[str] = ()) -> str:
    """Turns an error of Hydra or OmegaConf into one line that names the nearest valid choice."""
    for cause in _chain(error):
        if isinstance(cause, MissingConfigException):
            return _explain_option(cause)
    if isinstance(error, YAMLError):
        return f"can't read the config: {' '.join(str(error).split())}"
    if "Ambiguous value for argument" in str(error):
        return f"{_first_line(error)}: -m sweeps over such values, [a,b] is a list"
    if isinstance(error, OverrideParseException):
        return f"can't read the override '{error.override}': {str(error).splitlines()[0]}"
    text = "\n".join(str(cause) for cause in _chain(error))
    unknown = re.search(r"Key '([^']+)' (?:is )?not in|Could not (?:override|delete from config\.) '([^']+)'", text)
    if unknown:
        return _explain_key(text, unknown.group(1) or unknown.group(2), command, overrides)
    where = f" (key '{value[1]}')" if (value := FULL_KEY.search(text)) else ""
    return ": ".join(filter(None, dict.fromkeys(map(_first_line, _chain(error))))) + where


def _first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, and the second where the first only announces it."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])


def _explain_option(error: MissingConfigException) -> str:
    missing = error.missing_cfg_file
    name = missing[0] if isinstance(missing, (list, tuple)) else str(missing)
    group, _, option = name.rpartition("/")
    options = list(error.options or [])
    if extra := HYDRA_EXTRAS.get(name):
        return f"{group}={option} needs a package that is not installed: {install_extra(extra)}"
    if not options and (instead := ELSEWHERE.get(group or option)):
        return f"no config group '{group or option}'. {instead}"
    hint = nearest(option, options)
    listed = f" (options: {', '.join(options)})" if options else ""
    return f"unknown option {group}={option}{hint}{listed}" if group else f"no config '{option}'{hint}"


def _explain_key(text: str, key: str, command: str, overrides: Sequence[str]) -> str:
    source = re.search(r"In '([^']+)': (?!Could not find)", text)
    found = re.search(r"Could not override '([^']+)'", text) or FULL_KEY.search(text)
    full = found.group(1) if found else key
    first, _, rest = full.partition(".")
    name = rest.partition(".")[0]
    if first in all_keys() - read_keys(command):
        readers = " and ".join(f"pmg-{reader}" for reader in CORE if first in read_keys(reader))
        hint = f": pmg-{command} does not read it{readers and ', but '}{readers}. Leave it out"
    elif first in ELSEWHERE:
        hint = f". {ELSEWHERE[first]}"
    elif full in (known := _known_keys(command, [])):
        hint = f": the default option of {first} has it, the chosen one does not"
    elif first == "preference" and f"{first}.{name}" not in known and _is_option(f"method/{name}"):
        hint = f". It comes with method={name}: choose that method, too"
    else:
        with suppress(HydraException, OmegaConfBaseException):  # one of the chosen options may hold the key
            known = _known_keys(command, [each for each in overrides if each.partition("=")[0] in known])
        hint = nearest(full, known)
    where = f" in {source.group(1)}.yaml" if source else ""
    return f"unknown key '{full}'{where}{hint}"


def _is_option(name: str) -> bool:
    return files(CONFIG_MODULE).joinpath(f"{name}.yaml").is_file()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _known_keys(command: str, overrides: list[str]) -> list[str]:
    with own_hydra(command):
        cfg = hydra.compose(command, overrides, return_hydra_config=True)
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    groups = tree.pop("hydra")["runtime"]["choices"]
    return [*(key for key, _ in nodes(tree) if key), *map(str, groups)]
