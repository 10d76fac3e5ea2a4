"""Captions of items for the prompt: from metadata, by the scorer, or by an image-to-text model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from pmg.configuration.instantiate import nearest
from pmg.configuration.ranges import Count
from pmg.domain import Item, PmgError
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.language.chat_template import render_chat_template
from pmg.models.language.picture_marks import mark_picture
from pmg.models.loading.checkpoints import load_checkpoint
from pmg.models.loading.device import torch_type
from pmg.models.loading.weight_sources import loading, resolve_source
from pmg.models.vision.pictures import to_picture, to_rgb
from pmg.models.vision.pixels import from_uint8, to_uint8
from pmg.models.vision.scorer import Scorer

PICTURE_SIZE = 256  # most pixels a side of pictures that a caller gives
Pixels = Callable[[Sequence[Item]], Tensor]  # items to images (B, 3, H, W) in [-1, 1]


class Captioner(Protocol):
    """Writes captions of items.

    Attributes:
        needs_images: whether it reads images.
        facts: names of the facts that every item needs; None: facts are not used.
    """

    needs_images: bool

    @property
    def facts(self) -> Sequence[str] | None:
        """See the class."""

    def __call__(self, items: Sequence[Item], images: Tensor | None = None) -> list[str]:
        """Returns one caption an item; `images` `(B, 3, H, W)` in [-1, 1], in the order of `items`."""


class PictureDescriber(Protocol):
    """Describes images by named words, from their pixels only."""

    def describe(self, images: Tensor) -> list[dict[str, str]]:
        """Returns words by name for each image `(B, 3, H, W)` in [-1, 1]."""


def caption_items(
    captioner: Captioner, items: Sequence[Item], pixels: Pixels | None = None, batch_size: int = 32
) -> dict[str, str]:
    """Returns the captions of items, which may repeat, by the item's id; each distinct item is described once.

    PmgError if the captioner needs images, of which `batch_size` are read at once, and `pixels` is None.
    """
    if captioner.needs_images and pixels is None and items:
        raise PmgError(f"{type(captioner).__name__} needs images and this data has none. Use captioner=metadata.")
    unique = list({item.id: item for item in items}.values())
    captions: dict[str, str] = {}
    for start in range(0, len(unique), batch_size):
        batch = unique[start : start + batch_size]
        images = pixels(batch) if captioner.needs_images and pixels else None
        captions |= zip((item.id for item in batch), captioner(batch, images), strict=True)
    return captions


class MetadataCaptioner:
    """Formats an item's facts; `template` is a format string over their names, e.g. ``"{pack}, {colour}"``."""

    needs_images = False

    def __init__(self, template: str) -> None:
        self.template = template

    @property
    def facts(self) -> tuple[str, ...]:
        """Names of the facts in the template, each once."""
        return tuple(dict.fromkeys(name for _, name, _, _ in Formatter().parse(self.template) if name is not None))

    def __call__(self, items: Sequence[Item], images: Tensor | None = None) -> list[str]:
        """Returns the captions; PmgError if an item lacks a fact that the template names."""
        return [self._describe(item) for item in items]

    def _describe(self, item: Item) -> str:
        try:
            return self.template.format_map(item.facts)
        except KeyError as error:
            facts, hint = ", ".join(item.facts) or "none", nearest(error.args[0], item.facts)
            raise PmgError(
                f"item '{item.id}' has no fact {error} for the caption '{self.template}'{hint} (it has: {facts}). "
                "Choose a scenario whose caption your items have the facts for, e.g. scenario=items"
            ) from None


class PictureCaptioner:
    """Puts an item's picture itself in the place of a caption, for language models that see."""

    needs_images = True
    facts = None

    def __call__(self, items: Sequence[Item], images: Tensor | None = None) -> list[str]:
        """Returns the marks of images `(B, 3, H, W)` in [-1, 1], see `pmg.models.language.picture_marks`."""
        if images is None:
            raise PmgError("PictureCaptioner needs images")
        return [mark_picture(levels) for levels in to_uint8(images)]


