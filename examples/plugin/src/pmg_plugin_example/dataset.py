"""A data set: simulated users who like a colour, and shapes drawn in it."""

import random

import torch

from pmg.configuration.ranges import Count
from pmg.data.dataset import Dataset, MemoryImages, check_split
from pmg.domain import Example, Interaction, Item

SHAPES = {"diamond": 1, "disc": 2, "cushion": 4, "square": torch.inf}  # orders of a norm
COLOURS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (50, 80, 220)}


class Shapes(Dataset):
    """A user likes three things of one colour; their target is a fourth. `users` has the size of each split."""

    groups, taste_label = ("colour",), "colour"

    def __init__(self, users: dict[str, Count], size: Count = 64) -> None:
        grid = torch.stack(torch.meshgrid(*[torch.linspace(-1.2, 1.2, size)] * 2, indexing="ij"))
        inside = {shape: torch.linalg.vector_norm(grid, order, dim=0) < 1 for shape, order in SHAPES.items()}
        colours = {colour: torch.tensor(rgb).view(3, 1, 1) for colour, rgb in COLOURS.items()}
        self.items = {(s, c): Item(f"{s}-{c}", s, s, (s, c)) for s in SHAPES for c in COLOURS}
        pixels = [torch.where(inside[shape], colours[colour], 255) for shape, colour in self.items]
        self.users, self._images = users, MemoryImages(list(self.items.values()), torch.stack(pixels).to(torch.uint8))

    @property
    def images(self) -> MemoryImages:
        """The images of all items."""
        return self._images

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> list[Example]:
        """Returns one example of each user of a split."""
        check_split(split, users, self.users)
        return [self._example(f"{split}-{number}") for number in range(users or self.users[split])]

    def _example(self, user: str) -> Example:
        rng = random.Random(user)
        colour, shapes = rng.choice(list(COLOURS)), rng.sample(list(SHAPES), 4)
        *history, target = (self.items[shape, colour] for shape in shapes)
        return Example(f"{user}-0", user, tuple(map(Interaction, history)), target, (target,), {"colour": colour})
