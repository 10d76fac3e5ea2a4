"""Checkpoints in the publishers' layout, chosen by two config groups, through the public commands."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import transformers as tf
from PIL import Image
from safetensors.torch import load_file

from checkpoints import (
    LLAMA,
    write_clip,
    write_flux1,
    write_flux2_klein,
    write_janus,
    write_language_model,
    write_qwen_image,
    write_qwen_image_edit,
    write_sd15,
    write_sdxl,
    write_z_image,
)
from commands import FEW
from pmg import PersonalizedPipeline
from pmg.api.call_arguments import with_pictures
from pmg.commands.estimate import body as estimate
from pmg.commands.evaluate import body as evaluate
from pmg.commands.export import body as export
from pmg.commands.generate import body as generate
from pmg.commands.train import body as train
from pmg.domain import PmgError
from pmg.orchestration.run import execute
from pmg.seeding import stable_number

QWEN = tf.Qwen2Config(**{**LLAMA.to_dict(), "model_type": "qwen2", "tie_word_embeddings": True})
CHAT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<end>{% endfor %}<|assistant|>"
SHORT = [
    "language_model=hub", "generator=stable_diffusion", "scorer=clip", "method=[none,keywords,soft,pmg_paper]",
    "split_sizes={train: 8, validation: 4, test: 6}", "objective.users_per_step=4", "objective.batches.draws=2",
    "sampling.steps=2", "sheet_users=4", "trainer.max_steps=2", "trainer.val_check_interval=1",
    "train_run=a", "generate_run=b", "paths.cache_dir=cache", "paths.output_dir=out", "metrics=distances",
    *FEW,
]  # fmt: skip
MODELS = ("language_model", "generator", "scorer")
WITHOUT_MODELS = [option for option in SHORT if option.partition("=")[0] not in MODELS]


@pytest.fixture
def run_all(pmg_here, tmp_path):
    """Trains, generates and evaluates with given checkpoints."""

    def run(language_model, generator, *extra):
        sources = [
            f"language_model.source={language_model}", f"generator.source={generator}",
            f"scorer.source={write_clip(tmp_path / 'clip')}",
        ]  # fmt: skip
        for verb, folder in (("train", "a"), ("generate", "b"), ("evaluate", "c")):
            done = pmg_here(verb, *SHORT, *sources, f"run_dir={folder}", *extra)
            assert done.returncode == 0, done.stderr[-3000:]
        return json.loads((tmp_path / "c" / "results.json").read_text())

    return run


@pytest.mark.slow
def test_llama_and_stable_diffusion(run_all, pmg_here, few_looks, tmp_path):
    results = run_all(write_language_model(tmp_path / "llama"), write_sd15(tmp_path / "sd"))
    assert {"none", "keywords", "soft", "pmg_paper", "truth"} <= set(results["methods"])
    weights = load_file(tmp_path / "a" / "encoder" / "diffusion_pytorch_model.safetensors")
    assert weights["map.weight"].shape == (32, 32)  # from the language model's width to the text encoder's
    check_export(pmg_here, few_looks, tmp_path)


def check_export(pmg_here, few_looks, tmp_path):
    """An exported pipeline makes the images that pmg-generate made, with its weights copied, too."""
    images_as_made = [override for override in SHORT if override.startswith(("sampling", "balance"))]
    for folder, *extra in (("named",), ("copied", "copy_frozen=true")):
        done = pmg_here(
            "export",
            "train_run=a",
            f"folder={folder}",
            f"run_dir=export_{folder}",
            "results=c/results.json",
            *images_as_made,
            *extra,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    records = [json.loads(line) for line in (tmp_path / "b" / "records.jsonl").read_text().splitlines()]
    record = next(row for row in records if row["method"] == "pmg_paper" and row["control"] == "own")
    example = next(e for e in few_looks.examples("test", 6, 1) if e.id == record["example"])
    images = []
    for folder in ("named", "copied"):
        if folder == "copied":  # needs nothing else
            for original in ("llama", "sd", "clip"):
                shutil.rmtree(tmp_path / original)
        pipe = PersonalizedPipeline.from_pretrained(tmp_path / folder, "cpu", str(tmp_path / "other"))
        request = pipe.read(with_pictures(example.liked, few_looks.images), example.target)
        assert list(request.keywords.words) == record["preference_keywords"]
        seed = stable_number("noise", 0, example.id) % 2**62
        images.append(np.asarray(pipe.draw([replace(request, seed=seed)]).images[0]).astype(int))
    assert (images[0] == images[1]).all()
    made = np.asarray(Image.open(tmp_path / "b" / record["image"])).astype(int)
    assert abs(images[0] - made).max() <= 1  # in another batch, sums are rounded in another order
    card = (tmp_path / "named" / "README.md").read_text()
    assert "| seed | 0 |" in card
    assert "lpips_truth" in card
    output = pipe(with_pictures(example.liked, few_looks.images), example.target, num_images_per_prompt=2)
    assert len(output.images) == len(output.records) == 2


@pytest.mark.slow
def test_qwen_in_its_chat_template_and_sdxl(run_all, tmp_path):
    """Two text encoders, 48 wide together; images of 96 pixels against drawings of 64."""
    results = run_all(
        write_language_model(tmp_path / "qwen", QWEN, CHAT), write_sdxl(tmp_path / "xl"), "generator.size=96"
    )
    assert results["methods"]["pmg_paper"]["lpips_truth"]["n"] == 6
    weights = load_file(tmp_path / "a" / "encoder" / "diffusion_pytorch_model.safetensors")
    assert weights["map.weight"].shape == (48, 32)


READER = ["image_encoder=scorer", "inputs.layers=[0,1]", "preference_encoder.width=32", "preference_encoder.layers=1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoder", [["preference_encoder=text"], ["preference_encoder=reader", *READER]], ids=["text", "reader"]
)
def test_a_flow_matching_transformer(encoder, pmg_here, few_looks, tmp_path):
    """Stable Diffusion 3 at toy size, with random weights, through every command that uses a generator."""
    models = ["language_model=tiny", *encoder, "text_encoder=tiny", "scorer=tiny", "generator=tiny_sd3"]
    sizes = ["method=[none,pmg_paper]", "split_sizes={train: 4, validation: 2, test: 2}", "sheet_users=2"]
    for verb, folder in (("train", "a"), ("generate", "b"), ("evaluate", "c"), ("estimate", "d")):
        done = pmg_here(verb, *WITHOUT_MODELS, *models, *sizes, f"run_dir={folder}")
        assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert results["methods"]["pmg_paper"]["lpips_truth"]["n"] == 2
    weights = load_file(tmp_path / "a" / "encoder" / "diffusion_pytorch_model.safetensors")
    assert weights["map.weight"].shape == (32, 32)  # to the width of the transformer's text tokens
    done = pmg_here("export", "train_run=a", "folder=pipeline", "sampling.steps=2", "run_dir=e")
    assert done.returncode == 0, done.stderr[-2000:]
    pipe = PersonalizedPipeline.from_pretrained(tmp_path / "pipeline", "cpu", str(tmp_path / "cache"))
    example = few_looks.examples("test", 2, 1)[0]
    output = pipe(with_pictures(example.liked, few_looks.images), example.target)
    assert output.images[0].size == (64, 64)


FAMILIES = {  # its writer, width of its text tokens, longest text, further overrides
    "flux1": (write_flux1, 32, 512, ["balance/weighting=scale"]),
    "qwen_image": (write_qwen_image, 16, 512, ["balance/weighting=attention"]),
    "qwen_image_edit": (write_qwen_image_edit, 16, 512, ["balance/weighting=attention"]),
    "z_image": (write_z_image, 16, 128, ["balance/weighting=attention"]),
    "flux2_klein": (write_flux2_klein, 48, 128, ["balance/weighting=attention"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_transformers(family, compose, few_looks, tmp_path, monkeypatch):
    """Trained, generated with, exported and loaded again, in this process."""
    write, width, length, extra = FAMILIES[family]
    monkeypatch.chdir(tmp_path)
    generator = [f"generator={family}", f"generator.source={write(tmp_path / family)}", "generator.size=64"]
    models = [
        "language_model=tiny",
        "preference_encoder=text",
        "text_encoder=tiny",
        "scorer=tiny",
        *generator,
        f"generator.max_length={length}",
    ]
    sizes = ["method=[none,pmg_paper]", "split_sizes={train: 4, validation: 2, test: 2}", "sheet_users=2"]
    shared = [*WITHOUT_MODELS, *models, *sizes]
    execute(compose("train", *shared, "run_dir=a"), "train", train)
    methods = "method=[none,pmg_paper,references]" if family == "qwen_image_edit" else "method=[none,pmg_paper]"
    execute(compose("generate", *shared, *extra, methods, "run_dir=b"), "generate", generate)
    if family == "qwen_image":  # with an autoencoder of its own; these commands are the same for all families
        execute(compose("evaluate", *shared, "run_dir=c"), "evaluate", evaluate)
        execute(compose("estimate", *shared, "run_dir=d"), "estimate", estimate)
        results = json.loads((tmp_path / "c" / "results.json").read_text())
        assert results["methods"]["pmg_paper"]["lpips_truth"]["n"] == 2
    weights = load_file(tmp_path / "a" / "encoder" / "diffusion_pytorch_model.safetensors")
    assert weights["map.weight"].shape == (width, 32)
    # the command line reads the sampling from the run
    exported = ["train_run=a", "folder=pipeline", f"sampling={family}", "sampling.steps=2", *extra]
    execute(compose("export", *exported, "run_dir=e"), "export", export)
    pipe = PersonalizedPipeline.from_pretrained(tmp_path / "pipeline", "cpu", str(tmp_path / "cache"))
    example = few_looks.examples("test", 2, 1)[0]
    output = pipe(with_pictures(example.liked, few_looks.images), example.target)
    assert output.images[0].size == (64, 64)


@pytest.mark.slow
def test_a_generator_of_image_tokens(compose, few_looks, tmp_path, monkeypatch):
    """Janus: trained, forecast, generated with by several methods, judged, exported and loaded, in this process."""
    monkeypatch.chdir(tmp_path)
    models = [
        "language_model=tiny",
        "preference_encoder=text",
        "text_encoder=tiny",
        "scorer=tiny",
        "generator=janus",
        "sampling=janus",
    ]
    models += [f"generator.source={write_janus(tmp_path / 'janus')}", "sampling.bfloat16=false"]
    short = [option for option in WITHOUT_MODELS if not option.startswith(("sampling.steps=", "method="))]
    sizes = [
        "method=[none,keywords,pmg_paper,inversion]",
        "split_sizes={train: 4, validation: 2, test: 2}",
        "sheet_users=2",
    ]
    shared = [*short, *models, *sizes, "preference.inversion.steps=2"]
    execute(compose("train", *shared, "run_dir=a"), "train", train)
    execute(compose("estimate", *shared, "run_dir=d"), "estimate", estimate)
    execute(compose("generate", *shared, "run_dir=b"), "generate", generate)
    execute(compose("evaluate", *shared, "run_dir=c"), "evaluate", evaluate)
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert {
        results["methods"][name]["lpips_truth"]["n"] for name in ("none", "keywords", "pmg_paper", "inversion")
    } == {2}
    weights = load_file(tmp_path / "a" / "encoder" / "diffusion_pytorch_model.safetensors")
    assert weights["map.weight"].shape == (32, 32)  # to the language model's input embeddings
    execute(compose("export", "train_run=a", "folder=pipeline", "sampling=janus", "run_dir=e"), "export", export)
    pipe = PersonalizedPipeline.from_pretrained(tmp_path / "pipeline", "cpu", str(tmp_path / "cache"))
    example = few_looks.examples("test", 2, 1)[0]
    history = with_pictures(example.liked, few_looks.images)
    assert pipe(history, example.target).images[0].size == (32, 32)
    with pytest.raises(PmgError, match="num_inference_steps is 4, and this generator has no solver steps"):
        pipe(history, example.target, num_inference_steps=4)
