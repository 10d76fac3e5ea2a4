"""Builds the parts of a command from its config, each once: data, captions, language model, generator, trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pmg.cache import Cache, open_cache
from pmg.configuration.instantiate import instantiate, instantiate_all, to_plain
from pmg.configuration.masked_folders import mask_folders, named_folders
from pmg.configuration.trees import texts
from pmg.domain import Example, Item, PmgError
from pmg.orchestration.hardware import quiet_lightning
from pmg.orchestration.run import Run
from pmg.runs.content import select_content
from pmg.runs.finished_training import TrainingRun
from pmg.runs.run_folder import ENCODER, identify

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from omegaconf import DictConfig
    from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer

    from pmg.data.dataset import Dataset
    from pmg.models.diffusion.interfaces import Generator, PromptEncoder
    from pmg.preferences.captioning import Pixels
    from pmg.preferences.extraction import ExtractedPreferences, PreferenceExtractor
    from pmg.preferences.scenarios import Scenario
    from pmg.preferences.sources import SourceContext
    from pmg.training.objective import ObjectiveTerm

log = logging.getLogger(__name__)

Encoder = TypeVar("Encoder", bound="ModelMixin")


class Builder:
    """Builds the parts of a command when they are first used, each from its own node of the config.

    The ledger of `run` gets seconds and counts.
    """

    def __init__(self, cfg: DictConfig, run: Run) -> None:
        self._nodes, self.run = cfg, run
        self.seed = int(cfg.get("seed") or 0)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The values that decide the result, see `identify`."""
        return identify(self._nodes, self.run.command)

    @property
    def content(self) -> dict[str, Any]:
        """Digests of the data and weights that the config names, by key."""
        return select_content(self.identity)

    @cached_property
    def masked(self) -> dict[str, Any]:
        """The config without this machine's folders."""
        return mask_folders(self._nodes)

    @cached_property
    def data(self) -> Dataset:
        """The data set."""
        return instantiate(self._nodes.data)

    @cached_property
    def generator(self) -> Generator:
        """The frozen generator, on the device."""
        from pmg.models.loading.device import to_device

        return to_device(instantiate(self._nodes.generator), self._nodes.device)

    def examples(self, split: str) -> Sequence[Example]:
        """Returns the examples of a split, see `select_examples`."""
        return select_examples(self.data, split, self._nodes)

    def pixels(self) -> Pixels:
        """Returns a function from items to their images."""
        data = self.data  # may have no pictures, which the returned function alone reads
        return lambda items: data.images.pixels(data.images.rows(items))

    def captions(self, examples: Sequence[Example], read: bool = True) -> dict[str, str]:
        """Returns captions of the items in the examples' histories, by id.

        Without `read`, and where the scenario's line has no ``{caption}``, they are empty and no captioner is built.
        """
        items = [interaction.item for example in examples for interaction in example.history]
        if read or "{caption}" in self._nodes.scenario.line:
            return self.caption(items)
        return {item.id: "" for item in items}

    def caption(self, items: Sequence[Item]) -> dict[str, str]:
        """Returns captions of items, by id."""
        from pmg.preferences.captioning import caption_items

        with self.run.ledger.phase("describe histories"):
            return caption_items(instantiate(self._nodes.captioner), items, self.pixels())

    def accepted(
        self, truths: Sequence[Item], terms: Sequence[ObjectiveTerm], width: int, scenario: Scenario
    ) -> dict[str, Any]:
        """Returns what an objective's terms need of accepted images, by argument of `build_batches`.

        These are images of `truths`; `width` is that of the generator's text tokens. Latents are kept in the config's
        folder for them, by generator and content, or in memory.
        """
        from pmg.training.latents import encode_item_images
        from pmg.training.preference_setup import describe_accepted, see_accepted

        found: dict[str, Any] = {"latents": None}
        if any(term.needs_generator for term in terms):
            home = self._nodes.paths.latents_dir
            folder = None if home is None else f"{home}/{self._hash('data', 'generator')}"
            found["latents"] = encode_item_images(self.generator, self.data.images, truths, folder)
        if any(term.needs_accepted for term in terms):
            image_encoder = instantiate(self._nodes.objective.image_encoder)
            found["accepted"] = see_accepted(image_encoder, self.data.images, truths, width)
        if any(term.needs_answers for term in terms):
            found["described"] = describe_accepted(self.caption(truths), truths, scenario.attributes)
        return found

    @contextmanager
    def extractor(
        self, text_encoder: PromptEncoder, generator: Generator | None = None
    ) -> Iterator[PreferenceExtractor]:  # fmt: skip
        """Builds an extractor with its language model; its keywords fit into what `text_encoder` reads.

        Targets get the titles that the `generator` was trained to draw, see `TargetNames`; None: they keep theirs.
        Afterwards the run's ledger has the number of tokens that the language model computed.
        """
        from pmg.models.compilation import check_layers
        from pmg.models.loading.device import to_device
        from pmg.preferences.extraction import PreferenceExtractor
        from pmg.preferences.keywords import Budget
        from pmg.preferences.target_names import TargetNames

        nodes, run = self._nodes, self.run
        with run.ledger.phase("load language model"):
            built = instantiate(nodes.language_model)
            language_model = to_device(built.of(text_encoder), nodes.device)
        if run.command == "train" and nodes.compile:
            check_layers(language_model)  # before histories and images are read
        model = {name: value for name, value in self.masked["language_model"].items() if name != "cache_dir"}
        owner = {} if language_model is built else {"generator": self.masked["generator"]}  # whose weights it shares
        yield PreferenceExtractor(
            language_model, instantiate(nodes.scenario), open_cache(nodes.paths.contexts_dir),
            Cache.key(model=model, content=select_content(self.identity, "language_model", *owner), **owner),
            Budget.of(text_encoder), nodes.keep_contexts, text_encoder=text_encoder,
            names=TargetNames.of(generator) if generator else None,
        )  # fmt: skip
        run.ledger.count("llm_tokens_computed", language_model.tokens_computed)
        run.ledger.count("llm_tokens_reused", language_model.tokens_reused)

    def source_context(
        self, examples: Sequence[Example], captions: Mapping[str, str], extractor: PreferenceExtractor,
        extracted: ExtractedPreferences,
    ) -> SourceContext:  # fmt: skip
        """Returns what preference sources get: one example a profile, captions of items by id, what was extracted."""
        from pmg.preferences.sources import SourceContext

        return SourceContext(
            examples=examples, images=self.data.images, captions=captions,
            extracted=extracted, extractor=extractor, generator=self.generator, seed=self.seed,
            cache=Cache(f"{self._nodes.paths.cache_dir}/preference"), folders=named_folders(self._nodes.paths),
            identity=self._hash("data", "generator", "text_encoder", "seed"),
        )  # fmt: skip

    def _hash(self, *keys: str) -> str:
        """Returns a sha256 of top-level keys of the config and of what they name, equal on every machine."""
        return Cache.key(config={key: self.masked[key] for key in keys}, content=select_content(self.identity, *keys))

    def fit(self, module: LightningModule, batches: LightningDataModule, *callbacks: Callback) -> Trainer:
        """Trains a module, resumed from the run folder's last checkpoint if there is one; returns the trainer.

        `callbacks` are further ones, beside the config's. PmgError if the checkpoint is damaged or of another config.
        """
        from pmg.training.callbacks import StopBetweenSteps, ValidationLog
        from pmg.training.checkpoints import LastCheckpoint, Signature, resume_point

        quiet_lightning()
        run = self.run
        signature = Signature(self.identity)
        configured = sorted(instantiate_all(self._nodes.callbacks), key=lambda one: isinstance(one, LastCheckpoint))
        trainer = instantiate(self._nodes.trainer, callbacks=[*configured, signature], logger=list(run.tracking))
        trainer.callbacks[:0] = [StopBetweenSteps(), ValidationLog(), *callbacks]
        run.ledger.count("trainable_parameters", sum(p.numel() for p in module.parameters() if p.requires_grad))
        if checkpoint := resume_point(run.folder / "checkpoints" / "last.ckpt", run.command, self.identity):
            log.info("resuming from %s", checkpoint)
        with run.ledger.phase("train"):
            trainer.fit(module, batches, ckpt_path=checkpoint, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        latest = {name: float(value) for name, value in trainer.callback_metrics.items()}
        run.metrics.update(signature.metrics | latest)
        return trainer


def select_examples(data: Dataset, split: str, numbers: Mapping[str, Any]) -> Sequence[Example]:
    """Returns the examples of a split that a command uses; PmgError if it has fewer users.

    `numbers` are ``split_sizes``, ``targets`` and ``history_items``, each by split; None: all.
    """
    examples = data.examples(split, numbers["split_sizes"][split], numbers["targets"][split])
    latest = numbers["history_items"][split]
    return [replace(example, history=example.history[-latest:]) for example in examples] if latest else examples


def warn_of_other_pictures(generator: Any, option: str | None, data: Dataset, examples: Sequence[Example]) -> None:
    """Logs a warning if the generator's model cards name data sets, and the configured one isn't among them.

    `option` is that of the group ``data``; None: unknown. A data set without pictures gets no warning.
    """
    from pmg.evaluation.model_card import read_trained_on

    folders = [Path(text) for key, text in texts(to_plain(generator)) if key.endswith("folder")]
    trained_on = set().union(*map(read_trained_on, folders))
    if not trained_on or not option or trained_on & {option, data.pictures_of}:
        return
    if any(data.images.has(one.item) for example in examples for one in example.history):
        names = " and ".join(sorted(trained_on))
        log.warning(
            "the generator was trained on pictures of %s, not of data=%s, and draws the former. Train one on yours: "
            "pmg-pretrain data=%s stage=look_autoencoder (docs/own_data.md)", names, option, option,
        )  # fmt: skip


def start_from(build: Callable[..., Encoder], folder: str) -> Callable[..., Encoder]:
    """Returns a builder of encoders whose initial weights the ``pmg-train`` run in a folder trained.

    PmgError if the run did not finish, is damaged, or trained an encoder of another kind or size.
    """
    from pmg.models.loading.weight_sources import load_frozen

    TrainingRun.open(folder)

    def started(**arguments: Any) -> Encoder:
        """Returns the encoder with the trained weights."""
        encoder = build(**arguments)
        trained = load_frozen(type(encoder), f"{folder}/{ENCODER}")
        try:
            encoder.load_state_dict(trained.state_dict())
        except RuntimeError as error:
            raise PmgError(
                f"init_from: the encoder of {folder} has other sizes or parts. Name a run of the same "
                "preference_encoder"
            ) from error
        return encoder

    return started
