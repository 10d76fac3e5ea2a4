import numpy as np
import torch

from pmg.evaluation.contact_sheet import image_grid
from pmg.evaluation.model_card_images import mistakes_picture, restored_picture
from pmg.models.loading.tiny_models import tiny_judge


def test_mistakes_stand_above_the_hand_that_was_named(drawings):
    styles = sorted(drawings.styles)
    judge = tiny_judge(styles, drawings.images.concepts)
    with torch.no_grad():  # always says the first
        judge.style_head[-1].weight.zero_()
        judge.style_head[-1].bias.copy_(-torch.arange(len(styles)).float())
    mistakes = [item for item in drawings.held_out_items if drawings.images.style[item.id] != styles[0]]
    picture = mistakes_picture(drawings, judge, count=1)
    twin = next(i for i in drawings.images.items if i.id == f"{mistakes[0].concept}@{styles[0]}")
    pixels = drawings.images.pixels(drawings.images.rows([mistakes[0], twin]))
    label = f"{mistakes[0].facts['pack']} as {drawings.styles[styles[0]]['pack']}"
    assert picture.tobytes() == image_grid(pixels, ["drawing", "who was named"], [label]).tobytes()


def test_no_picture_where_there_is_nothing_to_show(drawings):
    assert mistakes_picture(drawings, tiny_judge(["nobody"], drawings.images.concepts)) is None


def test_restored_drawings_stand_below_the_real_ones(emoji, generator):
    first = {emoji.images.style[item.id]: item for item in reversed(emoji.held_out_items)}
    drawings = emoji.images.pixels(emoji.images.rows([first[style] for style in emoji.styles]))
    alone = np.asarray(image_grid(drawings, ["drawing"], list(emoji.styles)))
    picture = np.asarray(restored_picture(emoji, generator.codec.autoencoder))
    cells = slice(-10 * 138, None)  # ten columns of 128 pixels and a gap
    assert np.array_equal(picture[:190, cells], alone[:190, cells])
    assert not np.array_equal(picture[200:328, cells], picture[62:190, cells])
