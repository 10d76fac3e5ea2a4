"""Reference images of FLUX.2 klein and Qwen-Image-Edit: as in diffusers' pipelines, or refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import diffusers as df
import pytest
import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus

from checkpoints import write_flux2_klein, write_qwen_image_edit
from pmg.domain import Example, Interaction, Item, PmgError
from pmg.families.flux2_klein import Flux2Klein
from pmg.families.qwen_image_edit import QwenImageEdit
from pmg.methods.references import LikedPictures
from pmg.models.diffusion.conditioning import ReferenceLatents, join
from pmg.models.diffusion.reference_images import encode_prompts, encode_references
from pmg.models.diffusion.sequences import pack
from pmg.models.tiny_models import tiny_generator, tiny_text_encoder
from pmg.models.vision.pictures import to_picture

pytestmark = [pytest.mark.slow, pytest.mark.ci]

SIZE, LENGTH, PROMPT = 64, 400, "red apple"
PICTURES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).mul(255).round() / 127.5 - 1


WRITERS = {
    "flux2_klein": (Flux2Klein, write_flux2_klein, df.Flux2KleinPipeline),
    "qwen_image_edit": (QwenImageEdit, write_qwen_image_edit, df.QwenImageEditPlusPipeline),
    "qwen_image_edit_2509": (
        QwenImageEdit,
        partial(write_qwen_image_edit, zero_cond_t=False),
        df.QwenImageEditPlusPipeline,
    ),
}


@pytest.fixture(scope="module", params=WRITERS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    return WRITERS[name][1](tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def generator(name, folder):
    return WRITERS[name][0].load(folder, size=SIZE, max_length=LENGTH)


@pytest.fixture(scope="module")
def pictures(generator):
    return encode_references(generator, PICTURES)


def some(pictures, rows):
    """Some of the pictures as the references of one user."""
    return replace(
        pictures,
        latents=pictures.latents[rows],
        features=None if pictures.features is None else pictures.features[rows],
    )


def noise(generator, count):
    return torch.randn(count, *generator.latent_shape, generator=torch.Generator().manual_seed(3))


def branches(generator, *users):
    references = ReferenceLatents.of([user.latents for user in users])
    texts = (encode_prompts(generator, [text] * len(users), users) for text in ("", PROMPT))
    return [replace(join(text), references=references) for text in texts]


def library_images(pipeline, folder, start):
    """What the library makes of the first two pictures.

    Its pipeline for Qwen-Image-Edit doesn't tell the text encoder of transformers 5 which tokens are pictures
    (huggingface/diffusers#14194), so that it reads them without rows and columns: here it is told.
    """
    pipe = pipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    given = {"image": [to_picture(picture) for picture in PICTURES[:2]], "prompt": PROMPT, "num_inference_steps": 3}
    given |= {"output_type": "pt", "height": SIZE, "width": SIZE, "max_sequence_length": LENGTH}
    if pipeline is df.Flux2KleinPipeline:
        return pipe(**given, latents=start, guidance_scale=3.0).images
    number, read = pipe.text_encoder.config.image_token_id, pipe.text_encoder.forward
    pipe.text_encoder.forward = lambda input_ids, **inputs: read(
        input_ids=input_ids, mm_token_type_ids=(input_ids == number).int(), **inputs
    )
    return pipe(**given, latents=pack(start), true_cfg_scale=3.0, negative_prompt="").images


def test_images_are_those_of_the_librarys_pipeline(name, generator, folder, pictures, monkeypatch):
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", SIZE**2)  # of references; 1024 elsewhere
    start = noise(generator, 1)
    made = generator.sample_from(start, branches(generator, some(pictures, slice(2))), [-2.0, 3.0], [0], 3)
    images = library_images(WRITERS[name][2], folder, start)
    torch.testing.assert_close(generator.decode(made), images * 2 - 1, atol=2e-4, rtol=1e-3)
    others = generator.sample_from(start, branches(generator, some(pictures, slice(2, 3))), [-2.0, 3.0], [0], 3)
    assert (generator.decode(others) - generator.decode(made)).abs().max() > 0.01


def test_users_with_fewer_pictures_are_as_if_alone(generator, pictures):
    start, users = noise(generator, 2), [pictures, some(pictures, slice(1, 2))]
    both = generator.sample_from(start, branches(generator, *users), [0.0, 1.0], [0, 1], 2)
    alone = generator.sample_from(start[1:], branches(generator, users[1]), [0.0, 1.0], [1], 2)
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)


def test_prompts_are_read_behind_pictures_where_the_text_encoder_sees(name, generator, pictures):
    plain, shown = (encode_prompts(generator, [PROMPT], users) for users in ([], [pictures]))
    if name == "flux2_klein":
        assert torch.equal(shown.tokens, plain.tokens)
    else:
        assert shown.tokens.shape[1] > plain.tokens.shape[1] + 3 * pictures.features.shape[1]
        others = encode_prompts(generator, [PROMPT], [replace(pictures, features=pictures.features.flip(0))])
        assert (others.tokens[0, -1] - shown.tokens[0, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "flux2_klein"], indirect=True)
def test_a_checkpoint_without_its_image_processor_is_named(name, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copy / "processor")
    with pytest.raises(PmgError, match=r"has no processor\. Load the whole pipeline again"):
        WRITERS[name][0].load(str(copy), size=SIZE, max_length=LENGTH)


def context(generator, *liked):
    items = [Item(str(row), str(row), f"sticker {row}") for row in range(3)]
    history = tuple(Interaction(items[row]) for row in liked)
    images = SimpleNamespace(
        has=lambda item: True, rows=lambda some: torch.tensor([int(item.id) for item in some]),
        pixels=lambda rows: PICTURES[rows],
    )  # fmt: skip
    return SimpleNamespace(examples=[Example("0", "u", history, items[0], ())], images=images, generator=generator)


def test_the_latest_liked_pictures_are_the_references(generator, pictures):
    (found,) = LikedPictures(pictures=2)(context(generator, 2, 0, 1))
    torch.testing.assert_close(found.latents, pictures.latents[:2])
    assert (found.features is None) == (pictures.features is None)


def test_a_generator_without_reference_images_is_refused_in_one_line():
    generator = tiny_generator(tiny_text_encoder())
    with pytest.raises(
        PmgError, match=r"takes no reference images\. Use generator=flux2_klein or qwen_image_edit"
    ) as caught:
        LikedPictures()(context(generator, 0))
    assert "\n" not in str(caught.value)


def test_a_user_without_pictures_is_named(generator):
    with pytest.raises(PmgError, match="user u liked nothing that has a picture"):
        LikedPictures()(context(generator))
