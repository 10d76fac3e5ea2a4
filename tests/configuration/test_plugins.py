"""Plug-ins: found without an import, used where the command names them, and never because a folder's files do."""

from __future__ import annotations

import json
import re
import sys
from functools import partial

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import pmg
from plugins import write_metadata, write_plugin
from pmg.configuration import targets
from pmg.configuration.identity import decides_result
from pmg.configuration.instantiate import allow_plugins, check_targets, instantiate
from pmg.configuration.keys import schema_spec
from pmg.configuration.plugins import find_config_folders, installed_plugins, read_command_line, read_override
from pmg.configuration.schemas import find_schemas
from pmg.domain import PmgError
from pmg.orchestration.process_pool import Task, run_shards
from pmg.orchestration.run import execute
from pmg.runs.process_state import RunFailedError
from pmg.runs.provenance import versions
from pmg.runs.run_folder import identify
from runs import write_run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder on Python's path; what the test allows, imports and tells Hydra is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(targets, "_allowed", {})
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    yield folder
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def installed(place):
    """The canary of a plug-in that is installed."""
    return write_plugin(place, "pmg_test_plugin")


def test_installed_plugin_is_found_without_an_import(installed):
    assert "pmg_test_plugin" in installed_plugins()
    assert find_config_folders()["pmg_test_plugin"].name == "conf"
    pmg.compose("train", ["text_encoder=tiny", "generator=tiny", "language_model=tiny", "scorer=tiny"])
    with pytest.raises(PmgError, match="options: choose, choose_calibrated, choose_three, generate, pmg_test_plugin"):
        pmg.compose("train", ["decoding=pmg_test_plugn"])
    assert not installed.exists()


def test_installed_plugin_is_imported_by_a_config_that_names_it(installed):
    cfg = pmg.compose("train", ["decoding=pmg_test_plugin"])
    assert installed.exists()
    assert pmg.instantiate(cfg.decoding).count == 2


def test_an_entry_point_can_not_declare_a_library_or_what_is_missing(place):
    for name in ("torch", "pmg", "no_such_module"):
        write_metadata(place, name)
    path = list(sys.path)
    assert pmg.compose("train").seed == 0
    assert sys.path == path  # the current folder is on it for modules that the command line names
    assert not targets.allowed_plugins()


@pytest.mark.parametrize("package", [True, False])
def test_module_of_the_current_folder_is_named_on_the_command_line(place, monkeypatch, tmp_path, package):
    work = tmp_path / "work"
    canary = write_plugin(work, "my_ideas", installed=False, package=package)
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", list(sys.path))
    cfg = pmg.compose("train", ["plugins=[my_ideas]", "decoding=my_ideas"])
    assert list(cfg.plugins) == ["my_ideas"]
    assert canary.exists()
    assert type(pmg.instantiate(cfg.decoding)).__module__ == "my_ideas"
    with pytest.raises(PmgError, match="unknown option decoding=my_ideas"):  # its folder was searched there alone
        pmg.compose("train", ["decoding=my_ideas"])


def test_values_of_a_plugin_are_compared_with_its_annotations(installed):
    with pytest.raises(PmgError, match=r"decoding\.count must be a whole number of at least 1, got 0"):
        pmg.compose("train", ["decoding=pmg_test_plugin", "decoding.count=0"])
    with pytest.raises(PmgError, match=r"decoding\.cuont is no argument"):
        pmg.compose("train", ["decoding=pmg_test_plugin", "+decoding.cuont=1"])


def test_pmgs_own_options_are_not_replaced(place):
    write_plugin(place, "greedy")
    folder = place / "greedy" / "conf"
    (folder / "decoding" / "choose.yaml").write_text("_target_: greedy.run\n")
    (folder / "train.yaml").write_text("seed: 7\n")
    cfg = pmg.compose("train")
    assert (cfg.decoding._target_, cfg.seed) == ("pmg.preferences.keyword_decoding.Choose", 0)


