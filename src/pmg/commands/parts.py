"""What several commands build from their config, the same way each time."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmg.cache import Cache, atomic_write_json, open_cache
from pmg.config import config_hash, instantiate, instantiate_all, model_hash, nearest, to_plain
from pmg.domain import PmgError, require_positive
from pmg.run import Run, read_run

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pytorch_lightning import LightningDataModule, LightningModule, Trainer

    from pmg.data.emoji import EmojiData
    from pmg.domain import Example
    from pmg.language.preferences import Reader
    from pmg.models.text_encoder import TextEncoder

WEIGHTS = "diffusion_pytorch_model.safetensors"  # of a trained encoder
MODELS = "models.json"  # beside it
# what a trained encoder belongs to: PMG's, and the one of the history's images
SOFT_KEYS = ("scenario", "captioner", "decoding", "text_encoder", "encoder", "generator")
IMAGE_KEYS = ("text_encoder", "generator", "scorer")


def build_examples(cfg: DictConfig, data: EmojiData, split: str) -> list[Example]:
    """The examples of a split that this config uses.

    Raises:
        PmgError: a number is below 1, `unseen` names no taste, or leaves no training users.
    """
    require_positive(**{f"{key}.{split}": cfg[key][split] for key in ("split_sizes", "targets", "history_items")})
    examples = data.examples(split, cfg.split_sizes[split], cfg.targets[split])
    tastes = [taste.name for taste in data.tastes]
    unknown = [name for name in cfg.unseen if name not in tastes]
    if unknown:
        raise PmgError(f"unseen: no taste '{unknown[0]}'{nearest(unknown[0], tastes)}")
    hidden = () if split == "test" else cfg.unseen
    kept = [example for example in examples if example.labels["taste"] not in hidden]
    if not kept:
        raise PmgError(f"unseen leaves no users in the split '{split}'")
    latest = cfg.history_items[split]
    return [replace(example, history=example.history[-latest:]) for example in kept] if latest else kept


def build_captions(cfg: DictConfig, run: Run, data: EmojiData, examples: Sequence[Example]) -> dict[str, str]:
    """What the items of the examples' histories look like, by id, in the words of `cfg.captioner`."""
    from pmg.language.captioning import caption_items

    catalogue = data.catalogue
    items = [behavior.item for example in examples for behavior in example.history]
    with run.ledger.phase("describe histories"):
        return caption_items(instantiate(cfg.captioner), items, lambda some: catalogue.pixels(catalogue.rows(some)))


@contextmanager
def reading(cfg: DictConfig, run: Run, text_encoder: TextEncoder) -> Iterator[Reader]:
    """A reader with its language model, whose keywords `text_encoder` can read whole.

    What it computed is in the run's ledger afterwards.
    """
    from pmg.language.budget import Budget
    from pmg.language.preferences import Reader
    from pmg.models.device import place

    with run.ledger.phase("load language model"):
        language_model = place(instantiate(cfg.encoder.language_model), cfg.device)
    cache = open_cache(cfg.paths.contexts_dir)
    identity = Cache.key(model=_identity(cfg))
    budget = Budget(text_encoder.count_tokens, text_encoder.max_length)
    yield Reader(
        language_model, instantiate(cfg.scenario), cache, identity, instantiate(cfg.decoding), budget,
        cfg.keep_contexts,
    )  # fmt: skip
    run.ledger.count("llm_tokens_computed", language_model.tokens_computed)
    run.ledger.count("llm_tokens_reused", language_model.tokens_reused)


def _identity(cfg: DictConfig) -> dict[str, Any]:
    """The language model's config without the folder that it is unpacked into."""
    return {name: value for name, value in to_plain(cfg.encoder.language_model).items() if name != "cache_dir"}


def latents_place(cfg: DictConfig) -> str | None:
    """Where the latents of this data's drawings are kept beside others, where they are."""
    home = cfg.paths.latents_dir
    return None if home is None else f"{home}/{config_hash(cfg, 'data', 'generator')}"


def build_trainer(cfg: DictConfig, run: Run) -> Trainer:
    """The Lightning trainer with its callbacks and the run's trackers."""
    from pmg.training.callbacks import Signature, StopTogether

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # its tips and its list of absent devices
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")  # Lightning's own use of torch
    warnings.filterwarnings("ignore", message=".*overridden `transfer_batch_to_device`.*")  # on purpose
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # a run that goes on

    callbacks = [*instantiate_all(cfg.callbacks), Signature(config_hash(cfg))]
    trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=run.tracking.trackers or False)
    if trainer.world_size > 1:
        trainer.callbacks.insert(0, StopTogether())
    return trainer


def fit(cfg: DictConfig, run: Run, module: LightningModule, batches: LightningDataModule) -> Trainer:
    """Trains, on from the run folder's last checkpoint where there is one.

    Raises:
        PmgError: the checkpoint is damaged or belongs to another config.
    """
    from pmg.training.callbacks import resume_point

    trainer = build_trainer(cfg, run)
    run.ledger.count("trainable_parameters", sum(p.numel() for p in module.parameters() if p.requires_grad))
    checkpoint = resume_point(run.folder / "checkpoints" / "last.ckpt", config_hash(cfg))
    with run.ledger.phase("train"):
        trainer.fit(module, batches, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    run.metrics.update({name: float(value) for name, value in trainer.callback_metrics.items()})
    return trainer


def sign_encoder(cfg: DictConfig, folder: Path) -> None:
    """Notes beside a trained encoder which models it belongs to."""
    models = {key: model_hash(cfg, key) for key in sorted({*SOFT_KEYS, *IMAGE_KEYS})}
    atomic_write_json(folder / MODELS, {**models, WEIGHTS: sha256((folder / WEIGHTS).read_bytes()).hexdigest()})


def read_signature(folder: Path) -> dict[str, str]:
    """What `sign_encoder` noted, once the weights are found to be those that it saw.

    Raises:
        PmgError: a file is missing or damaged.
    """
    try:
        signed = json.loads((folder / MODELS).read_text())
        intact = signed.get(WEIGHTS) in (None, sha256((folder / WEIGHTS).read_bytes()).hexdigest())
    except (OSError, ValueError):
        intact = False
    if not intact:
        raise PmgError(f"{folder} is damaged or not complete: run the same pmg-train command in another run_dir")
    return signed


def check_trained_for(cfg: DictConfig, where: str, keys: Sequence[str]) -> str:
    """Checks that the run that the config names trained an encoder for these very models.

    Args:
        cfg: of the command.
        where: the config key that names the run, e.g. ``train_run``.
        keys: parts of the config that must be the same.

    Returns:
        The hash that they share.

    Raises:
        PmgError: there is no such run, it did not finish, or its models differ.
    """
    folder = cfg[where]
    if not folder:
        raise PmgError(f"{where} is not set: name the folder of a pmg-train run, e.g. {where}=outputs/demo/train")
    _, metrics = read_run(folder, "train")
    if metrics["status"] != "completed":
        raise PmgError(f"{folder} is {metrics['status']}: run the same pmg-train command again to finish it")
    signed = read_signature(Path(folder, "encoder"))
    differ = [key for key in keys if signed.get(key) != model_hash(cfg, key)]
    if differ:
        raise PmgError(f"{folder} was trained with another config of {', '.join(differ)}; train again")
    return Cache.key(**{key: signed[key] for key in keys})
