"""Trains the token editor on looks of the same drawings that differ in some attributes.

A group is some drawings by one artist under several finishes: one at random, and others in which one or two parts of
it were drawn anew. Each look has the mean of its pictures' style tokens, and of each attribute the option that the
captioner says of most of them. Of two looks of a group the options that differ are what somebody asks for.

Shapes: `G` groups, `V` looks of a group, `A` attributes, `n` tokens, `D` their width, `W` of a text vector.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pmg.cache import Cache, hash_tensor
from pmg.configuration.ranges import Count, Fraction
from pmg.data.picture_groups import PictureGroups
from pmg.domain import PmgError
from pmg.looks.drawings import LookData
from pmg.looks.finishes import Finish
from pmg.looks.models.codec import AutoencoderDCCodec
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.looks.models.token_editor import TokenEditor
from pmg.looks.stages.pool import look_rng
from pmg.looks.stages.pretraining import VALIDATION_BATCH, Built, save_half
from pmg.looks.users import DrawingIndex
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.loading.weight_sources import load_frozen
from pmg.preferences.captioning import PictureDescriber
from pmg.progress import track
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows, seeded
from pmg.training.optim import OptimizedModule, OptimizerPartial, SchedulerPartial

PARTS = (
    ("ground",), ("outline", "outline_colour"), ("surface", "degree"), ("lightness", "contrast"), ("hue",),
    ("saturation",), ("hue", "saturation", "lightness", "contrast", "duotone", "dark", "light"),
)  # fmt: skip
"""Fields of a finish that are drawn anew together."""
PICTURES, LOOKS, PART = 6, 9, 32  # pictures of a look, looks of a group; groups that are written at once
AGREE = 4  # pictures of a look that an option has to describe
MOST_SPOKEN = 4  # attributes that an edit changes


@dataclass
class LookGroups:
    """Groups of looks that differ in some attributes."""

    tokens: Tensor  # style tokens, float16 `(G, V, n, D)`
    words: Tensor  # options, int64 `(G, V, A)`, places in `options`; -1: pictures disagree
    options: Sequence[str]  # all that was said


@dataclass
class EditBatches:
    """Draws pairs of looks of a group, and what the second one changes."""

    groups: LookGroups
    vectors: Tensor  # of the options, `(K, W)`
    unknown: float  # share of the rows of people who liked no picture
    mixed: float  # largest share of another look in what people liked

    def __call__(self, numbers: Tensor, rng: torch.Generator) -> Batch:
        """Returns the tokens of a look, options, which of them are spoken of, and the tokens of the edited look."""
        chance = random.Random(int(torch.randint(2**62, (), generator=rng)))
        rows = [(group, *self._pair(group, chance)) for group in numbers.tolist()]
        tokens, words = self.groups.tokens, self.groups.words
        start = torch.stack([tokens[group, one] for group, one, _, _ in rows]).float()
        end = torch.stack([tokens[group, other] for group, _, other, _ in rows]).float()
        shares = torch.rand(len(rows), 1, 1, generator=rng) * self.mixed
        shares = torch.where(torch.rand(len(rows), 1, 1, generator=rng) < 0.5, shares, 0.0)
        start = torch.lerp(start, start.roll(1, 0), shares)
        spoken = torch.stack([keep for *_, keep in rows])
        said = torch.stack([words[group, other] for group, _, other, _ in rows]).clamp(min=0)
        unknown = torch.rand(len(rows), generator=rng) < self.unknown
        for row in torch.nonzero(unknown).flatten().tolist():  # of them all is new that they speak of
            group, _, other, _ = rows[row]
            known = torch.nonzero(words[group, other] >= 0).flatten().tolist()
            spoken[row] = torch.zeros_like(spoken[row])
            spoken[row, chance.sample(known, chance.randint(1, len(known)))] = True
        return {
            "start": start, "end": end, "unknown": unknown, "options": self.vectors[said], "spoken": spoken,
        }  # fmt: skip

    def _pair(self, group: int, chance: random.Random) -> tuple[int, int, Tensor]:
        """Returns two looks of a group, and which attributes the second changes, bool `(A,)`, sometimes one more."""
        words = self.groups.words[group]
        for _ in range(20):
            one, other = chance.sample(range(len(words)), 2)
            changed = words[one] != words[other]
            if (words[[one, other]] >= 0).all() and 1 <= int(changed.sum()) <= MOST_SPOKEN:
                break
        else:
            one, changed = other, torch.zeros_like(changed)
        known = torch.nonzero(words[other] >= 0).flatten().tolist()
        if known and chance.random() < 0.3:
            changed = changed.clone()
            changed[chance.choice(known)] = True
        return one, other, changed


class LookEditorTraining(OptimizedModule):
    """The squared error of edited tokens, as a share of the variance of all looks' tokens."""

    trained = "editor"

    def __init__(
        self, editor: TokenEditor, variance: float, optimizer: OptimizerPartial, lr_scheduler: SchedulerPartial
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.editor, self.variance = editor, variance

    def errors(self, batch: Batch) -> Tensor:
        """Returns the unexplained share of each row, `(B,)`."""
        start = torch.where(batch["unknown"][:, None, None], self.editor.mean, batch["start"])
        edited = self.editor(start, batch["options"], batch["spoken"])
        return (edited - batch["end"]).square().flatten(1).sum(1) / self.variance

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One step on a batch of `EditBatches`."""
        loss = self.errors(batch).mean()
        self.log("train/unexplained", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Logs the unexplained share of edits of looks that training doesn't see."""
        errors = self.errors(batch)
        self.log("val/unexplained", errors.mean(), prog_bar=True, batch_size=len(errors))


@dataclass(frozen=True)
class EditPool:
    """Draws `groups` groups for training and an eighth of them for validation, of new artists and finishes, too."""

    folder: str  # where groups are kept that were drawn
    groups: Count
    captioner: PictureDescriber  # says which options pictures show

    def read(
        self, data: LookData, split: str, seed: int, style: StyleEncoder, codec: AutoencoderDCCodec
    ) -> LookGroups:
        """Returns the groups of a split, those that weren't drawn before by drawing them."""
        count = self.groups if split == "train" else max(8, self.groups // 8)
        cache, parts = Cache(Path(self.folder) / split), []
        key = {"style": hash_tensor(style.queries), "seed": seed, "split": split}  # the folder is of one config
        for start in track(range(0, count, PART), f"Drawing {split} looks"):
            numbers = range(start, min(start + PART, count))
            draw = partial(draw_groups, data, split, numbers, seed, captioner=self.captioner, style=style, codec=codec)
            parts.append(cache.fetch(Cache.key(**key, numbers=[numbers.start, numbers.stop]), draw))
        options = sorted({text for part in parts for text in unpack(part["options"])})
        words = []
        for part in parts:
            places = torch.tensor([*map(options.index, unpack(part["options"])), -1])
            words.append(places[part["words"]])  # its last is -1, as that of no option
        return LookGroups(torch.cat([part["tokens"] for part in parts]), torch.cat(words), options)


@dataclass(frozen=True, kw_only=True)
class LookEditorStage:
    """The token editor, of style tokens by the style encoder in `generator_folder`."""

    folder: str  # where the editor is saved
    generator_folder: str
    pool: EditPool
    text_encoder: TextEncoder  # whose vectors of options the editor reads
    unknown: Fraction  # share of the rows of people who liked no picture
    mixed: Fraction  # largest share of another look in what people liked
    editor: Callable[..., TokenEditor]
    training: Callable[[TokenEditor, float], LookEditorTraining]
    batch_size: Count  # groups a step

    def build(self, data: PictureGroups, seed: int) -> Built:
        """Batches of pairs; PmgError if the data has no finishes."""
        if not isinstance(data, LookData):
            raise PmgError("stage=look_editor learns from looks that it changes: data=looks")
        style = load_frozen(StyleEncoder, Path(self.generator_folder) / "style_encoder")
        codec = AutoencoderDCCodec.from_folder(Path(self.generator_folder) / "vae")
        train, held_out = (self.pool.read(data, split, seed, style, codec) for split in ("train", "validation"))
        tokens = train.tokens.float().flatten(0, 1)
        variance = float((tokens - tokens.mean(0)).square().flatten(1).sum(1).mean())
        batches = EditBatches(train, self._encode(train.options), self.unknown, self.mixed)
        fixed = EditBatches(held_out, self._encode(held_out.options), 0.0, 0.0)
        editor = self.editor(tokens=tokens.shape[1], width=tokens.shape[2], words=batches.vectors.shape[1])
        editor.mean.copy_(tokens.mean(0))
        parts = torch.arange(len(held_out.tokens)).split(VALIDATION_BATCH)
        validation = [fixed(part, seeded(seed, "edits", int(part[0]))) for part in parts]
        shuffled = ShuffledRows(torch.arange(len(train.tokens)), self.batch_size, seed, batches)
        return self.training(editor, variance), RowsDataModule(shuffled, validation)

    def _encode(self, options: Sequence[str]) -> Tensor:
        return self.text_encoder.encode(options, padded=False).pooled.float()

    def save_and_evaluate(self, built: tuple[LookEditorTraining, RowsDataModule], data: LookData) -> dict[str, float]:
        """Saves the editor; shares of the tokens' variance that it explains, and that unchanged tokens do."""
        module, batches = built
        save_half(module.editor, self.folder)
        module.eval()
        with torch.no_grad():
            errors = torch.cat([module.errors(batch) for batch in batches.validation])
        unchanged = torch.cat([(one["start"] - one["end"]).square().flatten(1).sum(1) for one in batches.validation])
        return {
            "explained": 1 - float(errors.mean()),
            "explained_without_editing": 1 - float(unchanged.mean()) / module.variance,
        }


@torch.no_grad()
def draw_groups(
    data: LookData, split: str, numbers: range, seed: int, *, captioner: PictureDescriber, style: StyleEncoder,
    codec: AutoencoderDCCodec,
) -> Mapping[str, Tensor]:  # fmt: skip
    """Returns groups of these numbers: tokens, words and, as bytes, options, see `LookGroups`."""
    index = DrawingIndex(data)
    tokens, said = [], []
    for number in numbers:
        rng = look_rng(seed, f"edits {split}", number)
        group = "met" if split == "train" else rng.choice(("met", "unseen_region", "unseen_artist"))
        artist, finish = index.sample_look(group, rng)
        rows: list[int] = []
        for _ in range(PICTURES):
            rows.append(index.choose(artist, {index.concepts[row] for row in rows}, rng))
        drawn, finishes = torch.tensor(rows), alter(data, finish, rng, seen=group == "met")
        varied = [data.space.vary(finishes[0], rng, data.group_spread) for _ in rows]
        pictures = torch.cat([
            data.drawings.pictures(drawn, varied if place == 0 else [each] * PICTURES)
            for place, each in enumerate(finishes)
        ])  # fmt: skip
        read = style.read(codec.encode, pictures[:, None])
        tokens.append(read.unflatten(0, (LOOKS, PICTURES)).mean(1).half())
        described = captioner.describe(pictures)
        said.append([agreed(described[place : place + PICTURES]) for place in range(0, len(described), PICTURES)])
    options = sorted({text for group in said for look in group for text in look if text})
    place_of = {text: place for place, text in enumerate(options)} | {"": -1}
    words = torch.tensor([[[place_of[text] for text in look] for look in group] for group in said])
    return {"tokens": torch.stack(tokens), "words": words, "options": pack(options)}


def alter(data: LookData, finish: Finish, rng: random.Random, seen: bool) -> list[Finish]:
    """Returns a finish and others in which one or two of its `PARTS` were drawn anew; seen ones alone if `seen`."""
    found = [finish]
    while len(found) < LOOKS:
        fields = {name for part in rng.sample(PARTS, 1 if rng.random() < 0.7 else 2) for name in part}
        other = data.space.sample(rng)
        altered = replace(finish, **{name: getattr(other, name) for name in fields})
        if altered != finish and (not seen or data.space.is_seen(altered)):
            found.append(altered)
    return found


def agreed(words: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns of each attribute the word that is said of `AGREE` pictures at least; '' for none."""
    found = []
    for name in words[0]:
        word, count = Counter(one[name] for one in words).most_common(1)[0]
        found.append(word if count >= AGREE else "")
    return found


def pack(texts: Sequence[str]) -> Tensor:
    """Returns texts as bytes, uint8 `(L,)`, for a file of tensors."""
    return torch.tensor(list("\n".join(texts).encode()), dtype=torch.uint8)


def unpack(packed: Tensor) -> list[str]:
    """Returns the texts of `pack`."""
    return bytes(packed.tolist()).decode().split("\n")
