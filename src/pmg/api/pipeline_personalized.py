"""Inference API: generates images for a user's history and a target, with the conventions of diffusers' pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from pmg.api.call_arguments import (
    CallReader,
    Conversation,
    History,
    ItemLike,
    UserInput,
    check_alpha,
    check_count,
    draw_seeds,
    read_scales,
)
from pmg.api.export import copy_pipeline
from pmg.api.loading import load_parts
from pmg.api.output import Images, PersonalizedPipelineOutput, describe_image, find_converter
from pmg.api.user_preference import UserPreference, UserReader, build_request, read_starts, read_together
from pmg.configuration.instantiate import nearest
from pmg.domain import Item, PmgError
from pmg.generation.alpha import AlphaRule
from pmg.generation.capability_checks import check_steps
from pmg.generation.guidance import Scales
from pmg.generation.pipeline import Pipeline
from pmg.generation.requests import Method, Request
from pmg.generation.user_reading import choose_sources
from pmg.models.loading.device import to_device
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.models.vision.pictures import to_picture
from pmg.preferences.captioning import Captioner
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.scenarios import Scenario
from pmg.preferences.sources import PreferenceSource
from pmg.runs.run_folder import EXPORTED_ENCODER
from pmg.training.encoder_inputs import EncoderInputs
from pmg.training.token_sources import LoadedKeywords, LoadedSource, scores_options


class PersonalizedPipeline:
    """Extracts a user's preference from a history, and generates images of targets under it.

    Methods and arguments are named as in diffusers' `DiffusionPipeline`. It is no subclass: a shared folder selects
    from a closed set of classes, see `pmg.api.components`, and `DiffusionPipeline` would import any class.

    Args:
        extractor: of preferences, with its language model.
        captioner: describes items in words.
        encoder: computes soft tokens of a user.
        pipeline: generates, scores and selects candidates.
        alpha_rule: share of the preference score where a call has no `alpha`.
        inputs: prepares what the encoder reads of a user.
        methods: what images can be conditioned on, by the names that calls give.
        sources: the preference sources that methods use, by name.
        source: the folder with these parts, which `save_pretrained` copies; None: there is none.
    """

    def __init__(
        self, extractor: PreferenceExtractor, captioner: Captioner, encoder: TokenEncoder, pipeline: Pipeline,
        alpha_rule: AlphaRule, *, inputs: EncoderInputs, methods: Mapping[str, Method],
        sources: Mapping[str, PreferenceSource], source: Path | None = None,
    ) -> None:  # fmt: skip
        self.extractor, self.captioner, self.encoder, self.inputs = extractor, captioner, encoder, inputs
        self.pipeline, self.alpha_rule, self.methods, self.source = pipeline, alpha_rule, methods, source
        self.sources = {
            name: replace(one, encoder=encoder, inputs=inputs) if isinstance(one, LoadedSource) else one
            for name, one in choose_sources(methods, sources, lambda one: one).items()
        }
        self.arguments = CallReader(captioner.facts)
        self._progress_bar_config: dict[str, Any] = {}

    @classmethod
    def from_pretrained(
        cls, source: str | Path, device: str = "auto", cache_dir: str | None = None, trust: Sequence[str] = (), *,
        scenario: Scenario | None = None,
    ) -> PersonalizedPipeline:  # fmt: skip
        """Loads what ``pmg-export`` or `save_pretrained` wrote.

        A folder from anybody is safe to load: it selects from pmg's own classes, and no code of it runs, unless
        `trust` names the plug-in of a component. On a processor that only emulates bfloat16, all is computed in
        float32. PmgError if there is no such pipeline, a part of it is missing, or of a plug-in that `trust` does not
        name.

        Args:
            source: its folder, or its id on the hub.
            device: of the models; ``auto``: a GPU where there is one.
            cache_dir: of unpacked weights; by default ``PMG_CACHE``, else ``outputs/cache``.
            trust: modules whose classes the folder may name, e.g. ``["my_module"]``; their code runs.
            scenario: for items of another catalogue, whose facts captions are then formatted with; None: the folder's.
        """
        return cls(**load_parts(source, device, cache_dir, trust, scenario))

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Writes a folder that `from_pretrained` loads, which is created if it doesn't exist.

        The encoder is written with its current weights, everything else as it was loaded: weights in the folder
        are copied, others are named. PmgError if the pipeline wasn't loaded from a folder, or with a scenario of the
        caller's, or `save_directory` is that folder.
        """
        if self.source is None:
            raise PmgError(
                "only a pipeline of from_pretrained can be saved, and none with a scenario of the caller's. Export a "
                "training run with pmg-export."
            )
        copy_pipeline(self.source, Path(save_directory), self.encoder)

    @property
    def components(self) -> dict[str, Any]:
        """The components by their names in ``model_index.json``."""
        return {
            "language_model": self.extractor.language_model,
            "scenario": self.extractor.scenario,
            "captioner": self.captioner,
            "inputs": self.inputs,
            EXPORTED_ENCODER: self.encoder,
            "text_encoder": self.pipeline.texts,
            "generator": self.pipeline.generator,
            "scorer": self.pipeline.scorer,
            "alpha_rule": self.alpha_rule,
            **self.sources,
        }

    @property
    def method(self) -> str:
        """Name of the method of calls that name none: the first one that fits the scenario.

        Keywords of an encoder that scores options fit a scenario that has the same ones.
        """
        fits = scores_options(self.encoder, self.extractor.scenario)
        unfit = {name for name, one in self.sources.items() if isinstance(one, LoadedKeywords) and not fits}
        return next(
            (name for name, one in self.methods.items() if not unfit & {*one.sources}), next(iter(self.methods))
        )

    def __repr__(self) -> str:
        names = "".join(f"\n  {name}: {type(part).__name__}" for name, part in self.components.items())
        return f"{type(self).__name__} on {self.device}{names}"

    @property
    def device(self) -> torch.device:
        """Device of the generator."""
        return self.pipeline.generator.device

    def to(self, device: str | torch.device) -> PersonalizedPipeline:
        """Moves the models in place; quantised models and those of captioner and inputs keep their device.

        `device` is e.g. ``"cuda"``; ``"auto"``: a GPU if one is available. Types of weights are set by the export.
        Returns the pipeline; PmgError if `device` is no device, or isn't available.
        """
        match device:
            case str() | torch.device():
                for name in ("language_model", EXPORTED_ENCODER, "text_encoder", "generator", "scorer"):
                    to_device(self.components[name], str(device))
                return self
        raise PmgError(f"device must be a device, e.g. 'cuda': {device!r:.80}. The export sets types of weights.")

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Sets options of tqdm for the bar over users, e.g. ``disable=True``; as in diffusers."""
        self._progress_bar_config = kwargs

    def progress_bar(self, total: int) -> tqdm[Any]:
        """Returns a progress bar over users with the options of `set_progress_bar_config`."""
        return tqdm(total=total, **{"desc": "Reading histories", **self._progress_bar_config})

    def __call__(
        self, history: History | Sequence[History], target: ItemLike | Sequence[ItemLike] | None = None,
        dislikes: History | Sequence[History] = (), conversation: Conversation | Sequence[Conversation] = (), *,
        method: str | None = None, alpha: float | None = None, num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | Mapping[str, float] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None, output_type: str = "pil",
        return_dict: bool = True, image: Image.Image | Sequence[Image.Image] | None = None, strength: float = 0.7,
    ) -> PersonalizedPipelineOutput | tuple[Any, ...]:  # fmt: skip
        """Generates images of `target` for the user of `history`, or of each target for its user in a batch.

        An item is a mapping with ``title`` and optionally ``keywords``, ``facts`` and ``image`` (a PIL picture, for
        captioners that require images), a title alone, or an `Item`. Items of a history need the facts
        `captioner.facts`; a target needs its title alone. Returns the images, those of a target together, with a
        record of each; PmgError if there is nothing to read, an item lacks a fact, or an argument is out of range.

        Args:
            history: liked items, oldest first; or a list of B histories. Each user's is read separately.
            target: what the images show; for B histories one target, or B of them; for one history, any number. None:
                the language model proposes an image that answers the conversation.
            dislikes: disliked items; or a list of B such lists.
            conversation: messages, oldest first, each a mapping with ``role`` (``user`` is the user) and
                ``content``, or (speaker, text); for scenarios with a ``chat_template``; or B lists.
            method: what the images are conditioned on: a name of `methods`; None: `self.method`.
            alpha: share of the preference score in the selection of candidates, in [0, 1]; None: the pipeline's rule.
            num_images_per_prompt: images of each target, each from noise of its own.
            num_inference_steps: solver steps; None: the pipeline's.
            guidance_scale: scale of target, keywords and soft tokens alike, or a mapping of the scales that change,
                see `Scales`; None: the pipeline's. 1: no guidance.
            generator: random number generator of the noise's seeds, or a list of one for each image; None: torch's.
            output_type: ``pil``, ``pt`` or ``np``, see `find_converter`.
            return_dict: False: a tuple of images and records.
            image: picture of the target that sampling starts from, or one for each target; None: noise alone.
            strength: share of the solver's time that is left from there, in [0.05, 1]; less keeps more of `image`.
        """
        check_alpha(alpha)
        check_count("num_images_per_prompt", num_images_per_prompt)
        convert = find_converter(output_type)
        users, batched = self.arguments.users(history, dislikes, conversation)
        targets, _ = self.arguments.targets(target, len(users) if batched else None)
        starts = read_starts(image, strength, len(targets), self.pipeline.generator)
        seeds = draw_seeds(generator, len(targets) * num_images_per_prompt)
        steps, scales = self._settings(num_inference_steps, guidance_scale)
        preferences = self._read(users, method)
        rows = range(len(targets)) if len(users) > 1 else [0] * len(targets)
        requests = [
            replace(self._request(preferences[row], item, alpha), start=start, strength=strength)
            for row, item, start in zip(rows, targets, starts, strict=True)
        ]
        repeated = [request for request in requests for _ in range(num_images_per_prompt)]
        seeded = [replace(request, seed=seed) for request, seed in zip(repeated, seeds, strict=True)]
        output = self._draw(seeded, steps, scales, convert)
        return output if return_dict else output.to_tuple()

    def read(
        self, history: History, target: ItemLike | None = None, dislikes: History = (),
        conversation: Conversation = (), alpha: float | None = None, method: str | None = None,
    ) -> Request:  # fmt: skip
        """Returns the request of one user and target that `draw` takes, with the seed 0; see `__call__`."""
        check_alpha(alpha)
        user, item = self.arguments.user(history, target, dislikes, conversation)
        (preference,) = self._read([user], method)
        return self._request(preference, item, alpha)

    def extract_preference(
        self, history: History, dislikes: History = (), conversation: Conversation = (), method: str | None = None
    ) -> UserPreference:
        """Returns the preference of one user; arguments as in `__call__`."""
        user, _ = self.arguments.user(history, None, dislikes, conversation)
        (preference,) = self._read([user], method)
        return preference

    def draw_candidates(
        self, preference: UserPreference | None, target: ItemLike, seed: int,
        num_inference_steps: int | None = None, weights: Sequence[tuple[float, float]] | None = None,
        *, image: Image.Image | None = None, strength: float = 0.7,
    ) -> tuple[list[Image.Image], dict[str, Any]]:  # fmt: skip
        """Returns the images of all candidates, and their record, from which any alpha selects without another draw.

        Without a `preference` of `extract_preference` there is one candidate per target weight. `seed` is that of the
        noise, `weights` are pairs (w_p, w_t); None: the pipeline's. Other arguments as in `__call__`.
        """
        (item,), _ = self.arguments.targets(target)
        steps, scales = self._settings(num_inference_steps, None)
        pairs = list(weights or self.pipeline.pairs)
        if preference is None:
            pairs = [(1.0, w_t) for w_t in dict.fromkeys(w_t for _, w_t in pairs)]
        request = self._request(preference, item, None)
        (start,) = read_starts(image, strength, 1, self.pipeline.generator)
        request = replace(request, seed=seed, start=start, strength=strength)
        pipeline = self.pipeline.with_pairs(pairs)
        with torch.no_grad():
            images = pipeline.generator.decode(pipeline.denoise([request], steps, scales))
            generated = pipeline.select([request], images)
        record = describe_image(request, generated.picked[0], generated.candidates[0], scales)
        return [to_picture(image) for image in images], record

    def _read(self, users: Sequence[UserInput], method: str | None) -> list[UserPreference]:
        """Returns users' preferences for a method, under a progress bar; PmgError if there is no such method."""
        name = self.method if method is None else method
        if name not in self.methods:
            hint = nearest(str(name), self.methods) or "."
            raise PmgError(
                f"method is {name!r:.80}, which this pipeline doesn't have{hint} Methods: {', '.join(self.methods)}."
            )
        sources = {one: self.sources[one] for one in self.methods[name].sources}
        reader = UserReader(self.extractor, self.captioner, self.pipeline.generator, self.methods[name], sources)
        found: list[UserPreference] = []
        with self.progress_bar(total=len(users)) as bar:
            for group in read_together(users):
                found += reader(group)
                bar.update(len(group))
        return found

    def _request(self, preference: UserPreference | None, target: Item, alpha: float | None) -> Request:
        return build_request(preference, target, self.extractor, self.alpha_rule, alpha)

    def _settings(
        self, steps: int | None, guidance_scale: float | Mapping[str, float] | None
    ) -> tuple[int | None, Scales]:  # fmt: skip
        """Returns checked solver steps, None for the pipeline's, and guidance scales of a call."""
        if steps is not None:
            check_count("num_inference_steps", steps)
            check_steps("num_inference_steps", steps, self.pipeline.generator.supports)
        return steps, read_scales(self.pipeline.scales, guidance_scale)

    def draw(
        self, requests: Sequence[Request], num_inference_steps: int | None = None,
        guidance_scale: float | Mapping[str, float] | None = None,
    ) -> PersonalizedPipelineOutput:  # fmt: skip
        """Generates the images of requests that `read` returned, in one batch; other arguments as in `__call__`."""
        if not requests:
            raise PmgError("requests is an empty list. Give at least one request of `read`.")
        for request in requests:
            check_alpha(request.alpha)
        return self._draw(requests, *self._settings(num_inference_steps, guidance_scale), find_converter("pil"))

    def _draw(
        self, requests: Sequence[Request], steps: int | None, scales: Scales, convert: Callable[[Tensor], Images]
    ) -> PersonalizedPipelineOutput:
        generated = self.pipeline(requests, steps, scales)
        records = [
            describe_image(request, picked, candidates, scales)
            for request, picked, candidates in zip(requests, generated.picked, generated.candidates, strict=True)
        ]
        return PersonalizedPipelineOutput(convert(generated.images), records)
