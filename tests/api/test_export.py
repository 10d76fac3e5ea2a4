"""What `pmg-export` writes is what can be loaded: names for weights that all machines have, copies of others."""

from __future__ import annotations

import json

import pytest
import torch
from omegaconf import OmegaConf

from exports import nodes_of
from plugins import write_plugin
from pmg.api.export import copy_weights, load_encoder, name_encoder, name_weights, write_index
from pmg.api.serialization import INDEX, read_index
from pmg.commands.export import body
from pmg.configuration import targets
from pmg.configuration.instantiate import built_class, instantiate
from pmg.domain import PmgError
from pmg.evaluation.model_card import write_pipeline_card
from pmg.models.preference.preference_encoder import PreferenceEncoder
from pmg.orchestration.run import Run
from pmg.runs.content import digest_path
from pmg.runs.run_folder import TRAINED
from runs import write_run

METRICS = {
    "ledger": {"trainable_parameters": 1, "seconds": {"train": 1}}, "hardware": {"processor": "x"}, "seed": 0,
    "metrics": {},
}  # fmt: skip
"""What a card tells of a training."""


def test_a_scenario_that_lets_models_write_is_exported(compose, tmp_path):
    cfg = compose("study", "scenario=chat_sticker", "captioner=metadata")
    nodes, _ = name_weights(nodes_of(cfg), {"<assets_dir>": cfg.paths.assets_dir}, copy_all=False)
    write_index(tmp_path, nodes)
    assert read_index(tmp_path, "")["scenario"].create() == instantiate(cfg.scenario)


def test_weights_of_this_machine_alone_are_copied_and_each_once(compose, tmp_path):
    weights, folder = tmp_path / "my weights", tmp_path / "pipeline"
    (weights / "sub").mkdir(parents=True)
    (weights / "sub" / "model.safetensors").write_text("weights")
    folder.mkdir()
    cfg = compose(
        "study", "language_model=hub", f"language_model.source={weights}", "generator=stable_diffusion",
        f"generator.source={weights}", "scorer=clip",
    )  # fmt: skip
    nodes, copies = name_weights(nodes_of(cfg), {}, copy_all=False)
    copy_weights(folder, copies)
    write_index(folder, nodes)
    nodes = json.loads((folder / INDEX).read_text())
    assert nodes["language_model"]["source"] == nodes["generator"]["source"] == "<here>/frozen/0-my_weights"
    assert nodes["scorer"]["source"] == "openai/clip-vit-base-patch32"
    assert (folder / "frozen" / "0-my_weights" / "sub" / "model.safetensors").read_text() == "weights"
    assert [path.name for path in (folder / "frozen").iterdir()] == ["0-my_weights"]
    read = read_index(folder, str(tmp_path / "cache"))
    assert read["generator"].arguments["source"] == str(folder / "frozen" / "0-my_weights")
    assert read["language_model"].arguments["cache_dir"] == str(tmp_path / "cache" / "models")


def test_embedded_weights_are_named_or_copied_where_all_are(tmp_path):
    nodes, places = {"scorer": {"folder": f"{tmp_path}/scorer"}}, {"<assets_dir>": str(tmp_path)}
    (tmp_path / "scorer").mkdir()
    assert name_weights(nodes, places, copy_all=False) == ({"scorer": {"folder": "<assets_dir>/scorer"}}, {})
    copied = {"scorer": {"folder": "<here>/frozen/0-scorer"}}, {"0-scorer": tmp_path / "scorer"}
    assert name_weights(nodes, places, copy_all=True) == copied


def test_an_encoder_is_exported_in_half_precision_where_that_is_asked_for(tmp_path):
    write_earlier(tmp_path, OmegaConf.create())
    write_encoder(tmp_path)
    for half, dtype in ((False, torch.float32), (True, torch.float16)):
        encoder = load_encoder(tmp_path / "train" / "encoder", PreferenceEncoder, half)
        assert {weight.dtype for weight in encoder.parameters()} == {dtype}


def test_what_could_not_be_loaded_is_not_written(compose, tmp_path):
    cfg = compose("study", "language_model=hub", "language_model.source=/gone/llama")
    nodes, _ = name_weights(nodes_of(cfg), {"<assets_dir>": cfg.paths.assets_dir}, copy_all=False)
    with pytest.raises(PmgError, match=r"language_model.source leads elsewhere: '/gone/llama'"):
        write_index(tmp_path, nodes)
    with pytest.raises(PmgError, match=r"captioner can't be exported: pmg.preferences.captioning.Mine. A pipeline"):
        nodes_of(compose("study", "captioner._target_=pmg.preferences.captioning.Mine"))
    assert not [*tmp_path.glob("*.json")]


def test_a_plug_ins_component_is_exported_where_the_command_names_it(compose, importable):
    write_plugin(importable, "pmg_exported_plugin")
    cfg = compose("study")
    OmegaConf.set_struct(cfg, False)
    cfg.decoding = {"_target_": "pmg_exported_plugin.LastOptions", "count": 2}
    with pytest.raises(PmgError, match=r"If its code may run, add plugins=\[pmg_exported_plugin\]"):
        nodes_of(cfg)
    targets.allow_plugin("pmg_exported_plugin")
    nodes, _ = name_weights(nodes_of(cfg), {"<assets_dir>": cfg.paths.assets_dir}, copy_all=False)
    assert nodes["decoding"] == {"_class_name": "pmg_exported_plugin.LastOptions", "count": 2}
    encoder = name_encoder(built_class({"_target_": "pmg_exported_plugin.Encoder"}))
    assert encoder == {"preference_encoder": {"_class_name": "pmg_exported_plugin.Encoder"}}
    assert name_encoder(PreferenceEncoder) == {"preference_encoder": {"_class_name": "PreferenceEncoder"}}
    nodes |= encoder
    write_index(importable, nodes)
    write_pipeline_card(importable, "Title", "apache-2.0", nodes, METRICS, None)
    assert (
        f"""from_pretrained("{importable.name}", trust=['pmg_exported_plugin'])"""
        in (importable / "README.md").read_text()
    )


