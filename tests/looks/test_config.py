"""Looks in the config: what decides a run, ranges, and the shipped pipeline."""

from __future__ import annotations

import json

import pytest

import pmg
from pmg.api.export import to_index
from pmg.api.exported_tokens import read_parts
from pmg.api.serialization import INDEX, PARTS, SECTIONS
from pmg.configuration.identity import find_differences
from pmg.configuration.instantiate import instantiate, to_plain
from pmg.configuration.masked_folders import mask_folders
from pmg.configuration.trees import leaves
from pmg.domain import Item, PmgError
from pmg.orchestration.command_lines import next_command
from pmg.orchestration.exported_pipeline import take_pipeline_parts
from pmg.preferences.target_names import TargetNames
from pmg.runs.run_folder import identify, read_masked
from runs import write_run


def test_parts_of_the_shipped_pipeline_are_those_of_the_default_config_with_the_large_decoder(root, compose):
    """A config that adopts the pipeline, exported again, is the pipeline."""
    folder = root / "assets" / "pipeline"
    cfg = compose("generate", f"pipeline={folder}")
    expected = to_plain(compose("generate", "generator=looks_large"))
    take_pipeline_parts(cfg, "generate", [])
    plain = to_plain(cfg)
    for group in ("text_encoder", "generator", "captioner", "scorer"):
        assert plain[group] == expected[group]
    index, parts = json.loads((folder / INDEX).read_text()), read_parts(str(folder))
    exported = to_index({**parts, **{name: {} for name in SECTIONS}})
    inputs = json.dumps(exported["inputs"]).replace("${paths.assets_dir}", "<assets_dir>")
    assert json.loads(inputs) == index["inputs"]
    for name in ("scenario", "decoding"):
        assert exported[name] == index[name]
    assert set(parts) == set(PARTS)
    assert plain["preference"]["soft"]["pipeline"] == str(folder)


def test_models_of_another_folder_are_other_models(compose, tmp_path):
    usual, same, other = (
        compose("train", *chosen) for chosen in ([], ["paths.cache_dir=c"], ["paths.models_dir=outputs/mine"])
    )
    assert mask_folders(usual)["generator"]["codec"]["folder"] == "<assets_dir>/look_generator/vae"
    assert mask_folders(other)["generator"]["codec"]["folder"] == "outputs/mine/look_generator/vae"
    assert identify(usual, "train") == identify(same, "train")
    differ = find_differences("train", identify(usual, "train"), identify(other, "train"))
    assert {"generator.codec.folder", "generator.denoiser.folder", "inputs.image_encoder.folder"} <= set(differ)
    assets = usual.paths.assets_dir
    values = {"paths.assets_dir": assets, "paths.models_dir": assets, "scorer.folder": f"{assets}/look_scorer"}
    read, _ = read_masked(write_run(tmp_path / "run", config=values), "train")
    assert read["scorer"]["folder"] == "<assets_dir>/look_scorer"


def test_users_of_other_splits_are_no_part_of_a_trainings_identity(compose):
    assert identify(compose("train", "data.users.test=300"), "train") == identify(compose("train"), "train")
    other = identify(compose("train", "data.users.seed=1"), "train")
    assert set(find_differences("train", identify(compose("train"), "train"), other)) == {"data.users.seed"}


@pytest.mark.parametrize(("command", "overrides"), [("prepare", ["data=looks"]), ("pretrain", ["stage=look_judge"])])
def test_no_command_follows(compose, command, overrides):
    cfg = compose(command, "paths.output_dir=outputs", "hydra.job.name=" + command, *overrides)
    assert next_command(command, dict(leaves(to_plain(cfg))), overrides) is None


def test_the_shipped_generator_draws_an_automobile_for_a_car(compose):
    names = TargetNames.of(instantiate(compose("generate").generator))
    assert names.resolve([Item("1", "thing", "Car")])[0].title == "automobile"
    assert names.nearest("coffee mug")[0] == "hot beverage"


def test_a_source_that_another_one_reads_decides():
    read = [pmg.compose("generate", ["method=sdedit", f"preference.retrieve.pictures={number}"]) for number in (1, 2)]
    assert identify(read[0], "generate") != identify(read[1], "generate")


def test_a_part_that_is_null_is_refused_and_a_line_of_the_card_is_kept():
    with pytest.raises(PmgError, match=r"data\.users must be a node with a _target_, got null"):
        pmg.compose("train", ["data.users=null"])
    assert pmg.compose("pretrain", ["+card.data.Pictures=mine"]).card.data.Pictures == "mine"
