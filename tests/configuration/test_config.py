"""Every option composes and fits its target's signature; typos are refused; nodes become the objects they name."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf

import pmg
from pmg.configuration.instantiate import check_targets, instantiate, instantiate_all, register_configs, to_plain
from pmg.configuration.keys import find_key, schema_ranges, schema_spec
from pmg.configuration.masked_folders import mask_folders
from pmg.configuration.precision import has_bfloat16
from pmg.configuration.ranges import argument_hints, describe
from pmg.configuration.schemas import find_schemas, read_keys, read_sections
from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.orchestration.preference_sources import build_methods, build_sources, check_sources, hash_sources
from pmg.runs.content import select_content
from pmg.runs.run_folder import identify
from runs import write_trained

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
ANY_NUMBER = {
    "pmg.data.feedback.Feedback.like_from", "pmg.data.feedback.Feedback.dislike_to", # ratings of any scale
    "pmg.recommendation.ranking.Recommender.arguments", # cornac's
}  # fmt: skip
OPTIONS = sorted(
    str(path.relative_to(CONF).with_suffix(""))
    for path in CONF.rglob("*.yaml")
    if path.parent != CONF and path.relative_to(CONF).parts[0] not in ("local", "base")
)
PIPELINE = {"estimate", *read_sections("study")} - {"study"}  # a study has all groups of these
ROOTS = ["study", *(name for name in find_schemas() if name not in PIPELINE | {"study"})]


@pytest.fixture(scope="module")
def groups():
    """The groups that each command's defaults list chooses from."""
    register_configs()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("pmg.conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        trees = {command: loader.compute_defaults_list(command, [], RunMode.RUN) for command in find_schemas()}
    return {command: {key.split("@")[0] for key in tree.overrides.known_choices} for command, tree in trees.items()}


def fill_missing(cfg):
    """Gives every mandatory value (`???`) a stand-in: a test asks for structure alone."""
    for key in OmegaConf.missing_keys(cfg):
        number = {"full_steps": 1}.get(key.rpartition(".")[2])
        known = number if number is not None else {} if key == "card" else "given-by-the-user"
        OmegaConf.update(cfg, key, known)
    return cfg


def check(cfg, command):
    """Checks a config, that each value is classed in the command's table, and that each number in it has a range."""
    assert set(cfg) == read_keys(command)
    fill_missing(cfg)
    check_targets(cfg)
    assert not [
        key for key, _ in leaves(mask_folders(cfg)) if find_key(schema_spec(find_schemas()[command]), key) is None
    ]
    hints = schema_ranges(OmegaConf.get_type(cfg))
    unranged = []
    for key in numbers(to_plain(cfg)):
        target, _, name = key.rpartition("!")
        hint = argument_hints(target, pkgutil.resolve_name(target)).get(name) if target else hints.get(name)
        if hint is None or not ("least" in describe(hint) or "more" in describe(hint)):
            unranged.append(f"{target}.{name}".lstrip("."))
    assert set(unranged) <= ANY_NUMBER


def numbers(node, key=""):
    """Yields ``TARGET!argument``, or the dotted key where there is no target, of each number of a config."""
    for name, value in node.items() if isinstance(node, dict) else ():
        inner = f"{node['_target_']}!{name}" if "_target_" in node else f"{key}.{name}".lstrip(".")
        values = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if isinstance(value, dict) and ("_target_" in value or "!" not in inner):
            yield from numbers(value, inner)
        elif any(isinstance(inner_node, dict) for inner_node in values):
            yield from (found for inner_node in values for found in numbers(inner_node, inner))
        elif any(isinstance(number, (int, float)) and not isinstance(number, bool) for number in values):
            yield inner


@pytest.mark.parametrize("command", sorted(PIPELINE))
def test_a_study_has_the_values_of_the_commands_that_it_runs(compose, command):
    """All but folders, and what a forecast assumes, so that a test of a study speaks for the others."""
    own = {"run_dir", "work_dir", "train_run", "generate_run", "results_dir", "history_tokens", "profiles_per_user"}
    study, part = (OmegaConf.to_container(compose(name), resolve=False) for name in ("study", command))
    assert {key for key in part if key not in study or part[key] != study[key]} <= own


def test_a_command_composes_its_own_keys_of_an_experiment(compose, tmp_path):
    text = """
defaults: [{override /generator: tiny}, {override /metrics: real}, _self_]
seed: 3
sampling: {steps: 5}
objective: {users_per_step: 2}
train: {defaults: [{override /optimizer: sgd}], seed: 4}
evaluate: {results_dir: here}
"""
    path = user_configs(tmp_path, mine=text)
    train, generate, evaluate, study = (
        compose(command, path, "experiment=mine") for command in ("train", "generate", "evaluate", "study")
    )
    assert (train.seed, generate.seed, evaluate.seed, study.seed) == (4, 3, 3, 4)
    assert train.optimizer == study.optimizer != compose("train").optimizer
    assert (generate.sampling.steps, study.sampling.steps, evaluate.results_dir) == (5, 5, "here")
    assert not {"sampling", "metrics"} & set(train)
    assert len(evaluate) <= 16
    assert study.metrics == evaluate.metrics != compose("evaluate").metrics


def test_a_key_of_another_command_is_refused_with_its_readers(compose):
    with pytest.raises(PmgError, match=r"unknown key 'data': pmg-evaluate does not read it, but .*pmg-generate"):
        pmg.compose("evaluate", ["data=looks"])
    with pytest.raises(PmgError, match=r"unknown key 'preference\.pooled\.run'\. It comes with method=pooled: choose"):
        pmg.compose("generate", ["preference.pooled.run=x"])
    with pytest.raises(PmgError, match=r"unknown key 'objective\.users_per_step': pmg-generate does not read it"):
        pmg.compose("generate", ["objective.users_per_step=2"])


def test_root_files_are_the_commands():
    assert {path.stem for path in CONF.glob("*.yaml")} == set(find_schemas())


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.startswith("method/")])
def test_a_method_is_one_file_of_its_name(compose, option):
    """Its sources are there when it alone is chosen; a set of methods has none of its own."""
    name = option.partition("/")[2]
    cfg = compose("generate", f"method={name}")
    every = build_methods(cfg.method, mismatched=True)
    assert set(every) == {name} or not OmegaConf.load(CONF / f"{option}.yaml").keys() - {"defaults"}
    assert {source for method in every.values() for source in method.sources} <= set(cfg.preference)