@pytest.mark.parametrize(
    "name", ["os", "torch", "pmg", "hydra", "builtins", "a.b", "_private", "no_such_module", "x y"]
)
def test_what_is_no_plugin_is_refused(place, name):
    with pytest.raises(PmgError, match="plugins: "):
        pmg.compose("train", [f"plugins=['{name}']"])
    with pytest.raises(PmgError, match="plugins: "):
        allow_plugins(OmegaConf.create({"plugins": [name]}))


def test_override_is_read_as_hydra_reads_it():
    assert read_override(["seed=1", "plugins=[a, 'b']", "+plugins=[c]"]) == ["c"]
    assert read_override(["plugins=[ a,b ]"]) == ["a", "b"]
    assert read_override(["plugins=[]"]) == read_override(["data.plugins=[x]"]) == []
    with pytest.raises(PmgError, match=r"Write plugins=\[my_module\]"):
        read_override(["plugins=a"])


def test_tab_completes_options_of_a_module_on_the_same_line(monkeypatch):
    monkeypatch.setenv("COMP_LINE", "pmg-train plugins=[my_ideas] plugins=[ano")
    assert read_command_line() == ["my_ideas"]
    monkeypatch.delenv("COMP_LINE")
    monkeypatch.setattr(sys, "argv", ["pmg-train", "plugins=[other]"])
    assert read_command_line() == ["other"]


def test_versions_of_plugins_in_use_are_recorded(place, monkeypatch):
    write_plugin(place, "pmg_test_plugin")
    write_plugin(place / "pmg_test_plugin", "my_ideas", installed=False)
    assert not {"pmg_test_plugin", "my_ideas"} & set(versions())
    targets.allow_plugin("pmg_test_plugin")
    monkeypatch.syspath_prepend(place / "pmg_test_plugin")
    targets.allow_plugin("my_ideas")
    found = versions()
    assert (found["pmg_test_plugin"], found["my_ideas"]) == ("1", "not installed")


def test_no_file_of_a_run_has_a_plugin_imported(installed):
    node = {"_target_": "pmg_test_plugin.run"}
    with pytest.raises(PmgError, match=r"is of the plug-in 'pmg_test_plugin'.*add plugins=\[pmg_test_plugin\]"):
        instantiate(node)
    with pytest.raises(PmgError, match="is of the plug-in"):
        check_targets({"data": {"_target_": "pmg.domain.Interaction", "item": [node]}})
    assert not installed.exists()


def test_evaluation_of_a_run_with_a_plugins_data_needs_its_name(installed, tmp_path, capsys):
    from pmg.commands.evaluate import body

    generated = pmg.compose("generate", ["method=none", "text_encoder=tiny", "generator=tiny", "scorer=tiny"])
    generated.data = {"_target_": "pmg_test_plugin.run"}
    folder = write_run(tmp_path / "generate", "generate", identity=identify(generated, "generate"))
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(generated, resolve=True))
    given = [f"generate_run={folder}", f"run_dir={tmp_path / 'evaluate'}", "logger=none"]
    with pytest.raises(RunFailedError):
        execute(pmg.compose("evaluate", given), "evaluate", body)
    assert "add plugins=[pmg_test_plugin]" in capsys.readouterr().err
    assert not installed.exists()


def test_a_plugin_reaches_no_further_than_its_own_classes(installed):
    targets.allow_plugin("pmg_test_plugin")
    for name in ("Path.write_text", "Path", "dataclass", "os.system"):
        with pytest.raises(PmgError, match=r"outside the allowed packages|is no class|can't find"):
            instantiate({"_target_": f"pmg_test_plugin.{name}"})


@pytest.mark.parametrize("command", sorted(find_schemas()))
def test_plugins_decide_no_result_by_themselves(command):
    assert not decides_result(command, "plugins")
    assert "plugins" in schema_spec(find_schemas()[command])


@pytest.mark.slow
def test_processes_of_a_command_may_build_what_it_may(installed, tmp_path):
    targets.allow_plugin("pmg_test_plugin")
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": {}})
    run_shards([Task("shard", partial(check_targets, {"_target_": "pmg_test_plugin.run"}), tmp_path / "log", {})])
    assert installed.exists()


