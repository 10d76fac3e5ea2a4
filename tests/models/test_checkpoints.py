"""Checkpoints that are not what their config says are refused in one line; harmless differences are not."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from pathlib import Path

import diffusers as df
import pytest
import torch
import transformers as tf
from huggingface_hub import constants
from huggingface_hub.utils import are_progress_bars_disabled
from safetensors.torch import load_file, save_file

from checkpoints import LLAMA, SCHEDULE, clip_tokenizer, text_config, write_clip, write_language_model, write_sd15
from plugins import WritesWhenUnpickled
from pmg.domain import PmgError
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.diffusion.unet.stable_diffusion import StableDiffusion
from pmg.models.language.language_model import load_language_model
from pmg.models.loading.checkpoints import find_variant, load_checkpoint
from pmg.models.loading.weight_sources import loading, resolve_source, try_hub_once
from pmg.models.tiny_models import tiny_generator, tiny_scorer, tiny_text_encoder, tiny_tokenizer
from pmg.models.vision.clip_scorer import ClipScorer
from pmg.models.vision.features import VisionFeatures
from pmg.models.vision.scorer import EmbeddedScorer
from pmg.preferences.captioning import load_image_to_text

QWEN = tf.Qwen2Config(**{**LLAMA.to_dict(), "model_type": "qwen2", "tie_word_embeddings": True})
UNET = "diffusion_pytorch_model.safetensors"


def write_siglip(folder):
    """A SigLIP; its tokenizer is CLIP's, which needs no sentencepiece."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer(folder, length=16)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = tf.SiglipTextConfig(**sizes, vocab_size=len(tokenizer), max_position_embeddings=16, projection_size=32)
    vision = tf.SiglipVisionConfig(**sizes, image_size=32, patch_size=8)
    config = tf.SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    tf.SiglipModel(config).save_pretrained(folder)
    tf.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def write_assets(folder):
    """A generator and a scorer in the layout of the embedded ones."""
    generator = tiny_generator(tiny_text_encoder())
    for name, part in (("vae", generator.codec.autoencoder), ("unet", generator.denoiser.model)):
        part.save_pretrained(folder / "generator" / name)
    generator.process.scheduler.save_pretrained(folder / "generator" / "scheduler")
    tiny_scorer().save_pretrained(folder / "scorer")


