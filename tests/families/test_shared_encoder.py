"""The generator's own text encoder reads histories: trained, generated with, exported and loaded again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from checkpoints import write_flux1, write_flux2_klein, write_qwen_image, write_qwen_image_edit, write_z_image
from commands import FEW
from pmg import PersonalizedPipeline
from pmg.api.call_arguments import with_pictures
from pmg.commands.estimate import body as estimate
from pmg.commands.estimate import empty_models
from pmg.commands.export import body as export
from pmg.commands.generate import body as generate
from pmg.commands.train import body as train
from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.orchestration.run import execute
from pmg.runs.process_state import RunFailedError
from pmg.seeding import stable_number

FAMILIES = {  # its writer, width of its text tokens, longest text
    "z_image": (write_z_image, 16, 128),
    "flux2_klein": (write_flux2_klein, 48, 128),
    "qwen_image": (write_qwen_image, 16, 512),
    "qwen_image_edit": (write_qwen_image_edit, 16, 512),
}
WITH_REFERENCES = ("flux2_klein", "qwen_image_edit")
SHORT = [
    "language_model=shared", "text_encoder=tiny", "scorer=tiny", "generator.size=64", "dtype=float32",
    "split_sizes={train: 4, validation: 2, test: 2}", "objective.users_per_step=2", "objective.batches.draws=2",
    "sampling.steps=2", "sheet_users=2", "trainer.max_steps=1", "trainer.val_check_interval=1", "train_run=a",
    "paths.cache_dir=cache", "paths.output_dir=out", *FEW,
    "method=pmg_paper",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_one_language_model_for_two_jobs(family, compose, tmp_path, monkeypatch):
    write, width, length = FAMILIES[family]
    monkeypatch.chdir(tmp_path)
    generator = [f"generator={family}", f"generator.source={write(tmp_path / family)}"]
    shared = [*SHORT, *generator, f"generator.max_length={length}"]
    execute(compose("train", *shared, "run_dir=a"), "train", train)
    methods = "method=[pmg_paper,references]" if family in WITH_REFERENCES else "method=pmg_paper"
    execute(compose("generate", *shared, methods, "balance/weighting=attention", "run_dir=b"), "generate", generate)
    execute(compose("estimate", *shared, "run_dir=d"), "estimate", estimate)
    weights = load_file(tmp_path / "a" / "encoder" / "diffusion_pytorch_model.safetensors")
    assert weights["map.weight"].shape == (width, width)
    exported = ["train_run=a", "folder=p", f"sampling={family}", "sampling.steps=2", "balance/weighting=attention"]
    execute(compose("export", *exported, "dtype=float32", "run_dir=e"), "export", export)
    pipe = PersonalizedPipeline.from_pretrained(tmp_path / "p", "cpu", str(tmp_path / "other"))
    shares = {weight.data_ptr() for weight in pipe.pipeline.generator.text_encoder.parameters()}
    assert {weight.data_ptr() for weight in pipe.extractor.language_model.model.get_decoder().parameters()} <= shares
    records = [json.loads(line) for line in (tmp_path / "b" / "records.jsonl").read_text().splitlines()]
    assert {row["method"] for row in records} == (
        {"pmg_paper", "references"} if family in WITH_REFERENCES else {"pmg_paper"}
    )
    record = next(row for row in records if row["method"] == "pmg_paper" and row["control"] == "own")
    data = instantiate(compose("train", *shared).data)
    example = next(e for e in data.examples("test", 2, 1) if e.id == record["example"])
    request = pipe.read(with_pictures(example.liked, data.images), example.target)
    assert list(request.keywords.words) == record["preference_keywords"]
    image = pipe.draw([replace(request, seed=stable_number("noise", 0, example.id) % 2**62)]).images[0]
    made = np.asarray(Image.open(tmp_path / "b" / record["image"])).astype(int)
    difference = abs(np.asarray(image).astype(int) - made)  # in another batch, sums are rounded in another order
    assert difference.mean() < 1 < made.std()


@pytest.mark.slow
@pytest.mark.ci
def test_compiling_is_refused_before_histories_are_read(compose, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    generator = ["generator=z_image", f"generator.source={write_z_image(tmp_path / 'z')}", "generator.max_length=128"]
    cfg = compose("train", *SHORT, *generator, "compile=true", "run_dir=a")
    with pytest.raises(RunFailedError):
        execute(cfg, "train", train)
    assert "language_model=shared reads states between them: leave compile=false" in capsys.readouterr().err
    assert not list(tmp_path.glob("cache/contexts/*"))


@pytest.mark.slow
@pytest.mark.ci
def test_a_shared_model_takes_no_memory_of_its_own(compose, tmp_path):
    generator = ["generator=z_image", f"generator.source={write_z_image(tmp_path)}"]
    one = empty_models(compose("estimate", *SHORT, *generator))
    two = empty_models(compose("estimate", *SHORT, *generator, "language_model=tiny"))
    assert one[2]["language model"] == 0 < two[2]["language model"]
    assert one[2]["text encoder"] == two[2]["text encoder"] > 0
    assert one[0].state_width == one[3].texts.width == 16


@pytest.mark.slow
@pytest.mark.ci
def test_a_text_encoder_that_stays_on_the_cpu_is_not_shared(compose, tmp_path):
    generator = ["generator=z_image", f"generator.source={write_z_image(tmp_path)}", "generator.text_on_cpu=true"]
    cfg = compose("estimate", *SHORT, *generator)
    with pytest.raises(
        PmgError, match=r"generator\.text_on_cpu=true .* Set it to false, or use another language_model"
    ):
        empty_models(cfg)
    with pytest.raises(
        PmgError, match=r"generator\.text_on_cpu=true .* Set it to false, or use another language_model"
    ):
        instantiate(cfg.language_model).of(instantiate(cfg.generator).text_encoder)


@pytest.mark.slow
@pytest.mark.ci
def test_a_generator_without_a_language_model_is_refused_in_one_line(compose, tmp_path):
    generator = ["generator=flux1", f"generator.source={write_flux1(tmp_path)}"]
    with pytest.raises(PmgError, match=r"this generator's is no language model\. Use generator=z_image") as caught:
        empty_models(compose("estimate", *SHORT, *generator))
    assert "\n" not in str(caught.value)