def test_options_are_found():
    assert len(OPTIONS) > 10


@pytest.mark.parametrize("command", sorted(find_schemas()))
def test_command_composes(compose, command):
    check(compose(command), command)


def readers(groups, option):
    """The commands that an option is for."""
    group = option.rpartition("/")[0]
    every = [command for command in find_schemas() if group in groups[command]]
    named = [command for command in every if f"pmg-{command}" in (CONF / f"{option}.yaml").read_text()]
    # an experiment is written for some commands, and says which; data without pictures, too
    commands = named if group == "experiment" or (group == "data" and named) else every
    if group in ("experiment", "hparams_search", "debug"):
        return commands
    if group == "data" and not (CONF / "source" / f"{option.rpartition('/')[2]}.yaml").exists():
        commands = [command for command in commands if command != "prepare"]  # what is made from no published files
    found = list(dict.fromkeys("study" if command in PIPELINE else command for command in commands))
    return sorted(found, key=lambda command: command != "study")


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("experiment", [option for option in OPTIONS if option.startswith("experiment/")])
def test_experiment_composes(groups, compose, experiment):
    """With each command that it is written for; a study has the values of those that it runs."""
    commands = readers(groups, experiment)
    assert commands, f"conf/{experiment}.yaml names no command to run it with"
    for command in dict.fromkeys("study" if command in PIPELINE else command for command in commands):
        check(compose(command, experiment.replace("/", "=")), command)


# a source fits the data of its name, a stage the data, optimizer and schedule that it names
FOLLOWS = {"prepare": ("source",), "pretrain": ("data", "optimizer", "lr_scheduler")}


