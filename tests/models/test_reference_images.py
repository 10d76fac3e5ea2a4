"""Reference images of FLUX.2 klein: as in diffusers' pipeline, of any number a user, and refused by others."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import diffusers as df
import pytest
import torch

from checkpoints import write_flux2_klein
from pmg.domain import Example, Interaction, Item, PmgError
from pmg.models.diffusion.conditioning import References, join
from pmg.models.diffusion.transformer.flux2_klein import Flux2Klein
from pmg.models.loading.tiny_models import tiny_generator, tiny_text_encoder
from pmg.preferences.captioning import to_picture
from pmg.preferences.picture_sources import LikedPictures

pytestmark = [pytest.mark.slow, pytest.mark.ci]

SIZE, LENGTH, PROMPT = 64, 80, "red apple"
PICTURES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).mul(255).round() / 127.5 - 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_flux2_klein(tmp_path_factory.mktemp("klein"))


@pytest.fixture(scope="module")
def generator(folder):
    return Flux2Klein.load(folder, size=SIZE, max_length=LENGTH)


@pytest.fixture(scope="module")
def latents(generator):
    return generator.encode_images(PICTURES)


def noise(generator, count):
    return torch.randn(count, *generator.latent_shape, generator=torch.Generator().manual_seed(3))


def branches(generator, references):
    texts = generator.text_encoder.encode(["", PROMPT])
    parts = (texts[torch.tensor([row] * len(references.mask))] for row in (0, 1))
    return [replace(join(part), references=references) for part in parts]


def test_images_are_those_of_the_librarys_pipeline(generator, folder, latents):
    start = noise(generator, 1)
    made = generator.sample_from(start, branches(generator, References.of([latents[:2]])), [-2.0, 3.0], [0], 3)
    pipe = df.Flux2KleinPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        image=[to_picture(picture) for picture in PICTURES[:2]], prompt=PROMPT, latents=start, num_inference_steps=3,
        output_type="pt", height=SIZE, width=SIZE, max_sequence_length=LENGTH, guidance_scale=3.0,
    ).images  # fmt: skip
    torch.testing.assert_close(generator.decode(made), images * 2 - 1, atol=2e-4, rtol=1e-3)
    without = generator.sample_from(start, branches(generator, References.of([latents[2:]])), [-2.0, 3.0], [0], 3)
    assert (generator.decode(without) - generator.decode(made)).abs().max() > 0.01


def test_users_with_fewer_pictures_are_as_if_alone(generator, latents):
    start = noise(generator, 2)
    both = generator.sample_from(
        start, branches(generator, References.of([latents[:3], latents[1:2]])), [0.0, 1.0], [0, 1], 2
    )
    alone = generator.sample_from(start[1:], branches(generator, References.of([latents[1:2]])), [0.0, 1.0], [1], 2)
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)


def context(generator, *liked):
    items = [Item(str(row), str(row), f"sticker {row}") for row in range(3)]
    history = tuple(Interaction(items[row]) for row in liked)
    images = SimpleNamespace(
        has=lambda item: True, rows=lambda some: torch.tensor([int(item.id) for item in some]),
        pixels=lambda rows: PICTURES[rows],
    )  # fmt: skip
    return SimpleNamespace(examples=[Example("0", "u", history, items[0], ())], images=images, generator=generator)


def test_the_latest_liked_pictures_are_the_references(generator, latents):
    (found,) = LikedPictures(pictures=2)(context(generator, 2, 0, 1))
    torch.testing.assert_close(found, latents[:2])


def test_a_generator_without_reference_images_is_refused_in_one_line():
    generator = tiny_generator(tiny_text_encoder())
    with pytest.raises(PmgError, match=r"takes no reference images\. Use generator=flux2_klein") as caught:
        LikedPictures()(context(generator, 0))
    assert "\n" not in str(caught.value)


def test_a_user_without_pictures_is_named(generator):
    with pytest.raises(PmgError, match="user u liked nothing that has a picture"):
        LikedPictures()(context(generator))