def test_loading_prints_no_progress_bars_and_leaves_the_libraries_as_they_were(tmp_path, capsys):
    tiny_text_encoder().model.save_pretrained(tmp_path)
    capsys.readouterr()
    load_checkpoint(tf.AutoModel, tmp_path)
    assert capsys.readouterr() == ("", "")
    assert tf.utils.logging.is_progress_bar_enabled()
    assert not are_progress_bars_disabled()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Whole checkpoints by name, written once."""
    home = tmp_path_factory.mktemp("checkpoints")
    write_language_model(home / "llama")
    write_language_model(home / "qwen", QWEN)
    write_clip(home / "clip")
    write_siglip(home / "siglip")
    write_sd15(home / "sd")
    write_assets(home)
    return home


LOADERS = {
    "llama": lambda home: load_language_model(str(home / "llama"), "float32", str(home)),
    "qwen": lambda home: load_language_model(str(home / "qwen"), "float32", str(home)),
    "clip": lambda home: ClipScorer.from_source(str(home / "clip")),
    "siglip": lambda home: ClipScorer.from_source(str(home / "siglip")),
    "sd": lambda home: StableDiffusion.load(str(home / "sd")),
    "scorer": lambda home: EmbeddedScorer.from_folder(str(home / "scorer")),
}
FILES = {
    "llama": ("model.safetensors", "model.layers.1."),
    "qwen": ("model.safetensors", "model.layers.1."),
    "clip": ("model.safetensors", "vision_model.encoder.layers.1."),
    "siglip": ("model.safetensors", "text_model.encoder.layers.1."),
    "sd/text_encoder": ("model.safetensors", "encoder.layers.1."),
    "sd/unet": (UNET, "mid_block.attentions.0."),
    "sd/vae": (UNET, "decoder.mid_block.resnets.0."),
    "scorer": ("model.safetensors", "content."),
}


@pytest.fixture
def home(originals, tmp_path):
    """Copies a checkpoint, to be spoilt."""

    def copy(name):
        shutil.copytree(originals / name.split("/")[0], tmp_path / name.split("/")[0])
        return tmp_path

    return copy


def rewrite(file, change):
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})


def load(name, home):
    return LOADERS[name.split("/")[0]](home)


def one_line(name, home):
    with pytest.raises(PmgError) as caught:
        load(name, home)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", LOADERS)
def test_whole_checkpoints_load(originals, name):
    load(name, originals)


@pytest.mark.parametrize("name", FILES)
def test_missing_weights_are_named(home, name):
    folder, (file, part) = home(name), FILES[name]

    def drop(weights):
        dropped = [weights.pop(key) for key in list(weights) if part in key]
        assert dropped

    rewrite(folder / name / file, drop)
    message = one_line(name, folder)
    assert f"missing: {part}" in message
    assert str(folder / name) in message


@pytest.mark.parametrize("name", FILES)
def test_superfluous_weights_and_other_shapes_are_named(home, name):
    folder, (file, part) = home(name), FILES[name]
    names = []

    def add(weights):
        names.extend([f"{part}extra.weight", next(key for key in sorted(weights) if part in key)])
        weights[f"{part}extra.weight"] = torch.zeros(1)

    rewrite(folder / name / file, add)
    assert "1 superfluous:" in one_line(name, folder)
    rewrite(folder / name / file, lambda weights: (weights.pop(names[0]), weights.update({names[1]: torch.zeros(7)})))
    message = one_line(name, folder)
    assert names[1] in message
    assert "7" in message


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(home, name, value):
    folder, (file, part) = home(name), FILES[name]
    rewrite(folder / name / file, lambda weights: next(w for key, w in weights.items() if part in key).fill_(value))
    message = one_line(name, folder)
    assert "weights that are NaN or infinite" in message
    assert part in message


def test_heads_buffers_and_unused_poolers_are_no_difference(tmp_path):
    tokenizer = tiny_tokenizer()
    config = tf.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
    )
    tf.BertForMaskedLM(config).save_pretrained(tmp_path)  # a head, and no pooler
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    rewrite(file, lambda weights: weights.update({"bert.embeddings.position_ids": torch.arange(512)[None]}))
    assert TextEncoder.from_source(str(tmp_path)).encode(["red"]).pooled.shape == (1, 32)
    rewrite(file, lambda weights: weights.pop("bert.encoder.layer.0.output.dense.weight"))
    with pytest.raises(PmgError, match=r"1 missing: encoder.layer.0.output.dense.weight"):
        TextEncoder.from_source(str(tmp_path))


def test_old_buffers_of_language_models_and_clip_are_no_difference(home):
    folder = home("llama")
    old = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(4) for layer in range(2)}
    rewrite(folder / "llama" / "model.safetensors", lambda weights: weights.update(old))
    load("llama", folder)
    folder = home("clip")
    positions = {
        f"{tower}.embeddings.position_ids": torch.arange(77)[None] for tower in ("text_model", "vision_model")
    }
    rewrite(folder / "clip" / "model.safetensors", lambda weights: weights.update(positions))
    load("clip", folder)


def test_a_vision_transformer_with_a_classifier_and_without_a_pooler(tmp_path):
    config = tf.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8
    )
    tf.ViTForImageClassification(config).save_pretrained(tmp_path)
    tf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    assert VisionFeatures.from_source(str(tmp_path))(torch.zeros(1, 3, 32, 32)).shape == (1, 32)


@pytest.mark.parametrize("name", ["llama", "clip", "sd"])
def test_a_missing_tokenizer_is_named(home, name):
    folder = home(name)
    for pattern in ("tokenizer*", "vocab.json", "merges.txt"):
        for path in (folder / name).glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "has no tokenizer that can be read" in one_line(name, folder)


@pytest.mark.parametrize("name", ["llama", "clip", "sd/tokenizer"])
def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(home, name):
    folder = home(name)
    tokenizer = tf.AutoTokenizer.from_pretrained(folder / name) if "/" not in name else None
    tokenizer = tokenizer or tf.CLIPTokenizer.from_pretrained(folder / name)
    size = len(tokenizer)
    tokenizer.add_tokens(["<one>"])
    tokenizer.save_pretrained(folder / name)
    assert f"has tokens up to number {size}, and the model has {size} embeddings" in one_line(name, folder)


@pytest.mark.parametrize("name", ["llama", "sd"])
def test_folders_with_a_variant_alone_are_read(home, name, originals):
    folder = home(name)
    for file in [*(folder / name).rglob("*.safetensors")]:
        half = {key: weight.half() for key, weight in load_file(file).items()}
        save_file(half, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
        file.unlink()
        assert find_variant(file.parent) == "fp16"
    whole, read = (load(name, place).parameters() for place in (originals, folder))
    assert all(torch.allclose(a, b, atol=1e-2) for a, b in zip(whole, read, strict=True))


def test_whole_weights_come_before_a_variant(tmp_path):
    for name in ("model-00001-of-00002.safetensors", "model.fp16-00001-of-00002.safetensors", "training.bin"):
        (tmp_path / name).touch()
    assert find_variant(tmp_path) is None
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    assert find_variant(tmp_path) == "fp16"
    assert find_variant(tmp_path / "nowhere") is None


def test_other_pipelines_and_schedulers_are_refused(home):
    folder = home("sd")
    index = json.loads((folder / "sd" / "model_index.json").read_text())
    for change, message in (
        ({"scheduler": ["os", "system"]}, "scheduler 'system', which is none of diffusers'"),
        ({"scheduler": ["diffusers", "DiffusionPipeline"]}, "which is none of diffusers'"),
        ({"_class_name": ["evil", "StableDiffusionPipeline"]}, "can't load a generator"),
    ):
        (folder / "sd" / "model_index.json").write_text(json.dumps({**index, **change}))
        assert message in one_line("sd", folder)


def test_the_checkpoints_own_corrections_are_kept(tmp_path):
    """diffusers corrects schedules of old checkpoints where a pipeline is made."""
    write_sd15(tmp_path, df.PNDMScheduler(**SCHEDULE, skip_prk_steps=True, steps_offset=0))
    assert StableDiffusion.load(str(tmp_path), sampler="checkpoint").process.sampler.config.steps_offset == 1


def spoil(folder, canary):
    """Puts code into a checkpoint wherever a library would look for some."""
    code = f"open({str(canary)!r}, 'w')\n"
    (folder / "custom_generate").mkdir()
    for path in (folder / "evil.py", folder / "custom_generate" / "generate.py", folder / "hubconf.py"):
        path.write_text(code)
    classes = ("Config", "Model", "ModelForCausalLM", "Tokenizer", "Processor", "ImageProcessor")
    maps = {"auto_map": {f"Auto{name}": "evil.Evil" for name in classes}}
    for path in folder.rglob("*config.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), **maps}))


@pytest.mark.parametrize("name", ["llama", "clip", "sd", "scorer"])
def test_code_that_comes_with_a_checkpoint_does_not_run(home, tmp_path, name, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a library asks whether to run code"))
    folder = home(name)
    spoil(folder / name, tmp_path / "canary")
    with contextlib.suppress(PmgError):
        load(name, folder)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["llama", "clip", "sd/unet", "scorer"])
def test_pickled_weights_run_nothing(home, tmp_path, name):
    folder, (file, _) = home(name), FILES[name]
    (folder / name / file).unlink()
    pickled = "diffusion_pytorch_model.bin" if file == UNET else "pytorch_model.bin"
    code = WritesWhenUnpickled(str(tmp_path / "canary"))
    (folder / name / pickled).write_bytes(pickle.dumps(code))
    one_line(name, folder)
    torch.save({"a": code}, folder / name / pickled)
    one_line(name, folder)
    assert not (tmp_path / "canary").exists()


def test_unknown_types_and_models_without_code_of_their_own_are_refused(tmp_path):
    with pytest.raises(PmgError, match="'load' is no type of torch"):
        StableDiffusion.load(str(tmp_path), "load")
    (tmp_path / "config.json").write_text('{"model_type": "evil", "auto_map": {"AutoProcessor": "evil.Evil"}}')
    with pytest.raises(PmgError, match="can't load an image-to-text model"):
        load_image_to_text(str(tmp_path), "float32", "cpu")


def test_a_scorer_may_have_its_processors_elsewhere(home):
    folder = home("clip") / "clip"
    shutil.copytree(folder, folder.parent / "weights", ignore=shutil.ignore_patterns("*token*", "*processor*"))
    with pytest.raises(PmgError):
        ClipScorer.from_source(str(folder.parent / "weights"))
    found = ClipScorer.from_source(str(folder.parent / "weights"), processors=str(folder))
    images, expected = torch.zeros(2, 3, 8, 8), ClipScorer.from_source(str(folder))
    assert found.device == torch.device("cpu")
    assert torch.equal(found(images)[0], expected(images)[0])


def test_shapes_of_text_towers_follow_their_config(tmp_path):
    tf.CLIPTextModel(text_config(50)).save_pretrained(tmp_path)
    assert type(load_checkpoint(tf.CLIPTextModel, Path(tmp_path))) is tf.CLIPTextModel


def test_a_package_is_found_without_importing_anything(importable):
    (importable / "hostile" / "weights").mkdir(parents=True)
    (importable / "hostile" / "__init__.py").write_text(f"open({str(importable / 'canary')!r}, 'w')\n")
    with pytest.raises(PmgError, match=r"package 'hostile.weights' with the embedded weights is not installed"):
        resolve_source("package:hostile.weights/model")
    single = importable / "sdxl.safetensors"
    single.touch()
    with pytest.raises(PmgError, match=r"is a single file, where a folder .*from_single_file"):
        resolve_source(str(single))
    assert resolve_source("package:hostile/weights") == str(importable / "hostile" / "weights")
    assert not (importable / "canary").exists()


@pytest.mark.parametrize(("proxies", "offline"), [({}, True), ({"https": "http://proxy:3128"}, False)])
def test_a_hub_without_an_address_is_not_asked_again_and_again(monkeypatch, caplog, proxies, offline):
    def no_address(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("pmg.models.loading.weight_sources.getproxies", lambda: proxies)
    monkeypatch.setattr("socket.getaddrinfo", no_address)
    try_hub_once.cache_clear()
    with loading("a scorer", "nobody/nothing"):
        assert offline == constants.HF_HUB_OFFLINE
    assert ("huggingface.co can't be found from here" in caplog.text) == offline
    try_hub_once.cache_clear()
