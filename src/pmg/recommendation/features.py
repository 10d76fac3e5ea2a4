"""Vectors of pictures for recommenders: of items as they are, and as they were drawn for users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pmg.data.dataset import ImageStore
from pmg.domain import Item, PmgError
from pmg.recommendation.pairs import EVERYBODY, Candidates
from pmg.records.storage import Record, read_images
from pmg.training.visual_inputs import BATCH, ImageEncoder

Vectors = dict[str, np.ndarray]


@torch.no_grad()
def encode(image_encoder: ImageEncoder, batches: Iterable[Tensor]) -> np.ndarray:
    """Returns the vectors `(N, F)` of pictures in batches `(B, 3, H, W)`."""
    return torch.cat([image_encoder(pictures).float().cpu() for pictures in batches]).numpy()


def encode_items(image_encoder: ImageEncoder, images: ImageStore, items: Sequence[Item]) -> dict[str, np.ndarray]:
    """Returns the vector of each item's own picture, by id; PmgError if an item has none."""
    rows = images.rows(items)
    vectors = encode(image_encoder, (images.pixels(part) for part in rows.split(BATCH)))
    return {item.id: vector for item, vector in zip(items, vectors, strict=True)}


def encode_pairs(
    image_encoder: ImageEncoder, folder: str, records: Sequence[Record], found: Mapping[str, Candidates]
) -> dict[tuple[str, str], Vectors]:
    """Returns vectors of the pictures of pairs, by user and control: those of each item by id.

    PmgError if there are none, a recommended item has no picture, or a picture is of no candidate.
    """
    if not records:
        raise PmgError(f"{folder} has no pictures of pictures.method: name the method that pmg-generate ran")
    parts = [records[start : start + BATCH] for start in range(0, len(records), BATCH)]
    vectors = encode(image_encoder, (read_images(folder, part) for part in parts))
    pairs: dict[tuple[str, str], Vectors] = {}
    for record, vector in zip(records, vectors, strict=True):
        row = int(record.example.rpartition("-")[2])
        items = found[record.user].items if record.user in found else ()
        if row >= len(items):
            raise PmgError(f"{folder} has pictures of {record.example}, which is no candidate of pictures.candidates")
        pairs.setdefault((record.user, record.control), {})[items[row]] = vector
    for user, one in found.items():
        for control in {record.control for record in records}:
            if missing := [item for item in one.items if item not in pairs.get((user, control), {})]:
                raise PmgError(f"{folder} has no picture of item {missing[0]} for {user}: run pmg-generate to its end")
    return pairs


def item_features(
    own: Vectors, crowd: Vectors | None, seed: int, components: int, deviation: float
) -> dict[str, Vectors]:
    """Returns whitened principal components of items' vectors, at most `components` numbers each, by kind and item id.

    ``own``: of the items' own vectors. ``shuffled``: the same, permuted over items. ``noise``: drawn from a normal
    distribution of the same mean and deviation. ``crowd``: of the vectors `crowd`, if given, on the components of
    `own`. Each feature has the standard deviation `deviation` over items.
    """
    rows = np.stack(list(own.values()))
    spread, rng = np.maximum(rows.std(0), 1e-6), np.random.default_rng(seed)
    scaled = (rows - rows.mean(0)) / spread
    _, lengths, axes = np.linalg.svd(scaled, full_matrices=False)
    kept = min(components, int((lengths > 1e-4 * lengths[0]).sum()))
    basis = (deviation * np.sqrt(len(rows)) * axes[:kept] / lengths[:kept, None]).T
    found = scaled @ basis
    shuffled, noise = found[rng.permutation(len(found))], deviation * rng.standard_normal(found.shape)
    kinds = {"own": found, "shuffled": shuffled, "noise": noise}
    if crowd is not None:
        kinds["crowd"] = (np.stack([crowd[item] for item in own]) - rows.mean(0)) / spread @ basis
    return {kind: dict(zip(own, values, strict=True)) for kind, values in kinds.items()}


def pair_features(
    found: Mapping[str, Candidates], own: Vectors, pairs: Mapping[tuple[str, str], Vectors]
) -> dict[str, dict[str, np.ndarray]]:
    """Returns what each method of the pair side knows of each user's N candidates, `(N, F)`.

    ``recommender``: its score. ``own_picture``: the cosine of the item's picture with the mean of the user's history,
    too. ``made_for_user``: the score, the cosine of the picture made for this user with their history, and with the
    item's own picture. ``made_for_another``: likewise, for another user. ``both``: own picture and made for the user.
    """
    centre = np.mean(list(own.values()), axis=0)

    def cosines(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
        """Returns cosines of vectors in pairs, `(N, 1)`, less the mean of all items."""
        x, y = np.stack(a) - centre, np.stack(b) - centre
        lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        return ((x * y).sum(1) / np.maximum(lengths, 1e-9))[:, None]

    methods: dict[str, dict[str, np.ndarray]] = {}
    for user, one in found.items():
        if user == EVERYBODY:
            continue
        score = np.asarray(one.scores, dtype=float)
        scores = ((score - score.mean()) / max(score.std(), 1e-9))[:, None]
        history = [np.mean([own[item] for item in one.history], axis=0)] * len(one.items)
        pictures = [own[item] for item in one.items]
        known = {"recommender": [scores], "own_picture": [scores, cosines(pictures, history)]}
        for name, control in (("made_for_user", "own"), ("made_for_another", "mismatched")):
            if (user, control) in pairs:
                made = [pairs[user, control][item] for item in one.items]
                known[name] = [scores, cosines(made, history), cosines(made, pictures)]
        known["both"] = [*known["made_for_user"], cosines(pictures, history)]
        for name, columns in known.items():
            methods.setdefault(name, {})[user] = np.concatenate(columns, axis=1)
    return methods
