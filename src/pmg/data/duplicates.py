"""Near copies among pictures, by their perceptual hashes: 64 bits that re-encoding and scaling hardly change."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from pmg.domain import Item

BITS = 64


class Hashes:
    """Hashes of the items that have a picture.

    Args:
        items: the items' table, with the column ``phash``.
    """

    def __init__(self, items: pd.DataFrame) -> None:
        rows = zip(items["id"], items["phash"], strict=True)
        self.by_item = {item: int(phash, 16) for item, phash in rows if phash}

    def distance(self, item: Item, others: Iterable[Item]) -> int:
        """Bits between the picture of `item` and the nearest of `others`; those without a picture are no copies.

        An item is its own copy, with a picture or without.
        """
        ids = [other.id for other in others]
        if item.id in ids:
            return 0
        known = self.by_item
        return min(((known[item.id] ^ known[other]).bit_count() for other in ids if other in known), default=BITS)

    def look(self, item: Item) -> str:
        """A name of the item's picture: equal for equal hashes."""
        return f"{self.by_item[item.id]:016x}"
