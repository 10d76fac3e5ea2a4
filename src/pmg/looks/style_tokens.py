"""Preference sources of a style encoder that was trained with the generator: pictures in, soft tokens out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.configuration.ranges import Count
from pmg.data.dataset import require_liked
from pmg.domain import Example, Item
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.looks.models.token_editor import TokenEditor
from pmg.models.diffusion.interfaces import LatentCodec, PromptEncoder
from pmg.models.loading.weight_sources import load_frozen
from pmg.preferences.sources import Requirements, SourceContext, TokenSource
from pmg.preferences.wishes import WishReader, read_wishes
from pmg.progress import track

REFERENCES_LABEL = "look_references"  # ids of pictures that show a user's look exactly, joined by spaces


@dataclass(frozen=True)
class StyleTokens(TokenSource):
    """Style tokens of the pictures that a user liked last, a baseline without a language model."""

    folder: str  # of the style encoder
    pictures: Count = 4  # most pictures a user
    codec: LatentCodec | None = None  # whose latents it reads; None: those of the generator
    alone: bool = False  # whether each picture is read alone and the mean taken, or all are read together

    def references(self, example: Example, context: SourceContext) -> list[Item]:
        """Returns the items whose pictures are encoded; PmgError if the user liked none that has a picture."""
        return require_liked(context.images, example, "a style token")[-self.pictures :]

    def __call__(self, context: SourceContext) -> Tensor:
        """Returns the style tokens of all users, `(U, n, D)`; PmgError if the encoder or a picture is missing."""
        return self.read_examples(context.examples, context)

    def read_examples(self, examples: Sequence[Example], context: SourceContext) -> Tensor:
        """Returns the style tokens of some users, `(U, n, D)`; PmgError if the encoder or a picture is missing."""
        encoder: StyleEncoder = load_frozen(StyleEncoder, self.folder)
        chosen = [context.images.rows(self.references(example, context)) for example in examples]
        encode = context.generator.encode_images if self.codec is None else self.codec.encode

        def read(rows: Tensor) -> Tensor:
            """Returns the tokens of one user's pictures, `(1, n, D)`."""
            pixels = context.images.pixels(rows)
            return encoder.read(encode, pixels[:, None] if self.alone else pixels[None]).mean(0, keepdim=True)

        return torch.cat([*track(map(read, chosen), "Style tokens", total=len(chosen))])


@dataclass(frozen=True)
class TrueStyleTokens(StyleTokens):
    """Style tokens of pictures that show the user's look exactly: an upper bound, for simulated users alone."""

    @property
    def requires(self) -> Requirements:
        """The label with the pictures' ids."""
        return Requirements(labels=(REFERENCES_LABEL,))

    def references(self, example: Example, context: SourceContext) -> list[Item]:
        """Returns the items that the label names."""
        return [Item(name, "", "") for name in example.labels[REFERENCES_LABEL].split()][: self.pictures]


@dataclass(frozen=True, kw_only=True)
class EditedTokens(StyleTokens):
    """Style tokens in which a `TokenEditor` sets the options that messages ask for.

    Users who ask for nothing have their pictures' tokens, bit for bit; those who liked none start from the mean of all
    looks.
    """

    wishes: WishReader  # reads messages
    editor_folder: str  # of the token editor

    def __call__(self, context: SourceContext) -> Tensor:
        """Returns the tokens of all users, `(U, n, D)`; PmgError if a model or a picture is missing."""
        editor: TokenEditor = load_frozen(TokenEditor, self.editor_folder)
        tokens = editor.mean.repeat(len(context.examples), 1, 1)
        if clicked := [row for row, example in enumerate(context.examples) if example.liked]:
            tokens[clicked] = self.read_examples([context.examples[row] for row in clicked], context).to(tokens)
        chosen = [options for options, _ in read_wishes(context, self.wishes)]
        if changed := [row for row, options in enumerate(chosen) if options]:
            options = [chosen[row] for row in changed]
            tokens[changed] = edit_tokens(editor, context.generator.text_encoder, tokens[changed], options)
        return tokens


@torch.no_grad()
def edit_tokens(
    editor: TokenEditor, text_encoder: PromptEncoder, tokens: Tensor, chosen: Sequence[Mapping[str, str]]
) -> Tensor:
    """Returns tokens `(B, n, D)` in which each row's chosen options, one or more by attribute, are set."""
    texts = sorted({option for options in chosen for option in options.values()})
    vectors = dict(zip(texts, text_encoder.encode(texts, padded=False).pooled.to(tokens), strict=True))
    options = tokens.new_zeros(len(chosen), max(map(len, chosen)), len(vectors[texts[0]]))
    spoken = options.new_zeros(options.shape[:2], dtype=torch.bool)
    for row, each in enumerate(chosen):
        for place, option in enumerate(each.values()):
            options[row, place], spoken[row, place] = vectors[option], True
    return editor(tokens, options, spoken)
