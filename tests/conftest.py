"""What every test shares: no network, a composed config that writes into a temporary folder."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path

# before any library reads them
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the other cores have tests of their own
os.environ.setdefault("RAY_worker_niceness", "0")  # else they give way to every process, on a busy machine for minutes
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", WANDB_MODE="disabled", WANDB_SILENT="true")

import hydra
import pytest
from hydra._internal import defaults_list
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, grammar_parser

from browsers import BROWSER, launched
from commands import read_by, run_here
from pmg.commands.pmg import find_commands
from pmg.configuration import targets
from pmg.configuration.instantiate import register_configs
from shops import write_shop

ROOT = Path(__file__).resolve().parents[1]
# files whose tests take longest, which start first, so that no core waits for another at the end
LONGEST = (
    "test_processes",
    "test_broken_runs",
    "test_contents",
    "test_limits",
    "test_backbones",
    "test_quickstart",
    "test_config",
    "test_browser",
    "test_preference",
    "test_end_to_end",
    "test_docs",
    "test_pipeline",
    "test_image_evaluation",
)


def pytest_collection_modifyitems(items):
    """Puts the longest files first; see LONGEST."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session", autouse=True)
def parse_configs_once():
    """Keeps what is parsed of each file under conf/ and of each interpolation: half of the time of a config.

    And leaves out what Hydra makes for defaults with interpolations, for each file, where it has none: a third of the
    time that is left.
    """
    register_configs()  # Hydra imports its sources anew when it looks for plug-ins, so not before that
    source = SourcesRegistry.instance().types["pkg"]
    read, known = source._read_config, {}
    choices = defaults_list._create_interpolation_map

    def read_once(self, path):
        if path not in known:
            known[path] = pickle.dumps(read(self, path))
        return pickle.loads(known[path])  # faster than a copy

    def choices_where_read(overrides, defaults, self_added):
        interpolated = any(default.is_interpolation() for default in defaults)
        return choices(overrides, defaults, self_added) if interpolated else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "_read_config", read_once)
        patch.setattr(defaults_list, "_create_interpolation_map", choices_where_read)
        patch.setattr("omegaconf.base.parse", functools.cache(grammar_parser.parse))  # no reader changes a tree
        yield


@pytest.fixture(scope="session")
def composed():
    """Configs that were composed before, by command and chosen options: many tests begin with the same ones."""
    return {}


def chooses(override):
    """Whether an override chooses an option of a group or is Hydra's own; the others change the composed values."""
    key = override.lstrip("+~").partition("=")[0].partition("@")[0]
    return key.startswith("hydra") or (ROOT / "conf" / key).is_dir()


@pytest.fixture
def compose(composed, tmp_path):
    """Composes a command's config with the overrides that it reads; its run folder lies in `tmp_path`."""

    def compose(command="train", *overrides):
        overrides = read_by(command, overrides)
        options = tuple(filter(chooses, overrides))
        if (command, *options) not in composed:
            composed[command, *options] = pickle.dumps(hydra.compose(command, ["run_dir=run", *options]))
        HydraConfig.instance().cfg = OmegaConf.create({"hydra": {"job": {"name": command}}})  # for ${hydra:job.name}
        cfg = pickle.loads(composed[command, *options])
        values = OverridesParser.create().parse_overrides([text for text in overrides if text not in options])
        GlobalHydra.instance().config_loader()._apply_overrides_to_config(values, cfg)  # as Hydra does, at the end
        if cfg.run_dir == "run":
            cfg.run_dir = str(tmp_path / "run")
        return cfg

    register_configs()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("pmg.conf", version_base="1.3"):
        yield compose
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


@pytest.fixture
def shell(tmp_path):
    """Runs a program in `tmp_path` and returns the finished process with its texts."""

    def run(*command, **environment):
        clean = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
        return subprocess.run(
            [str(part) for part in command],
            cwd=tmp_path,
            env={**clean, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def pmg(shell):
    """Runs a command's module by ``python -m``; returns the finished process."""
    return lambda verb, *args, **env: shell(
        sys.executable, "-m", find_commands()[verb].module, *read_by(verb, args), **env
    )


@pytest.fixture
def pmg_here(tmp_path, monkeypatch):
    """The same in this process, for tests of what commands do, not of how their process begins or ends."""
    monkeypatch.chdir(tmp_path)
    return lambda verb, *args: run_here(verb, *read_by(verb, args))


@pytest.fixture(scope="module")
def chromium():
    """A browser; of a module, since Playwright's event loop would stay in the way of other tests' own."""
    if BROWSER is None:
        pytest.skip("no chromium: apt-get install chromium")
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@contextlib.contextmanager
def imports_from(folder):
    """Puts a folder on Python's path; afterwards no module of it is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(f"{folder}{os.sep}"):
            del sys.modules[name]


@pytest.fixture
def scripts():
    """The folder of the studies' scripts, which tests import by name; those of a study as ``experiments.NAME``."""
    with pytest.MonkeyPatch.context() as patch, imports_from(ROOT / "experiments") as folder:
        patch.syspath_prepend(str(ROOT))
        yield folder


@pytest.fixture
def benchmarks(monkeypatch):
    """The folder of the checkout, from which tests import the package of the benchmarks."""
    monkeypatch.syspath_prepend(ROOT)
    return ROOT


@pytest.fixture
def importable(tmp_path, monkeypatch):
    """`tmp_path`, from which tests import, and allow as plug-ins, modules that they write."""
    monkeypatch.setattr(targets, "_allowed", {})
    with imports_from(tmp_path) as folder:
        yield folder


@pytest.fixture(scope="session")
def shipped():
    """The config of `pmg-train` as shipped."""
    register_configs()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("pmg.conf", version_base="1.3"):
        cfg = hydra.compose("train")
    GlobalHydra.instance().clear()
    return cfg


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """A data set of the core: a shop's things and what sixty people chose, read by data=own_files."""
    from pmg.configuration.instantiate import instantiate

    folder = write_shop(tmp_path_factory.mktemp("shop"), people=60, without=())
    files = ["items=shop/items.csv", "interactions=shop/chosen.csv"]
    register_configs()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("pmg.conf", version_base="1.3"), contextlib.chdir(folder):
        read = [f"source.read.{file}" for file in files]
        cfg = hydra.compose("prepare", ["data=own_files", "paths.data_dir=.", "source.pictures.size=64", *read])
        cfg.data.folder = str(folder / "prepared")
        instantiate(cfg.source)
    GlobalHydra.instance().clear()
    return instantiate(cfg.data)


@pytest.fixture(scope="session")
def text_encoder():
    """A tiny BERT, 32 wide."""
    from pmg.models.tiny_models import tiny_text_encoder

    return tiny_text_encoder(width=32)


@pytest.fixture
def generator(text_encoder):
    """A tiny latent diffusion model, frozen."""
    from pmg.models.tiny_models import tiny_generator

    return tiny_generator(text_encoder)


@pytest.fixture
def stop_at():
    """Makes callbacks that end a training after a step, with a schedule meant for more."""

    from pytorch_lightning import Callback

    class StopAt(Callback):
        def __init__(self, step):
            self.step = step

        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == self.step:
                trainer.should_stop = True

    return StopAt
