"""A pool of finished drawings for the denoiser: looks with several drawings each, encoded once.

Finishing, captioning and encoding a picture cost as much as a training step on it; a pool of some ten thousand
pictures is used for many steps and made anew, with other finishes, for the next training.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pmg.cache import Cache, hash_tensor
from pmg.configuration.ranges import Count, Fraction
from pmg.data.picture_groups import PictureGroups
from pmg.domain import PmgError
from pmg.looks.models.codec import AutoencoderDCCodec
from pmg.models.loading.device import processor_autocast
from pmg.preferences.captioning import PictureDescriber
from pmg.progress import track
from pmg.seeding import stable_number

FILE = "pool.safetensors"
ROUNDING = 0.05  # mean difference of latents of unit variance
PART = 64  # looks that are written at once: an interrupted pool loses these
ITEMS = 4  # drawings of a look: each is the target once, with the others as references
Describe = Callable[[Tensor], list[dict[str, str]]]  # pictures (B, 3, H, W) in [-1, 1] to words by name
Encode = Callable[[Tensor], Tensor]  # pictures to normalised latents (B, C, h, w)


@dataclass
class LookPool:
    """`N` looks of `ITEMS` drawings."""

    latents: Tensor  # normalised, float16 `(N, ITEMS, C, h, w)`
    rows: Tensor  # of the drawings in the catalogue, int64 `(N, ITEMS)`
    words: list[list[dict[str, str]]]  # of each look and drawing what the captioner said, by name
    remarks: list[str]  # of each look words that captions of its pictures end with, e.g. ``mirrored``; often empty

    def save(self, folder: Path) -> LookPool:
        """Writes the pool and returns it; a reader never sees half of it."""
        folder.mkdir(parents=True, exist_ok=True)
        said = {"words": self.words, "remarks": self.remarks, "digest": self._digest()}
        (folder / "words.json").write_text(json.dumps(said))
        save_file({"latents": self.latents, "rows": self.rows}, folder / ".pool.part")
        (folder / ".pool.part").replace(folder / FILE)
        return self

    @classmethod
    def join(cls, pools: list[LookPool]) -> LookPool:
        """Returns the looks of several pools, one after another."""
        latents, rows = torch.cat([pool.latents for pool in pools]), torch.cat([pool.rows for pool in pools])
        words = [said for pool in pools for said in pool.words]
        return cls(latents, rows, words, [remark for pool in pools for remark in pool.remarks])

    @classmethod
    def load(cls, folder: Path) -> LookPool:
        """Reads a pool; PmgError if there is none, or it was changed."""
        if not (folder / FILE).is_file():
            raise PmgError(f"{folder} holds no pool of looks; it is made by pmg-pretrain stage=look_unet")
        tensors, said = load_file(folder / FILE), json.loads((folder / "words.json").read_text())
        pool = cls(tensors["latents"], tensors["rows"], said["words"], said["remarks"])
        if said.get("digest") != pool._digest():
            raise PmgError(f"{folder} was changed after it was written: remove it, or name another stage.pool.folder")
        return pool

    def _digest(self) -> str:
        tensors = {"latents": hash_tensor(self.latents), "rows": hash_tensor(self.rows)}
        return Cache.key(words=self.words, remarks=self.remarks, **tensors)


def build_pool(
    data: PictureGroups, split: str, looks: range, *, seed: int, describe: Describe, encode: Encode,
    mirrored: float = 0.0, remark: str = "mirrored", at_once: int = 16,
) -> LookPool:  # fmt: skip
    """Returns a pool of the `looks` of these numbers: groups of pictures, varied as the data set varies them.

    Looks of the split ``validation`` begin with a held-out picture. A share of the looks is `mirrored`; captions of
    these end with `remark`.
    """
    latents, rows, words, remarks = [], [], [], []
    for start in range(0, len(looks), at_once):
        numbers = looks[start : start + at_once]
        groups = [data.draw_group(split, ITEMS, look_rng(seed, split, number)) for number in numbers]
        flips = [is_mirrored(seed, split, number, mirrored) for number in numbers]
        pictures = torch.cat([seen.flip(-1) if flip else seen for (_, seen), flip in zip(groups, flips, strict=True)])
        latents.append(encode(pictures).half().unflatten(0, (-1, ITEMS)))
        rows.append(torch.tensor([chosen for chosen, _ in groups]))
        said = describe(pictures)
        words += [said[place : place + ITEMS] for place in range(0, len(said), ITEMS)]
        remarks += [remark if flip else "" for flip in flips]
    return LookPool(torch.cat(latents), torch.cat(rows), words, remarks)


def look_rng(seed: int, split: str, number: int) -> random.Random:
    """Returns the source of randomness of one look."""
    return random.Random(stable_number(seed, "look", split, number))


def is_mirrored(seed: int, split: str, number: int, share: float) -> bool:
    """Returns whether the pictures of a look are mirrored."""
    return look_rng(seed, f"{split} mirrored", number).random() < share


def say(words: dict[str, str], rng: random.Random, keep: float) -> str:
    """Returns some of a captioner's words in random order, joined by commas."""
    chosen = [word for word in words.values() if rng.random() < keep]
    return ", ".join(rng.sample(chosen, len(chosen)))


class Pool:
    """Makes the pools of looks, or reads those that an interrupted training made.

    A share `mirrored` of the looks for training has mirrored pictures, for more variety, whose captions end with
    `remark`; `held_out_looks` are for validation.
    """

    def __init__(
        self, folder: str, looks: Count, held_out_looks: Count, mirrored: Fraction = 0.0, remark: str = "mirrored"
    ) -> None:
        self.folder = Path(folder)
        self.looks = {"train": looks, "validation": held_out_looks}
        self.mirrored, self.remark = {"train": mirrored, "validation": 0.0}, remark

    def get(
        self, data: PictureGroups, split: str, seed: int, captioner: PictureDescriber, generator_folder: Path
    ) -> LookPool:
        """Returns the pool of a split; parts that an interrupted process made are read.

        PmgError if it is of other looks: the first one is made again and compared.
        """
        folder, count = self.folder / split, self.looks[split]
        codec = AutoencoderDCCodec.from_folder(generator_folder / "vae")

        def build(looks: range) -> LookPool:
            """Returns looks of the pool."""
            return build_pool(
                data, split, looks, seed=seed, describe=captioner.describe, encode=processor_autocast()(codec.encode),
                mirrored=self.mirrored[split], remark=self.remark,
            )  # fmt: skip

        def read(folder: Path, looks: range) -> LookPool:
            """Returns a saved pool of these looks."""
            pool = LookPool.load(folder)
            remarks = [
                self.remark if is_mirrored(seed, split, number, self.mirrored[split]) else "" for number in looks
            ]
            first = build(looks[:1])  # whose latents may differ by the rounding of other batches
            same = pool.remarks == remarks and torch.equal(pool.rows[:1], first.rows) and pool.words[:1] == first.words
            if not same or (pool.latents[:1] - first.latents).float().abs().mean().item() >= ROUNDING:
                raise PmgError(
                    f"{folder} holds other looks: of another seed, data set, captioner or autoencoder, another "
                    "number, or mirrored ones. Remove it, or name another stage.pool.folder"
                )
            return pool

        if not (folder / FILE).is_file():
            parts = []
            for start in track(range(0, count, PART), "Making looks"):
                part, looks = folder / "parts" / str(start), range(start, min(start + PART, count))
                parts.append(read(part, looks) if (part / FILE).is_file() else build(looks).save(part))
            LookPool.join(parts).save(folder)
        shutil.rmtree(folder / "parts", ignore_errors=True)
        return read(folder, range(count))