def rounds(groups, command):
    """Overrides that choose the first option of each of a command's groups, then the second, and so on."""
    choices = {}
    for option in OPTIONS:
        group, _, name = option.rpartition("/")
        if group not in ("experiment", *FOLLOWS.get(command, ())) and command in readers(groups, option):
            choices.setdefault(group, []).append(name)
    return [
        [f"{group}={names[number % len(names)]}" for group, names in choices.items()]
        for number in range(max(map(len, choices.values()), default=0))
    ]


@pytest.mark.ci
@pytest.mark.slow
def test_every_option_composes(groups, compose):
    """Each with the first command that reads it; with all of them in a slow test."""
    left = {option: readers(groups, option) for option in OPTIONS if not option.startswith("experiment/")}
    assert not [option for option, commands in left.items() if not commands], "no command reads them"
    while left:
        commands = next(iter(left.values()))
        command = commands[0]
        chosen = {}
        for option in [option for option in left if command in left[option]]:
            group, _, name = option.rpartition("/")
            if group not in chosen:
                chosen[group] = name
                del left[option]
        check(compose(command, *(f"{group}={name}" for group, name in chosen.items())), command)


@pytest.mark.slow
@pytest.mark.parametrize("command", ROOTS)
def test_options_compose_with_every_command_that_reads_them(groups, compose, command):
    for overrides in rounds(groups, command):
        check(compose(command, *overrides), command)


@pytest.mark.slow
@pytest.mark.parametrize("command", [name for name in ROOTS if name != "prepare"])  # whose source follows the data
def test_tests_compose_as_commands_do(groups, compose, command):
    """The fixture keeps what it composed, and changes values itself; Hydra does it for each command line anew."""
    value = {"study": "sampling.batch_size=3", "pretrain": "trainer.max_steps=3"}.get(command, "seed=3")
    for overrides in rounds(groups, command):
        kept = OmegaConf.to_container(compose(command, *overrides, value), resolve=False)
        anew = OmegaConf.to_container(hydra.compose(command, ["run_dir=run", *overrides, value]), resolve=False)
        assert {key for key in kept | anew if kept.get(key) != anew.get(key)} == {"run_dir"}, overrides


def user_configs(compose_dir, **experiments):
    """Writes experiment files and returns the override that puts their folder on the search path."""
    for name, text in experiments.items():
        file = compose_dir / "experiment" / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"# @package _global_\n{text}\n")
    return f"hydra.searchpath=[file://{compose_dir}]"


def test_experiment_beats_root_and_command_line_beats_experiment(compose, tmp_path):
    path = user_configs(tmp_path, mine="seed: 7")
    assert compose("train", path, "experiment=mine").seed == 7
    assert compose("train", path, "experiment=mine", "seed=8").seed == 8


def test_typo_at_the_top_of_an_experiment_is_refused(compose, tmp_path):
    path = user_configs(tmp_path, typo="seeed: 7")
    with pytest.raises(ConfigCompositionException, match="seeed"):
        compose("train", path, "experiment=typo")


def test_all_problems_of_all_targets_at_once(compose, tmp_path):
    typos = """
trainer: {max_stepz: 3}
logger: {csv: {save_dirr: x}}
callbacks: {progress: {_target_: os.system}}
"""
    cfg = compose("train", user_configs(tmp_path, typos=typos), "experiment=typos")
    with pytest.raises(PmgError) as caught:
        check_targets(cfg)
    message = str(caught.value)
    assert "trainer.max_stepz" in message
    assert "did you mean 'max_steps'" in message
    assert "logger.csv.save_dirr" in message
    assert "os.system" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"_target_": "torch.nn.Linearr"}, "did you mean 'Linear'"),
        ({"_target_": "torch.nnn.Linear"}, "torch.nnn.Linear"),
        ({"_target_": "torch.optim.AdamW", "_partial_": True, "lrr": 1e-3}, "did you mean 'lr'"),
        ({"outer": [{"_target_": "torch.nn.Linear", "biass": True}]}, "outer.0.biass"),
        ({"path": "???"}, "path is missing a value"),
    ],
)
def test_problem_is_named(node, expected):
    with pytest.raises(PmgError) as caught:
        check_targets(OmegaConf.create(node))
    assert expected in str(caught.value)


