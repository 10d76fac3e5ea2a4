"""What `pmg-export` writes is what can be loaded: names for weights that all machines have, copies of others."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from plugins import write_plugin
from pmg.commands.export import body
from pmg.configuration import targets
from pmg.configuration.instantiate import built_class, to_plain
from pmg.domain import PmgError
from pmg.generation.export import name_encoder, place_weights, to_index, write_index
from pmg.generation.pipeline_card import write_pipeline_card
from pmg.generation.serialization import INDEX, PARTS, SECTIONS, read_index
from pmg.models.preference.preference_encoder import PreferenceEncoder
from pmg.orchestration.run import Run
from runs import write_run


def parts_of(cfg):
    homes = {name: cfg.encoder if name in cfg.encoder else cfg for name in (*PARTS, *SECTIONS)}
    return {name: to_plain(home[name]) for name, home in homes.items()}


def test_the_shipped_config_gives_the_index_of_the_shipped_pipeline(compose, root, tmp_path):
    cfg = compose("study", "encoder.language_model.dtype=bfloat16", "sampling.bfloat16=true")
    places = {"<assets_dir>": cfg.paths.assets_dir, "<cache_dir>": cfg.paths.cache_dir}
    write_index(tmp_path, place_weights(tmp_path, to_index(parts_of(cfg)), places, copy_all=False))
    written, shipped = (json.loads((folder / INDEX).read_text()) for folder in (tmp_path, root / "assets/pipeline"))
    assert [*tmp_path.iterdir()] == [tmp_path / INDEX]
    for name in ("language_model", "generator", "scorer", "text_encoder", "decoding", "scenario", "captioner"):
        assert written[name] == shipped[name]


def test_weights_of_this_machine_alone_are_copied_and_each_once(compose, tmp_path):
    weights, folder = tmp_path / "my weights", tmp_path / "pipeline"
    (weights / "sub").mkdir(parents=True)
    (weights / "sub" / "model.safetensors").write_text("weights")
    folder.mkdir()
    cfg = compose(
        "study", "encoder=hub", f"encoder.language_model.source={weights}", "generator=stable_diffusion",
        f"generator.source={weights}", "scorer=clip",
    )  # fmt: skip
    write_index(folder, place_weights(folder, to_index(parts_of(cfg)), {}, copy_all=False))
    nodes = json.loads((folder / INDEX).read_text())
    assert nodes["language_model"]["source"] == nodes["generator"]["source"] == "<here>/frozen/0-my_weights"
    assert nodes["scorer"]["source"] == "openai/clip-vit-base-patch32"
    assert (folder / "frozen" / "0-my_weights" / "sub" / "model.safetensors").read_text() == "weights"
    assert [path.name for path in (folder / "frozen").iterdir()] == ["0-my_weights"]
    read = read_index(folder, str(tmp_path / "cache"))
    assert read["generator"].arguments["source"] == str(folder / "frozen" / "0-my_weights")
    assert read["language_model"].arguments["cache_dir"] == str(tmp_path / "cache" / "models")


def test_what_could_not_be_loaded_is_not_written(compose, tmp_path):
    cfg = compose("study", "encoder=hub", "encoder.language_model.source=/gone/llama")
    nodes = place_weights(tmp_path, to_index(parts_of(cfg)), {"<assets_dir>": cfg.paths.assets_dir}, copy_all=False)
    with pytest.raises(PmgError, match=r"language_model.source leads elsewhere: '/gone/llama'"):
        write_index(tmp_path, nodes)
    with pytest.raises(PmgError, match=r"captioner can't be exported: pmg.preferences.captioning.Mine. A pipeline"):
        to_index(parts_of(compose("study", "captioner._target_=pmg.preferences.captioning.Mine")))
    assert not [*tmp_path.glob("*.json")]


def test_a_plug_ins_component_is_exported_where_the_command_names_the_plug_in(compose, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(targets, "_allowed", {})
    write_plugin(tmp_path, "pmg_exported_plugin")
    cfg = compose("study")
    OmegaConf.set_struct(cfg, False)
    cfg.decoding = {"_target_": "pmg_exported_plugin.LastOptions", "count": 2}
    with pytest.raises(PmgError, match=r"If its code may run, add plugins=\[pmg_exported_plugin\]"):
        to_index(parts_of(cfg))
    targets.allow_plugin("pmg_exported_plugin")
    nodes = place_weights(tmp_path, to_index(parts_of(cfg)), {"<assets_dir>": cfg.paths.assets_dir}, copy_all=False)
    assert nodes["decoding"] == {"_class_name": "pmg_exported_plugin.LastOptions", "count": 2}
    encoder = name_encoder(built_class({"_target_": "pmg_exported_plugin.Encoder"}))
    assert encoder == {"preference_encoder": {"_class_name": "pmg_exported_plugin.Encoder"}}
    assert name_encoder(PreferenceEncoder) == {}
    nodes |= encoder
    write_index(tmp_path, nodes)
    ledger = {"trainable_parameters": 1, "seconds": {"train": 1}}
    metrics = {"ledger": ledger, "hardware": {"processor": "x"}, "seed": 0, "metrics": {}}
    write_pipeline_card(tmp_path, "Title", "apache-2.0", nodes, metrics, None)
    assert (
        f"""from_pretrained("{tmp_path.name}", trust=['pmg_exported_plugin'])"""
        in (tmp_path / "README.md").read_text()
    )


def test_an_export_that_is_cut_short_can_not_be_loaded_and_a_refused_one_leaves_the_earlier_one(compose, tmp_path):
    train, folder = tmp_path / "train", tmp_path / "pipeline"
    write_run(train)
    cfg = compose("train", "encoder.language_model.source=/gone/llama")
    (train / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    folder.mkdir()
    (folder / INDEX).write_text("of an earlier export")
    cfg = compose("export", f"train_run={train}", f"folder={folder}")
    with pytest.raises(PmgError, match="no such folder"):
        body(cfg, Run(tmp_path / "run", "export"))
    assert [path.name for path in folder.iterdir()] == [INDEX]

    PreferenceEncoder(
        llm_width=8, llm_layers=1, kv_heads=1, head_dim=4, text_width=8, soft_tokens=1, prefix_length=0
    ).save_pretrained(train / "encoder")
    with pytest.raises(PmgError, match="leads elsewhere"):  # after the encoder has been written
        body(cfg, Run(tmp_path / "run", "export"))
    assert (folder / "preference_encoder" / "config.json").exists()
    assert not (folder / INDEX).exists()
