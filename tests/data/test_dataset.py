"""The interface of a data set: its defaults, its helpers, and who implements it."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import get_class

from pmg.data.dataset import Dataset, MemoryImages, check_split
from pmg.domain import Example, Item, PmgError

ITEMS = [Item("a", "a", "a"), Item("b", "b", "b")]
UINT8 = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)


class Least(Dataset):
    """A data set that overrides nothing else."""

    @property
    def images(self):
        return MemoryImages(ITEMS, UINT8)

    def examples(self, split, users=None, targets=None):
        check_split(split, users, {"test": 1})
        return [Example("u-0", "u", (), ITEMS[0], (ITEMS[0],), {"taste": "red"})]


def test_defaults_refuse_what_the_data_do_not_have():
    data = Least()
    assert (data.groups, data.taste_label) == ((), None)
    with pytest.raises(PmgError, match="no likes in time, which pmg-keywords compares"):
        data.timelines("test")


def test_images_in_memory_are_found_by_item():
    images = Least().images
    assert (images.size, images.has(ITEMS[0]), images.has(Item("c", "", ""))) == (4, True, False)
    assert images.pixels(images.rows([ITEMS[1], ITEMS[0]]))[:, 0, 0, 0].tolist() == [1, -1]
    assert images.pixels(images.rows([])).shape == (0, 3, 4, 4)
    with pytest.raises(PmgError, match="item 'c' has no image"):
        images.rows([Item("c", "", "")])
    with pytest.raises(PmgError, match=r"images of 1 items: torch.uint8, \(2, 3, 4, 4\)"):
        MemoryImages(ITEMS[:1], UINT8)
    with pytest.raises(PmgError, match=r"torch.float32"):
        MemoryImages(ITEMS, UINT8.float())


@pytest.mark.ci
@pytest.mark.slow
def test_every_option_of_data_is_a_dataset(root, compose):
    options = sorted((root / "conf" / "data").glob("*.yaml"))
    assert len(options) >= 5
    for option in options:
        target = get_class(compose("train", f"data={option.stem}").data._target_)
        assert Dataset in target.__mro__, option.name


def test_no_command_names_a_class_of_data(root):
    source = root / "src" / "pmg"
    named = [
        str(path.relative_to(source))
        for path in sorted(source.rglob("*.py"))
        if path.relative_to(source).parts[0] != "data" and "InteractionData" in path.read_text()
    ]
    assert not named
