"""How much of the artist can be read linearly: from style tokens, patch features, latents; held-out concepts.

python experiments/artist_probe.py --models assets
"""

from __future__ import annotations

import argparse
import random
from typing import Any

import torch
from torch import Tensor

import pmg
from pmg.configuration.instantiate import instantiate
from pmg.data.emoji.drawings import LookData
from pmg.data.emoji.finishes import AS_DRAWN
from pmg.models.autocast import processor_autocast
from pmg.models.diffusion.latent_codec import AutoencoderDCCodec
from pmg.models.diffusion.style_encoder import StyleEncoder
from pmg.models.loading.weight_sources import load_frozen
from pmg.seeding import stable_number

PICTURES = 12  # of a look
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
HELD_OUT_SHARE = 0.2  # of the concepts
Looks = tuple[Tensor, Tensor]  # pictures (N, PICTURES, 3, H, W) and artists (N,)


def draw_looks(data: LookData, count: int, held_out: bool, seed: int, as_drawn: bool) -> Looks:
    """Returns looks of all artists, with concepts of one side of the probe's split."""
    rng = random.Random(stable_number(seed, "probe", held_out, as_drawn))
    artists = sorted(set(data.drawings.artists))
    rows: dict[str, list[int]] = {artist: [] for artist in artists}
    for row, (item, artist) in enumerate(zip(data.drawings.items, data.drawings.artists, strict=True)):
        if (stable_number("probe concept", item.concept) % 1000 < HELD_OUT_SHARE * 1000) == held_out:
            rows[artist].append(row)
    chosen = [artists[number % len(artists)] for number in range(count)]
    pictures = []
    for artist in chosen:
        centre = AS_DRAWN if as_drawn else data.space.sample(rng)
        finishes = [data.space.vary(centre, rng, data.group_spread) for _ in range(PICTURES)]
        pictures.append(data.drawings.pictures(torch.tensor(rng.sample(rows[artist], PICTURES)), finishes))
    return torch.stack(pictures), torch.tensor([artists.index(artist) for artist in chosen])


@torch.no_grad()
def features(pictures: Tensor, parts: tuple[AutoencoderDCCodec, StyleEncoder]) -> dict[str, Tensor]:
    """Returns vectors of each look by what they are computed of."""
    codec, encoder = parts
    count = len(pictures)
    with processor_autocast():
        latents = torch.cat([codec.encode(part) for part in pictures.flatten(0, 1).split(192)]).float()
    patches = torch.cat([encoder.encode_pictures(part) for part in latents.split(192)])
    single = encoder.summarise(patches[:, None], torch.ones(len(patches), 1, dtype=torch.bool)).flatten(1)
    both = torch.cat([patches.mean(1), patches.std(1)], 1)
    flat = latents.flatten(2)
    covariance = (flat @ flat.transpose(1, 2) / flat.shape[-1]).flatten(1)
    statistics = torch.cat([flat.mean(2), flat.std(2), covariance], 1)

    def mean(values: Tensor, number: int) -> Tensor:
        """Returns the mean over the first pictures of each look."""
        return values.unflatten(0, (count, PICTURES))[:, :number].mean(1)

    def joint(number: int) -> Tensor:
        """Returns the tokens that are read from the first pictures together."""
        some = patches.unflatten(0, (count, PICTURES))[:, :number]
        return encoder.summarise(some, torch.ones(some.shape[:2], dtype=torch.bool)).flatten(1)

    found = {f"joint tokens of {number}": joint(number) for number in (4, 12)}
    for name, values in (
        ("style tokens", single), ("mean style token", single.unflatten(1, (-1, 384)).mean(1)),
        ("patch features", both), ("latent statistics", statistics),
    ):  # fmt: skip
        found |= {f"{name}, {number}": mean(values, number) for number in (1, 4, 12)}
    return found


def probe(train: Tensor, labels: Tensor, test: Tensor, penalty: float) -> Tensor:
    """Returns the classes that a penalised multinomial regression predicts, `(M,)`."""
    mean, deviation = train.mean(0), train.std(0).clamp(min=1e-6)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    classes = int(labels.max()) + 1
    weight, bias = torch.zeros(train.shape[1], classes, requires_grad=True), torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        """Returns the penalised loss with its gradients."""
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(train @ weight + bias, labels) + penalty * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return (test @ weight + bias).argmax(1).detach()


def hit_rate(found: Tensor, wanted: Tensor) -> float:
    """Returns the share of equal labels."""
    return float((found == wanted).float().mean())


def main(options: Any) -> None:
    """Prints the accuracy of each kind of features."""
    cfg = pmg.compose("pretrain", overrides=["stage=look_unet", "run_dir=/unused"])
    data = instantiate(cfg.data)
    folder = f"{options.models}/look_generator"
    codec = AutoencoderDCCodec.from_folder(f"{folder}/vae")
    encoder = load_frozen(StyleEncoder, f"{folder}/style_encoder")
    parts = (codec, encoder)
    sets = {
        "train": (options.train, False, False), "choice": (options.test, False, False),
        "test": (options.test, True, False), "as drawn": (options.test, True, True),
    }  # fmt: skip
    found, labels = {}, {}
    for seed, (name, (count, held_out, as_drawn)) in enumerate(sets.items()):
        pictures, labels[name] = draw_looks(data, count, held_out, seed, as_drawn)
        found[name] = features(pictures, parts)
        print(name, flush=True)
    print("| features | dimensions | held-out concepts | as drawn |\n|---|---:|---:|---:|", flush=True)
    for kind, values in found["train"].items():
        accuracies = {
            penalty: hit_rate(probe(values, labels["train"], found["choice"][kind], penalty), labels["choice"])
            for penalty in PENALTIES
        }  # fmt: skip
        best = max(accuracies, key=lambda penalty: accuracies[penalty])
        both = torch.cat([found["test"][kind], found["as drawn"][kind]])
        right = probe(values, labels["train"], both, best) == torch.cat([labels["test"], labels["as drawn"]])
        first, second = right.float().split([options.test, options.test])
        print(f"| {kind} | {values.shape[1]} | {first.mean():.3f} | {second.mean():.3f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="assets")
    parser.add_argument("--train", type=int, default=780, help="looks to fit on")
    parser.add_argument("--test", type=int, default=260, help="looks of held-out concepts")
    main(parser.parse_args())
