"""Builders that several commands share: examples, captions, extractor, trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from pmg.cache import Cache, open_cache
from pmg.configuration.instantiate import instantiate, instantiate_all, to_plain
from pmg.configuration.portable import hash_groups
from pmg.domain import PmgError, require_positive
from pmg.orchestration.library_messages import quiet_lightning
from pmg.orchestration.run import Run
from pmg.runs.finished_training import ENCODER, TrainingRun
from pmg.runs.run_folder import identify

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from omegaconf import DictConfig
    from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer

    from pmg.data.dataset import Dataset
    from pmg.domain import Example
    from pmg.models.diffusion.interfaces import PromptEncoder
    from pmg.preferences.captioning import Pixels
    from pmg.preferences.extraction import PreferenceExtractor

log = logging.getLogger(__name__)

Encoder = TypeVar("Encoder", bound="ModelMixin")


def build_examples(cfg: Mapping[str, Any] | DictConfig, data: Dataset, split: str) -> list[Example]:
    """Returns the examples of a split that this config uses.

    Raises:
        PmgError: a number is below 1, or the split has fewer users.
    """
    require_positive(**{f"{key}.{split}": cfg[key][split] for key in ("split_sizes", "targets", "history_items")})
    examples = data.examples(split, cfg["split_sizes"][split], cfg["targets"][split])
    latest = cfg["history_items"][split]
    return [replace(example, history=example.history[-latest:]) for example in examples] if latest else examples


def build_captions(cfg: DictConfig, run: Run, data: Dataset, examples: Sequence[Example]) -> dict[str, str]:
    """Returns captions of the items in the examples' histories, by id, from `cfg.captioner`."""
    from pmg.preferences.captioning import caption_items

    items = [interaction.item for example in examples for interaction in example.history]
    with run.ledger.phase("describe histories"):
        return caption_items(instantiate(cfg.captioner), items, item_pixels(data))


def item_pixels(data: Dataset) -> Pixels:
    """Returns a function from items to their images."""
    return lambda items: data.images.pixels(data.images.rows(items))


@contextmanager
def open_extractor(cfg: DictConfig, run: Run, text_encoder: PromptEncoder) -> Iterator[PreferenceExtractor]:
    """Builds an extractor with its language model; its keywords fit into what `text_encoder` reads.

    Afterwards the run's ledger has the number of tokens that the language model computed.
    """
    from pmg.models.compilation import check_layers
    from pmg.models.language_model_source import resolve_language_model
    from pmg.models.loading.device import to_device
    from pmg.preferences.extraction import PreferenceExtractor
    from pmg.preferences.keywords import Budget

    with run.ledger.phase("load language model"):
        built = instantiate(cfg.language_model)
        language_model = to_device(resolve_language_model(built, text_encoder), cfg.device)
    if run.command == "train" and cfg.compile:
        check_layers(language_model)  # before histories and images are read
    cache = open_cache(cfg.paths.contexts_dir)
    owner = {} if language_model is built else {"generator": to_plain(cfg.generator)}  # whose weights it shares
    identity = Cache.key(model=_identity(cfg), **owner)
    budget = Budget(text_encoder.count_tokens, text_encoder.max_length)
    scenario = instantiate(cfg.scenario)
    yield PreferenceExtractor(
        language_model, scenario, cache, identity, budget, cfg.keep_contexts, text_encoder=text_encoder
    )
    run.ledger.count("llm_tokens_computed", language_model.tokens_computed)
    run.ledger.count("llm_tokens_reused", language_model.tokens_reused)


def _identity(cfg: DictConfig) -> dict[str, Any]:
    """Returns the language model's config without the folder that it is unpacked into."""
    return {name: value for name, value in to_plain(cfg.language_model).items() if name != "cache_dir"}


def latents_place(cfg: DictConfig, data: Dataset) -> str | None:
    """Returns where the latents of this data set's images are kept, by generator and content; None: in memory."""
    home = cfg.paths.latents_dir
    if home is None:
        return None
    return f"{home}/{Cache.key(config=hash_groups(cfg, 'data', 'generator'), data=data.identity)}"


def build_trainer(cfg: DictConfig, run: Run, *more: Callback) -> Trainer:
    """Returns the Lightning trainer with its callbacks, `more` of them, and the run's trackers."""
    from pmg.training.callbacks import Signature, StopBetweenSteps, ValidationLog

    quiet_lightning()
    callbacks = [*instantiate_all(cfg.callbacks), Signature(identify(cfg, run.command))]
    trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=run.tracking.trackers or False)
    trainer.callbacks[:0] = [StopBetweenSteps(), ValidationLog(), *more]
    return trainer


def fit(
    cfg: DictConfig, run: Run, module: LightningModule, batches: LightningDataModule, *callbacks: Callback
) -> Trainer:  # fmt: skip
    """Trains a module, resumed from the run folder's last checkpoint if there is one.

    Args:
        cfg: of the command.
        run: its folder.
        module: is trained.
        batches: for training and validation.
        *callbacks: beside those of the config.

    Raises:
        PmgError: the checkpoint is damaged or belongs to another config.
    """
    from pmg.training.callbacks import resume_point

    trainer = build_trainer(cfg, run, *callbacks)
    run.ledger.count("trainable_parameters", sum(p.numel() for p in module.parameters() if p.requires_grad))
    checkpoint = resume_point(run.folder / "checkpoints" / "last.ckpt", run.command, identify(cfg, run.command))
    if checkpoint:
        log.info("resuming from %s", checkpoint)
    with run.ledger.phase("train"):
        trainer.fit(module, batches, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    run.metrics.update({name: float(value) for name, value in trainer.callback_metrics.items()})
    return trainer


def start_from(build: Callable[..., Encoder], folder: str) -> Callable[..., Encoder]:
    """Returns a builder of encoders whose initial weights another run trained.

    Args:
        build: of an encoder with new weights.
        folder: of the other ``pmg-train`` run.

    Raises:
        PmgError: the run did not finish, is damaged, or trained an encoder of another kind or size.
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