def test_late_arguments_may_be_absent():
    check_targets(OmegaConf.create({"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1e-3}))
    check_targets(OmegaConf.create({"_target_": "torch.nn.Linear", "in_features": 3}))


def test_foreign_targets_are_refused():
    with pytest.raises(PmgError, match=r"outside the allowed packages .* own: see docs/extending\.md"):
        instantiate({"_target_": "subprocess.run", "args": "true"})
    with pytest.raises(PmgError, match=r"outside the allowed packages .* add plugins=\[lion_pytorch\]"):
        instantiate({"_target_": "lion_pytorch.Lion", "_partial_": True})
    with pytest.raises(PmgError, match="outside the allowed packages"):
        instantiate({"_target_": "torch.nn.Sequential", "inner": {"_target_": "os.getcwd"}})


@dataclass(frozen=True)
class Thing:
    """A plain object, as `domain` has them."""

    values: tuple[int, ...] = (1, 2)


def test_built_objects_pass_by_identity_and_config_becomes_builtin_types():
    thing = Thing()
    node = OmegaConf.create({"_target_": "pmg.domain.Interaction", "action": {"a": [1, 2]}})
    built = instantiate(node, item=thing)
    assert built.item is thing
    assert type(built.action) is dict
    assert type(built.action["a"]) is list


def test_partial_takes_late_arguments_now_and_at_the_call():
    node = OmegaConf.create({"_target_": "pmg.domain.Interaction", "_partial_": True, "action": "sent"})
    build = instantiate(node, timestamp=3)
    thing = Thing()
    assert build(item=thing).item is thing
    assert build(item=thing).timestamp == 3


def test_node_without_target_is_refused():
    with pytest.raises(PmgError, match="_target_"):
        instantiate({"a": 1})


def test_instantiate_all_leaves_out_null():
    nodes = OmegaConf.create({"a": {"_target_": "torch.nn.Identity"}, "b": None})
    assert len(instantiate_all(nodes)) == 1
    assert instantiate_all(None) == []


def test_error_of_a_nested_target_keeps_its_type():
    missing = {"_target_": "pmg.models.loading.weight_sources.resolve_source", "source": "package:no_such_package/x"}
    with pytest.raises(PmgError, match="no_such_package"):
        instantiate({"_target_": "pmg.domain.Interaction", "item": missing})


def test_interpolation_is_resolved_against_the_whole_config():
    cfg = OmegaConf.create({"size": 3, "node": {"_target_": "pmg.domain.Interaction", "item": "${size}"}})
    assert instantiate(cfg.node).item == 3


def test_identity_has_what_decides_results_alone(compose):
    plain = identify(compose("train"), "train")
    assert identify(compose("train", "paths.output_dir=elsewhere", "run_dir=x", "logger=none"), "train") == plain
    assert identify(compose("train", "seed=5"), "train") != plain
    assert mask_folders(compose("train", "seed=5"))["objective"] == mask_folders(compose("train"))["objective"]


@pytest.mark.ci
@pytest.mark.slow
def test_weights_type_is_the_processors_and_an_encoder_fits_both(compose, tmp_path):
    def check(cfg):
        sources = build_sources(cfg.preference, build_methods(cfg.method, cfg.mismatched))
        check_sources(mask_folders(cfg) | select_content(identify(cfg, "generate")), sources)
        return hash_sources(mask_folders(cfg)["preference"], sources, {})

    bfloat16 = compose("train", "language_model.dtype=bfloat16")
    chosen = compose("train").language_model.dtype
    assert chosen == ("bfloat16" if has_bfloat16() else "float32")
    run = write_trained(tmp_path / "trained", bfloat16)
    for name in ("float32", "bfloat16"):
        assert check(compose("generate", f"train_run={run}", f"dtype={name}", "method=soft"))["soft"]
    other = compose("generate", f"train_run={run}", "preference_encoder.soft_tokens=2")
    with pytest.raises(
        PmgError, match=r"preference.soft: .* other values: preference_encoder.soft_tokens: 4 -> 2. Train again"
    ):
        check(other)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf" / "source").glob("*.yaml")))
def test_pmg_prepare_writes_where_the_data_are_then_read(compose, name):
    cfg = compose("prepare", f"data={name}", "data.folder=elsewhere")
    assert cfg.source.folder == "elsewhere"
