import pytest
import torch

from pmg.generation.concept_style_grid import concept_style_grid

PLAIN = {"outline": "no outline", "shading": "flat"}
STYLES = {
    "ink": {**PLAIN, "colour": "black and white", "artist_style": "even strokes"},
    "clay": {**PLAIN, "colour": "full colour", "artist_style": "smooth pastel clay"},
}


def test_grid_draws_every_title_in_every_style(generator):
    grid = concept_style_grid(generator, ["apple", "cat", "dog"], STYLES, "sticker", steps=2)
    one = concept_style_grid(generator, ["cat"], {"clay": STYLES["clay"]}, "sticker", steps=2)
    assert grid.shape == (6, *one.shape[1:])
    torch.testing.assert_close(grid[4:5], one, atol=1e-4, rtol=0)
    assert not torch.allclose(grid[4], grid[1], atol=1e-3)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_guidance_of_one_follows_the_condition_alone(generator, guidance):
    plain = concept_style_grid(generator, ["cat"], STYLES, "sticker", steps=2, guidance=1.0)
    guided = concept_style_grid(generator, ["cat"], STYLES, "sticker", steps=2, guidance=guidance)
    assert torch.equal(plain, guided) == (guidance == 1.0)
