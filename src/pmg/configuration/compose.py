"""The config of a command in Python and notebooks, composed and checked as its console script does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pmg.configuration.explanations import explain, refuse_overrides
from pmg.configuration.instantiate import allow_plugins, check_targets, nearest, register_configs
from pmg.configuration.plugins import read_override, searched
from pmg.configuration.portable import take_out
from pmg.configuration.schemas import find_schemas
from pmg.configuration.search_path import CONFIG_MODULE
from pmg.configuration.trees import texts
from pmg.domain import PmgError


def compose(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Returns the checked config of a command.

    Example::

        cfg = pmg.compose("train", overrides=["language_model=tiny", "plugins=[my_module]"])
        data = pmg.instantiate(cfg.data)

    The process's own Hydra, where there is one, is left as it was. PmgError if there is no such command, an
    override is not valid, or a ``_target_`` or value is refused.

    Args:
        command: ``train``, ``generate``, ``evaluate`` … without ``pmg-``.
        overrides: as on the command line.

    Returns:
        The keys that the command reads. The run's folder and dates are fixed; other interpolations follow changes.
    """
    if command not in (schemas := find_schemas()):
        raise PmgError(f"no such command: '{command}'{nearest(command, schemas)}. Name one of {', '.join(schemas)}.")
    register_configs()
    given = list(overrides)
    refuse_overrides(given)
    try:
        with searched(read_override(given)), own_hydra(command):
            cfg = hydra.compose(command, overrides=given, return_hydra_config=True)
            _fix(cfg)
            allow_plugins(cfg)
            take_out(cfg, command, given)
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


def _fix(cfg: DictConfig) -> None:
    """Replaces interpolations that need Hydra by their values, and takes Hydra's own config out."""
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
        plain: Any = OmegaConf.to_container(cfg, resolve=False)
        for key, value in texts(plain):
            if "${hydra:" in value or "${now:" in value:
                OmegaConf.update(cfg, key, OmegaConf.select(cfg, key))