def test_a_card_names_weights_of_the_hub_alone_as_base_models(tmp_path):
    sources = ("openai/clip", "<here>/frozen/0-llama", "package:weights/x", "/somewhere/weights")
    nodes = {str(place): {"source": source} for place, source in enumerate(sources)}
    write_pipeline_card(tmp_path, "Title", "apache-2.0", nodes, METRICS, None)
    assert "base_model:\n- openai/clip\n---" in (tmp_path / "README.md").read_text()


SCORER_ENCODER = "{_target_:pmg.training.visual_inputs.ScorerImageEncoder,scorer:'${scorer}'}"
INPUTS = """
class Own:
    def __call__(self, extracted, examples, images):
        return extracted.context
"""


@pytest.mark.parametrize("allowed", [True, False])
def test_inputs_of_a_plug_in_are_exported_where_the_command_names_it(compose, importable, monkeypatch, allowed):
    name = "pmg_own_inputs"
    (importable / f"{name}.py").write_text(INPUTS)
    cfg = compose("train", "language_model=tiny", "text_encoder=tiny", "generator=tiny")
    cfg.inputs._target_ = f"{name}.Own"
    folder = write_earlier(importable, cfg)
    write_encoder(importable)
    export = compose("export", f"train_run={importable}/train", f"folder={folder}")
    monkeypatch.setattr("pmg.evaluation.model_card.write_pipeline_card", lambda *facts: None)
    if allowed:
        targets.allow_plugin(name)
        body(export, Run(importable / "run", "export"))
        assert read_index(folder, "cache", trust=[name])["inputs"]
    else:
        with pytest.raises(PmgError, match=rf"inputs is of a plug-in: {name}\.Own. If its code may run"):
            body(export, Run(importable / "run", "export"))


def test_the_inputs_of_an_encoder_that_reads_pictures_are_exported(compose, tmp_path):
    cfg = compose("study", "preference_encoder=visual", f"inputs.image_encoder={SCORER_ENCODER}", "inputs.pictures=3")
    nodes, _ = name_weights(nodes_of(cfg), {"<assets_dir>": cfg.paths.assets_dir}, copy_all=False)
    assert nodes["preference_encoder"] == {"_class_name": "VisualPreferenceEncoder"}
    write_index(tmp_path, nodes)
    assert read_index(tmp_path, "")["inputs"].create().pictures == 3


def test_a_refused_export_leaves_the_earlier_one(compose, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = write_earlier(tmp_path, compose("train", "preference_encoder=text", "language_model.source=/gone/llama"))
    cfg = compose("export", f"train_run={tmp_path}/train", f"folder={folder}")
    with pytest.raises(PmgError, match=r"encoder is missing\. Run pmg-train again"):
        body(cfg, Run(tmp_path / "run", "export"))
    write_encoder(tmp_path)
    for cfg.copy_frozen, told in ((False, "leads elsewhere: '/gone/llama'"), (True, "can't copy '/gone/llama'")):
        with pytest.raises(PmgError, match=told):
            body(cfg, Run(tmp_path / "run", "export"))
    assert [path.name for path in folder.iterdir()] == [INDEX]
    assert (folder / INDEX).read_text() == "of an earlier export"


@pytest.mark.parametrize("writer", ["api.export.copy_weights", "evaluation.model_card.write_pipeline_card"])
def test_an_export_that_is_cut_short_can_not_be_loaded(compose, tmp_path, monkeypatch, writer):
    folder = write_earlier(tmp_path, compose("train", "preference_encoder=text"))
    write_encoder(tmp_path)

    def end(*facts):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"pmg.{writer}", end)
    with pytest.raises(KeyboardInterrupt):
        body(compose("export", f"train_run={tmp_path}/train", f"folder={folder}"), Run(tmp_path / "run", "export"))
    assert (folder / "preference_encoder" / "config.json").exists()
    assert not (folder / INDEX).exists()


def write_earlier(folder, cfg):
    """A training of `cfg` without its weights, and a folder with an index of an earlier export, which is returned."""
    write_run(folder / "train")
    (folder / "train" / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    (folder / "pipeline").mkdir()
    (folder / "pipeline" / INDEX).write_text("of an earlier export")
    return folder / "pipeline"


def write_encoder(folder):
    """The weights of the training, which its record names."""
    sizes = {"llm_width": 8, "llm_layers": 1, "kv_heads": 1, "head_dim": 4, "text_width": 8}
    PreferenceEncoder(**sizes, soft_tokens=1, prefix_length=0).save_pretrained(folder / "train" / "encoder")
    metrics = json.loads((folder / "train" / "metrics.json").read_text())
    metrics["made"] = {TRAINED: digest_path(folder / "train" / TRAINED)}
    (folder / "train" / "metrics.json").write_text(json.dumps(metrics))
