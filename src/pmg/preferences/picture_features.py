"""Features of the pictures in histories: each picture is encoded once, and kept in the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from torch import Tensor

from pmg.cache import Cache
from pmg.domain import Item
from pmg.models.language.picture_marks import find_pictures
from pmg.models.language.vision_language_model import VisionLanguageModel
from pmg.preferences.captioning import Pixels

READ_AT_ONCE = 32  # pictures whose pixels are in memory


class PictureFeatures:
    """Looks up the pictures that texts mark.

    Args:
        language_model: encodes pictures.
        cache: keeps the features of each.
        identity: names the model in cache keys.
        items: with pictures.
        captions: of items by id, see `pmg.preferences.captioning.PictureCaptioner`.
        pixels: returns the items' images.
    """

    def __init__(
        self, language_model: VisionLanguageModel, cache: Cache, identity: str, items: Sequence[Item],
        captions: Mapping[str, str], pixels: Pixels,
    ) -> None:  # fmt: skip
        self.language_model, self.cache, self.identity, self.pixels = language_model, cache, identity, pixels
        self.items = {digest: item for item in items for digest in find_pictures(captions[item.id])}

    def __call__(self, texts: Sequence[str]) -> list[list[Tensor]]:
        """Returns of each text the features of its pictures, in their order.

        Raises:
            PmgError: a picture can't be read.
        """
        wanted = [find_pictures(text) for text in texts]
        digests = list(dict.fromkeys(chain.from_iterable(wanted)))
        kept = {digest: self.cache.load(self._key(digest)) for digest in digests}
        found = {digest: tensors["features"] for digest, tensors in kept.items() if tensors}
        missing = [digest for digest in digests if digest not in found]
        found |= zip(missing, self._encode(missing), strict=True)
        return [[found[digest] for digest in row] for row in wanted]

    def _encode(self, digests: Sequence[str]) -> list[Tensor]:
        made: list[Tensor] = []
        for start in range(0, len(digests), READ_AT_ONCE):
            some = digests[start : start + READ_AT_ONCE]
            images = self.pixels([self.items[digest] for digest in some])
            made += self.language_model.encode_pictures(images)
            for digest, features in zip(some, made[start:], strict=True):
                self.cache.save(self._key(digest), {"features": features})
        return made

    def _key(self, digest: str) -> str:
        return Cache.key(kind="picture", model=self.identity, picture=digest)