def test_compose_gives_the_config_of_the_command(compose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ["text_encoder=tiny", "generator=tiny", "language_model=tiny", "scorer=tiny"]
    for _ in range(2):
        cfg = pmg.compose("train", [*tiny, f"run_dir={tmp_path / 'run'}"])
        assert identify(cfg, "train") == identify(compose("train", *tiny), "train")
        assert OmegaConf.get_type(cfg) is OmegaConf.get_type(compose("train"))
    assert "hydra" not in cfg
    assert pmg.compose("generate", ["experiment=demo_smoke", *tiny]).run_dir == "outputs/demo_smoke/generate"
    assert re.fullmatch(r"outputs/default/2[^/]*/evaluate", pmg.compose("evaluate").run_dir)


def test_compose_leaves_the_processs_own_hydra_as_it_was(place, tmp_path, monkeypatch):
    monkeypatch.setattr(GlobalHydra.instance(), "hydra", None)
    (tmp_path / "own.yaml").write_text("mine: 1\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        cfg = hydra.compose("own", return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        assert pmg.compose("export").seed == 0
        with pytest.raises(PmgError, match="unknown key 'sede'"):
            pmg.compose("train", ["sede=1"])
        assert hydra.compose("own").mine == 1
        assert HydraConfig.get().job.name == "app"


@pytest.mark.parametrize(
    ("command", "overrides", "message"),
    [
        ("trian", [], "no such command: 'trian'; did you mean 'train'"),
        ("train", ["language_model=tinny"], "unknown option language_model=tinny; did you mean 'tiny'"),
        ("train", ["sede=1"], "unknown key 'sede'; did you mean 'seed'"),
        ("train", ["seed=1,2"], "Ambiguous value for argument 'seed=1,2': -m sweeps over such values"),
        ("train", ["seed=="], "can't read the override 'seed=='"),
        ("generate", ["+sampling.stepz=3"], "nothing reads sampling.stepz; did you mean 'sampling.steps'"),
        ("generate", ["+balance.alfa=1"], "nothing reads balance.alfa; did you mean 'balance.alpha'"),
        ("train", ["+sede=1"], "nothing reads sede; did you mean 'seed'"),
        ("train", ["trainer.max_steps=0"], "trainer.max_steps must be a whole number of at least 1"),
        ("prepare", ["data=own_files"], r"source\.read\.items is missing a value"),
    ],
)
def test_compose_refuses_in_one_line(command, overrides, message):
    with pytest.raises(PmgError, match=message) as caught:
        pmg.compose(command, overrides)
    assert "\n" not in str(caught.value)


def test_added_values_that_something_reads_are_kept():
    assert pmg.compose("train", ["+trainer.limit_train_batches=2"]).trainer.limit_train_batches == 2
    assert pmg.compose("train", ["+mine=2", "trainer.max_steps=${mine}"]).trainer.max_steps == 2


def test_instantiate_builds_a_part():
    cfg = pmg.compose("train", ["text_encoder=tiny", "generator=tiny", "language_model=tiny", "scorer=tiny"])
    assert pmg.instantiate(cfg.decoding).per_attribute == 1
    assert json.dumps(OmegaConf.to_container(cfg.decoding))


@pytest.mark.parametrize(
    "text",
    ["pmg_read: {keywords: counting}", "# @package _global_\nmethod: {mine: {keywords: counting}, pmg_read: {}}"],
    ids=["in the group", "global"],
)
def test_an_option_defines_no_other_method(installed, text):
    options = installed.parent / "pmg_test_plugin" / "conf" / "method"
    options.mkdir()
    (options / "mine.yaml").write_text(text)
    with pytest.raises(PmgError, match=r"method=mine defines another method: pmg_read\. Name the file as the method"):
        pmg.compose("generate", ["method=[pmg_read,mine]"])
    (options / "mine.yaml").write_text(text.replace("pmg_read", "mine").replace(", mine: {}", ""))
    assert list(pmg.compose("generate", ["method=[pmg_read,mine]"]).method) == ["pmg_read", "mine"]
