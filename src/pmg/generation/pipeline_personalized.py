"""The Python door: a user's history and a target in, images out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pmg.cache import NoCache
from pmg.configuration.targets import check_plugin
from pmg.domain import Example, Interaction, Item, PmgError, Turn
from pmg.generation.alpha import AlphaRule
from pmg.generation.components import Component
from pmg.generation.pipeline import Pipeline, build_pipeline
from pmg.generation.requests import Request
from pmg.generation.serialization import ENCODER, read_index
from pmg.models.loading.device import emulates_bfloat16, to_device
from pmg.models.loading.weight_sources import load_frozen
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.preferences.captioning import Captioner, Pixels, caption_items, from_picture, to_picture
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keyword_budget import Budget
from pmg.preferences.keyword_decoding import Decoding
from pmg.preferences.keyword_sources import negative_prompt
from pmg.preferences.keywords import join_words

Thing = Item | Mapping[str, Any] | str


@dataclass(frozen=True)
class Output:
    """What a call returns.

    Attributes:
        images: pictures of 8 bits a channel.
        records: how each was made: keywords, weights, scores, seed.
    """

    images: list[Image.Image]
    records: list[dict[str, Any]]


class PersonalizedPipeline:
    """Reads a history, and draws a target the way its user likes things.

    Args:
        extractor: of histories, with its language model.
        captioner: says what items look like.
        decoding: makes keywords of attributes.
        encoder: makes soft tokens of what was read.
        pipeline: draws, scores and picks.
        alpha_rule: a user's share of the preference, where a call names none.
    """

    def __init__(
        self, extractor: PreferenceExtractor, captioner: Captioner, decoding: Decoding, encoder: TokenEncoder,
        pipeline: Pipeline, alpha_rule: AlphaRule,
    ) -> None:  # fmt: skip
        self.extractor, self.captioner, self.decoding, self.encoder = extractor, captioner, decoding, encoder
        self.pipeline, self.alpha_rule = pipeline, alpha_rule

    @classmethod
    def from_pretrained(
        cls, source: str | Path, device: str = "auto", cache_dir: str | None = None, trust: Sequence[str] = ()
    ) -> PersonalizedPipeline:
        """Loads what ``pmg-export`` wrote.

        A folder from anybody is safe to load: it chooses among pmg's own classes, and no code of it runs, unless
        `trust` names the plug-in that a component is of. Where the
        processor that it runs on only emulates bfloat16, all is computed in float32.

        Args:
            source: its folder, or its id on the hub.
            device: of the models; ``auto``: a GPU where there is one.
            cache_dir: of unpacked weights; by default ``PMG_CACHE``, else ``outputs/cache``.
            trust: modules whose classes the folder may name, e.g. ``["my_module"]``; their code runs.

        Raises:
            PmgError: there is no such pipeline, a part of it is missing, or of a plug-in that `trust` does not name.
        """
        trusted = [check_plugin(name) for name in trust]
        folder = _find(str(source))
        cache = cache_dir or os.environ.get("PMG_CACHE") or "outputs/cache"
        parts = read_index(folder, cache, float32=emulates_bfloat16(device), trust=trusted)
        language_model = to_device(parts["language_model"].create(), device)
        pipeline = build_pipeline(parts, device, Component.create)
        text_encoder = pipeline.generator.text_encoder
        budget = Budget(text_encoder.count_tokens, text_encoder.max_length)
        extractor = PreferenceExtractor(language_model, parts["scenario"].create(), NoCache(), str(folder), budget)
        captioner, decoding = parts["captioner"].create(), parts["decoding"].create()
        encoder = load_frozen(parts[ENCODER], folder / ENCODER)
        return cls(extractor, captioner, decoding, encoder, pipeline, parts["balance"]["alpha_rule"].create())

    def __call__(
        self, history: Sequence[Thing], target: Thing, dislikes: Sequence[Thing] = (),
        conversation: Sequence[tuple[str, str]] = (), *, alpha: float | None = None, num_images_per_prompt: int = 1,
        generator: torch.Generator | None = None,
    ) -> Output:  # fmt: skip
        """Draws `target` for the user of `history`.

        Args:
            history: what they liked, oldest first: items, their titles, or mappings of an `Item`'s fields, with an
                ``image`` (a PIL picture) where the captioner looks at images.
            target: what to draw.
            dislikes: what they disliked.
            conversation: messages (speaker, text), oldest first, where the scenario reads them.
            alpha: share of the preference score in the choice among candidates, in [0, 1]; None: the pipeline's rule.
            num_images_per_prompt: images, each from noise of its own.
            generator: draws the noise's seeds; None: torch's own.

        Raises:
            PmgError: there is nothing to read, an item lacks what the scenario's line names, or alpha is out of range.
        """
        if alpha is not None and not 0 <= alpha <= 1:
            raise PmgError(f"alpha must be in [0, 1], got {alpha}")
        if num_images_per_prompt < 1:
            raise PmgError(f"num_images_per_prompt must be at least 1, got {num_images_per_prompt}")
        seeds = torch.randint(2**62, (num_images_per_prompt,), generator=generator).tolist()
        request = self.read(history, target, dislikes, conversation, alpha)
        return self.draw([replace(request, seed=seed) for seed in seeds])

    def read(
        self, history: Sequence[Thing], target: Thing, dislikes: Sequence[Thing] = (),
        conversation: Sequence[tuple[str, str]] = (), alpha: float | None = None,
    ) -> Request:  # fmt: skip
        """Reads a user once: what `__call__` draws from, with the seed 0; arguments as there."""
        liked = [_read_thing(thing, f"liked-{place}") for place, thing in enumerate(history)]
        disliked = [_read_thing(thing, f"disliked-{place}") for place, thing in enumerate(dislikes)]
        interactions = [Interaction(item) for item, _ in liked]
        interactions += [Interaction(item, "disliked", liked=False) for item, _ in disliked]
        wanted, _ = _read_thing(target, "target")
        turns = tuple(Turn(*message) for message in conversation)
        example = Example("0", "user", tuple(interactions), wanted, (), {}, turns)
        looks = caption_items(self.captioner, [one.item for one in interactions], _pixels([*liked, *disliked]))
        extracted = self.extractor.extract([example], looks, [self.decoding], [self.decoding])
        (words,) = self.extractor.describe([example.target]).values()
        (tokens,) = self.encoder.encode(self.extractor.language_model, extracted.context)
        (against,), (keywords,) = extracted.negative(self.decoding), extracted.keywords(self.decoding)
        avoided = join_words(negative_prompt(self.extractor.scenario.negative_prompt), against)
        share = self.alpha_rule(keywords, len(interactions)) if alpha is None else alpha
        negative = self.extractor.budget.fit(avoided)
        return Request(words, keywords, True, tokens, 0, negative=negative, alpha=share)

    def draw(self, requests: Sequence[Request]) -> Output:
        """Draws requests that `read` made, all in one batch."""
        made = self.pipeline(requests)
        records = [
            {
                "target_keywords": list(request.target.words),
                "preference_keywords": list(request.keywords.words),
                "negative_keywords": list(request.negative.words),
                "dropped_keywords": [*request.target.dropped, *request.keywords.dropped],
                "seed": request.seed,
                "alpha": request.share,
                "picked": picked,
                "candidates": [asdict(candidate) for candidate in candidates],
            }
            for request, picked, candidates in zip(requests, made.picked, made.candidates, strict=True)
        ]
        return Output([to_picture(image) for image in made.images], records)


def _find(source: str) -> Path:
    """The folder itself, or what the hub has under that id."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source))
    except Exception as error:  # the hub raises whatever it likes
        reason = " ".join(str(error).split())[:160]
        raise PmgError(f"'{source}' is no folder here, and the hub says: {reason}") from error


def _read_thing(thing: Thing, number: str) -> tuple[Item, Image.Image | None]:
    """Returns the item of what a caller gave, and its picture where there is one."""
    if isinstance(thing, Item):
        return thing, None
    fields = {"title": thing} if isinstance(thing, str) else dict(thing)
    picture = fields.pop("image", None)
    try:
        return Item(**{"id": number, "concept": fields.get("title", number), **fields}), picture
    except TypeError as error:
        known = ", ".join(Item.__dataclass_fields__)
        raise PmgError(f"{fields} is no item ({error}); an item has {known}, and may have an image") from None


def _pixels(things: Sequence[tuple[Item, Image.Image | None]]) -> Pixels | None:
    """Returns what gives the pictures of items, or None where there are none."""
    pictures = {item.id: picture for item, picture in things if picture is not None}
    if not pictures:
        return None

    def look(wanted: Sequence[Item]) -> torch.Tensor:
        """Returns the pictures of the items, `(N, 3, H, W)`."""
        missing = [item.title for item in wanted if item.id not in pictures]
        if missing:
            raise PmgError(f"the captioner looks at images, and '{missing[0]}' has none")
        return torch.stack([from_picture(pictures[item.id]) for item in wanted])

    return look
