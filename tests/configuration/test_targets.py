"""What a config may build is decided by the module that defines it, not by the path that reaches it."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from pmg.configuration.instantiate import check_targets, instantiate
from pmg.domain import PmgError

HOSTILE = [
    "torch.hub.load",
    "torch.load",
    "torch.save",
    "torch.serialization.load",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "torch.utils.cpp_extension.load",
    "torch.multiprocessing.spawn",
    "torch.nn.modules.module.torch.load",
    "torch.nn.Module.load_state_dict",
    "pmg.models.diffusion.generator.torch.hub.load",
    "pmg.models.diffusion.generator.torch.load",
    "pmg.models.diffusion.latent_codec.Path.write_text",
    "pmg.models.loading.quantization.find_spec",
    "pmg.models.loading.gguf.shutil.rmtree",
    "pmg.models.loading.gguf.tempfile.mkdtemp",
    "pmg.data.prepared_tables.pd.read_pickle",
    "pmg.preferences.captioning.np.load",
    "pmg.preferences.captioning.Image.open",
    "pmg.cache.Path.write_text",
    "pmg.cache.atomic_write_text",
    "pmg.cache.os.system",
    "pmg.orchestration.run.sys.exit",
    "pmg.orchestration.launcher.launch",
    "pmg.configuration.instantiate.instantiate",
    "pmg.generation.pipeline.instantiate",
    "pmg.generation.pipeline.Mapping",
    "pmg.preferences.captioning.Pixels",
    "pmg.models.preference.preference_encoder.PLACEMENTS",
    "pmg.models.diffusion.generator.DiffusionGenerator.freeze",
    "pmg.training.preference.PreferenceTraining.load_from_checkpoint",
    "pytorch_lightning.LightningModule.load_from_checkpoint",
    "pytorch_lightning.profilers.profiler.get_filesystem",
    "diffusers.DiffusionPipeline.from_pretrained",
    "pmg.models.diffusion.unet.stable_diffusion.DiffusionPipeline.from_pretrained",
    "diffusers.utils.dynamic_modules_utils.get_class_from_dynamic_module",
    "transformers.pipeline",
    "transformers.dynamic_module_utils.get_class_from_dynamic_module",
    "os.system",
    "subprocess.run",
    "builtins.exec",
]
UNNAMED = [
    "pmg.models.diffusion.generator.DiffusionGenerator.__init__",
    "pmg.models.diffusion.generator.__builtins__",
    "pmg.models.diffusion.generator.DiffusionGenerator.forward.__globals__",
    "pmg.data.published_files._read",
    "pmg..domain.Interaction",
    "pmg.domain.Interaction ",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_what_runs_loads_or_writes_is_refused_however_it_is_reached(target):
    for node in ({"_target_": target}, {"_target_": "pmg.domain.Interaction", "item": [{"a": {"_target_": target}}]}):
        with pytest.raises(PmgError, match=r"outside the allowed packages|is no class, function or class method"):
            instantiate(node)


@pytest.mark.parametrize("target", UNNAMED)
def test_private_names_are_refused(target):
    with pytest.raises(PmgError, match="is no dotted name of a public class or function"):
        instantiate({"_target_": target})


@pytest.mark.parametrize("target", [3, None, ["torch.nn.Linear"], {"a": 1}, True, "", "pmg"])
def test_targets_that_are_no_dotted_names_are_refused(target):
    with pytest.raises(PmgError, match="outside the allowed packages"):
        instantiate({"_target_": target})


def test_a_hostile_node_of_a_commands_config_is_refused_before_it_runs(compose, tmp_path):
    (tmp_path / "hubconf.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\ndef model(): return ''\n")
    attack = {"_target_": "torch.hub.load", "repo_or_dir": str(tmp_path), "model": "model", "source": "local"}
    cfg = compose("train")
    OmegaConf.set_struct(cfg, False)
    OmegaConf.update(cfg, "captioner.template", attack)
    with pytest.raises(PmgError, match=r"captioner.template: target 'torch.hub.load' is defined in 'torch.hub'"):
        check_targets(cfg)
    with pytest.raises(PmgError, match=r"'torch\.hub\.load'"):
        instantiate(cfg.captioner)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["trust_remote_code", "custom_pipeline", "weights_only", "allow_pickle"])
def test_arguments_by_which_libraries_run_code_are_refused(name):
    node = {"_target_": "transformers.AutoModel.from_pretrained", "pretrained_model_name_or_path": "x", name: True}
    with pytest.raises(PmgError, match=f"{name} can't be set by a config"):
        check_targets(node)


@pytest.mark.parametrize(
    "target",
    [
        "torch.optim.AdamW",
        "torch.optim.lr_scheduler.CosineAnnealingLR",
        "diffusers.DDPMScheduler",
        "diffusers.DDPMScheduler.from_pretrained",
        "diffusers.UNet2DConditionModel.from_pretrained",
        "transformers.AutoModel.from_pretrained",
        "transformers.CLIPModel",
        "torchmetrics.MeanMetric",
        "pytorch_lightning.Trainer",
        "pytorch_lightning.callbacks.EarlyStopping",
        "pytorch_lightning.loggers.CSVLogger",
        "pytorch_lightning.strategies.DDPStrategy",
        "pmg.models.loading.weight_sources.resolve_source",
    ],
)
def test_what_configs_need_is_allowed(target):
    check_targets({"node": {"_target_": target, "_partial_": True}})
