"""The code of docs/quickstart.md runs as it stands, on the shipped pipeline."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from pmg import PersonalizedPipeline
from pmg.api.serialization import in_float32, read_index
from pmg.commands.export import push
from pmg.configuration.precision import has_bfloat16
from pmg.domain import PmgError

pytestmark = pytest.mark.slow  # draws eleven batches with the shipped models


@pytest.fixture(scope="module")
def told(root, tmp_path_factory):
    """What the document's code leaves behind, and the folder with its pictures."""
    folder = tmp_path_factory.mktemp("quickstart")
    (folder / "assets").symlink_to(root / "assets")
    blocks = re.findall(r"^```python\n(.*?)^```", (root / "docs/quickstart.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PMG_CACHE", str(root / "outputs" / "cache"))  # unpacked once for all runs in this checkout
        exec("\n".join(blocks), names)
    return names, folder


@pytest.mark.ci
def test_code_of_the_readme_runs(told, root, monkeypatch):
    monkeypatch.chdir(told[1])
    (block,) = re.findall(r"^```python\n(.*?)^```", (root / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    for name, item in zip(("dog", "apple", "guitar"), told[0]["history"], strict=False):
        item["image"].save(f"{name}.png")
    monkeypatch.setattr(PersonalizedPipeline, "from_pretrained", lambda folder: told[0]["pipe"])
    exec(block, {})
    assert Image.open("rocket.png").size == (256, 256)


@pytest.mark.parametrize("document", ["app", "conversations", "own_data"])
def test_code_of_other_documents_runs_on_its_pipeline(told, root, monkeypatch, document):
    monkeypatch.chdir(told[1])
    text = (root / "docs" / f"{document}.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    exec("\n".join(blocks), dict(told[0]))


@pytest.mark.ci
def test_its_pictures_are_drawings(told):
    names, folder = told
    images = [np.asarray(Image.open(path)) for path in sorted(folder.glob("rocket-?.png"))]
    assert len(images) == len(names["output"].records) == 4
    assert all(image.shape == (256, 256, 3) and image.std() > 10 for image in images)
    assert len({image.tobytes() for image in images}) == 4


def test_images_of_its_batch_are_those_of_single_calls(told, monkeypatch):
    """In float32: sums in bfloat16 depend on the batch, so that another candidate may be selected."""
    names, _ = told
    settings = {"num_inference_steps": 6, "guidance_scale": 4.0}
    calls = [(names["history"], "rocket"), (names["other_history"], {"title": "cat", "keywords": ("pet",)})]
    copy = PersonalizedPipeline.from_pretrained(told[1] / "copy")
    for pipe in (names["pipe"], copy):
        monkeypatch.setattr(pipe.pipeline, "bfloat16", False)
    seeded = [names["torch"].Generator().manual_seed(row) for row in range(2)]
    batch = names["pipe"](*map(list, zip(*calls, strict=True)), generator=seeded, **settings)
    for row, call in enumerate(calls):
        generators = [names["torch"].Generator().manual_seed(row) for _ in range(2)]
        images = [
            pipe(*call, generator=rng, **settings) for pipe, rng in zip((names["pipe"], copy), generators, strict=True)
        ]
        assert images[0].images[0].tobytes() == images[1].images[0].tobytes()
        batched, record = batch.images[row], batch.records[row]
        difference = np.asarray(images[0].images[0]).astype(int) - np.asarray(batched)
        assert abs(difference).mean() < 1  # of 255
        assert images[0].records[0]["preference_keywords"] == record["preference_keywords"]


def test_users_get_what_they_like(told):
    """The image for a user is nearer in its colours to their own pictures than to the other user's."""
    names, folder = told
    assert names["output"].records[0]["preference_keywords"] != names["other"].records[0]["preference_keywords"]
    colours = [mean_colour(item["image"] for item in names[key]) for key in ("history", "other_history")]
    for row, name in enumerate(("0", "other")):
        image = mean_colour([Image.open(folder / f"rocket-{name}.png")])
        assert np.argmin([np.abs(image - one).sum() for one in colours]) == row


def mean_colour(pictures):
    """Returns the mean colour of pictures."""
    return np.mean([np.asarray(picture).reshape(-1, 3).mean(0) for picture in pictures], 0)


def test_the_same_call_gives_the_same_images(told):
    names, _ = told
    pipe, torch = names["pipe"], names["torch"]
    again = pipe(names["history"], {"title": "rocket", "keywords": ("space", "launch")}, alpha=0.5,
                 num_images_per_prompt=4, generator=torch.Generator().manual_seed(0))  # fmt: skip
    for one, other in zip(again.images, names["output"].images, strict=True):
        assert one.tobytes() == other.tobytes()
    alone = pipe.read(names["history"], {"title": "rocket", "keywords": ("space", "launch")}, alpha=0.5)
    assert alone.keywords.words == tuple(names["output"].records[0]["preference_keywords"])


@pytest.mark.ci
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"history": []}, "empty history: nothing to read"),
        ({"history": ["a title alone"]}, "item .a title alone. has no image"),
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\]"),
        ({"num_images_per_prompt": 0}, "must be at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(told, change, message):
    names, _ = told
    with pytest.raises(PmgError, match=message):
        names["pipe"](**{"history": names["history"], "target": "rocket", **change})


@pytest.mark.ci
def test_a_hub_that_cannot_be_reached_is_named(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(PmgError, match=rf"can't push to 'someone/encoder' .* the folder is in {tmp_path}"):
        push(tmp_path, "someone/encoder", private=True)
    with pytest.raises(PmgError, match="'someone/encoder' is no folder here, and the hub says"):
        PersonalizedPipeline.from_pretrained("someone/encoder")


@pytest.mark.ci
def test_folders_without_a_pipeline_are_refused(tmp_path):
    with pytest.raises(PmgError, match="holds no pipeline"):
        PersonalizedPipeline.from_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(PmgError, match="describes a StableDiffusionPipeline"):
        read_index(tmp_path, "")
    (tmp_path / "model_index.json").write_text('{"_class_name": "PersonalizedPipeline", "scorer": {}}')
    with pytest.raises(PmgError, match="language_model is missing"):
        read_index(tmp_path, "")


def test_a_pipeline_from_another_processor_runs_in_what_this_one_has(told):
    pipe = told[0]["pipe"]
    own = "bfloat16" if has_bfloat16() else "float32"
    assert str(pipe.extractor.language_model.model.dtype) == f"torch.{own}"
    assert pipe.pipeline.bfloat16 == has_bfloat16()


@pytest.mark.ci
def test_bfloat16_is_taken_out_of_a_pipelines_parts():
    parts = {"language_model": {"dtype": "bfloat16", "chat": False}, "sampling": {"bfloat16": True, "steps": 3}}
    expected = {"language_model": {"dtype": "float32", "chat": False}, "sampling": {"bfloat16": False, "steps": 3}}
    assert in_float32(parts) == expected
    assert parts["sampling"]["bfloat16"]
    assert in_float32({**parts, "language_model": {"seed": 0}})["language_model"] == {"seed": 0}
    inputs = {"image_encoder": {"scorer": {"dtype": "bfloat16"}}}
    deep = {"generator": {"dtype": "bfloat16", "size": 1}, "inputs": inputs}
    assert "bfloat16" not in str(in_float32(deep))
    assert in_float32(deep)["generator"]["size"] == 1