class TaggerCaptioner:
    """Zero-shot tags (CLIP, Radford et al. 2021): from every group, the word most similar to the image.

    PmgError if a group has less than two words, or the template or `content` names an unknown group.

    Args:
        scorer: encodes an image into a content vector and a style vector.
        text_encoder: the one that the scorer was trained with.
        vocabulary: groups of words, e.g. ``{"shading": ["flat", "soft gradients"]}``.
        template: format of the caption, with the names of groups.
        content: names of the groups that describe content; the others describe style.
    """

    needs_images = True
    facts = None

    def __init__(
        self, scorer: Scorer, text_encoder: TextEncoder, vocabulary: Mapping[str, Sequence[str]], template: str,
        content: Sequence[str] = (),
    ) -> None:  # fmt: skip
        small = [name for name, words in vocabulary.items() if len(set(words)) < 2]
        if small or not vocabulary:
            raise PmgError(f"captioner.vocabulary needs groups of at least two words; too small: {small}")
        for name in (*(field for _, field, _, _ in Formatter().parse(template) if field is not None), *content):
            if name not in vocabulary:
                raise PmgError(f"captioner: '{name}' is no group of the vocabulary{nearest(name, vocabulary)}")
        self.scorer, self.template = scorer, template
        self.groups = {
            name: (tuple(words), name in content, text_encoder.encode(list(words)).pooled)
            for name, words in vocabulary.items()
        }

    @torch.no_grad()
    def __call__(self, items: Sequence[Item], images: Tensor | None = None) -> list[str]:
        """Returns the captions of images `(B, 3, H, W)` in [-1, 1]; the items are not used."""
        assert images is not None  # see `needs_images`
        content, style = self.scorer(images)
        tags = []
        for words, shows, pooled in self.groups.values():
            encode = self.scorer.encode_target if shows else self.scorer.encode_preference
            best = ((content if shows else style) @ encode(pooled).T).argmax(dim=1)
            tags.append([words[place] for place in best.tolist()])
        return [self.template.format_map(dict(zip(self.groups, row, strict=True))) for row in zip(*tags, strict=True)]


class ImageToTextCaptioner:
    """Any image-to-text model of transformers, e.g. BLIP-2, LLaVA or Qwen-VL.

    The `source` is a hub id, a folder, or ``package:NAME/path``; PmgError if it is missing, damaged, or no
    image-to-text model. A processor with a chat template gets the `prompt` as a user message with the image, another
    one as plain text before the caption, or not at all if it is empty.
    """

    needs_images = True
    facts = None

    def __init__(
        self, source: str, prompt: str = "", max_new_tokens: Count = 24, dtype: str = "float32", device: str = "cpu"
    ) -> None:
        self.processor, self.model = load_image_to_text(source, dtype, device)
        self.max_new_tokens = max_new_tokens
        self.text = prompt
        if getattr(self.processor, "chat_template", None):
            message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
            self.text = render_chat_template(self.processor, [message])

    @torch.no_grad()
    def __call__(self, items: Sequence[Item], images: Tensor | None = None) -> list[str]:
        """Returns the generated captions of images `(B, 3, H, W)` in [-1, 1], one line each."""
        if images is None:
            raise PmgError("ImageToTextCaptioner needs images")
        pictures = [to_picture(image) for image in images]
        text = {"text": [self.text] * len(pictures), "padding": True} if self.text else {}
        inputs = self.processor(images=pictures, **text, return_tensors="pt").to(self.model.device, self.model.dtype)
        written = self.model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        texts = self.processor.batch_decode(self._new(written, inputs.get("input_ids")), skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    @staticmethod
    def _new(written: Tensor, prompt: Tensor | None) -> Tensor:
        """Removes the prompt `(B, N)` from the beginning of generated tokens if the model repeats it."""
        if prompt is None:
            return written
        for end in (prompt.shape[1], prompt.shape[1] - 1):  # BLIP changes the first token and drops the last
            if end > 1 and written[:, 1:end].equal(prompt[:, 1:end]):
                return written[:, end:]
        return written


def load_image_to_text(source: str, dtype: str, device: str) -> tuple[Any, Any]:
    """Loads processor and frozen model; PmgError if they are missing, damaged, or no image-to-text model."""
    path = resolve_source(source)
    with loading(
        "an image-to-text model", path, "; captioner.source is a hub id or a folder with model and processor"
    ):
        processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)
        model = load_checkpoint(AutoModelForImageTextToText, path, dtype=torch_type(dtype))
    if getattr(processor, "tokenizer", None) is not None:
        processor.tokenizer.padding_side = "left"  # captions are appended to the prompt's end
    return processor, model.to(device).requires_grad_(False).eval()


def from_picture(picture: Image.Image, size: int = PICTURE_SIZE) -> Tensor:
    """Converts a picture into an image `(3, size, size)` in [-1, 1], see `to_rgb`."""
    levels = torch.from_numpy(np.array(to_rgb(picture).resize((size, size))))
    return from_uint8(levels.permute(2, 0, 1))
