"""Whether pictures obey written messages, and keep what no message spoke of.

``python -m experiments.wishes.obeyed --messages test --into FOLDER`` draws each scene's target without and with its
messages from one noise, writes the pictures into FOLDER, and the figures to ``obeyed-test.json``. With ``--exact 300``
each of 300 users says one option instead ("dark blue ground, please"): ``exact-test.json``. Attributes are read from
pictures by a probe on the features of the judge, which trained nothing and chose no candidate, and beside it by the
captioner, which the pipeline chooses candidates by; the judge also says whether the target is shown.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from experiments.wishes.messages import HERE, Label, Written, read_messages
from experiments.wishes.scenes import SPLITS, USERS_SEED
from PIL import Image, ImageDraw
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from tqdm import tqdm

import pmg
from pmg import PersonalizedPipeline
from pmg.api.call_arguments import with_pictures
from pmg.evaluation.statistics import bootstrap_users, limits
from pmg.looks.models.judge import LookJudge
from pmg.models.image_passes import fit_size
from pmg.models.vision.pixels import from_uint8

SETTINGS = ("pmg", "pmg_read", "pmg_paper")
"""Methods that are drawn without and with the messages; ``pmg,alpha=0.8,noises=8`` chooses candidates otherwise."""
AGAIN = "without a message, other noise"
PROBED = 6_000  # pictures of training looks that the probe learns from; a tenth as many test it
SIDE = 128  # pixels of a picture of the sheet
SHOWN = 24  # messages of the sheet
Reader = Callable[[Tensor], list[dict[str, str]]]


def main() -> None:
    """Draws all pictures, reads them, and writes figures and a sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", choices=("validation", "test"), required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--settings", nargs="+", default=SETTINGS)
    parser.add_argument("--exact", type=int, default=0)
    arguments = parser.parse_args()
    split, into, exact = arguments.messages, arguments.into, arguments.exact
    config = pmg.compose("generate", [f"data.users.seed={USERS_SEED}", "data.users.targets=1", "data.users.several=0"])
    options = {name: list(one.options) for name, one in config.scenario.attributes.items()}
    data, captioner = pmg.instantiate(config.data), pmg.instantiate(config.captioner)
    examples = data.examples(split, exact or SPLITS[split])
    scenes = {f"{split}-{number:03d}": example for number, example in enumerate(examples)}
    rows = write_exact(data, captioner, scenes) if exact else read_messages(split, options)
    model = LookJudge.from_folder("assets/look_judge").eval()
    judge, accuracy = train_probe(data, captioner, model)
    print("the probe on true pictures:", {name: round(share, 2) for name, share in accuracy.items()})
    pipe = PersonalizedPipeline.from_pretrained("assets/pipeline", "cpu")
    pipe.set_progress_bar_config(disable=True)
    found: dict[str, Any] = {"probe": accuracy}
    for setting in arguments.settings:
        drawn, seconds = draw_all(pipe, data, scenes, rows, setting, into / setting)
        readers: dict[str, Reader] = {"judge": judge, "captioner": captioner.describe}
        tables = {name: measure(rows, drawn, reader) for name, reader in readers.items()}
        targets = [scenes[row.scene].target.concept for row in rows]
        shown = {name: share_shown(model, images, targets) for name, images in drawn.items()}
        found[setting] = {**tables, "target shown": shown, "seconds": seconds}
        print(setting, json.dumps({name: table["asked"] for name, table in tables.items()}), shown, f"{seconds:.2f} s")
    name = f"{'exact' if exact else 'obeyed'}-{split}"
    (HERE / f"{name}.json").write_text(json.dumps(found, indent=1))
    if "pmg" in arguments.settings:
        draw_sheet(rows, into / "pmg").save(HERE / f"{name}.webp", quality=85)


def write_exact(data: Any, captioner: Any, scenes: Mapping[str, Any]) -> list[Written]:
    """Returns one message a scene, which names an option that the liked pictures don't show and the next user's do."""
    words = {
        scene: captioner.describe(data.images.pixels(data.images.rows([one.item for one in example.history][-4:])))
        for scene, example in scenes.items()
    }
    names, rng, rows = list(words), np.random.default_rng(0), []
    for place, scene in enumerate(names):
        for attribute in rng.permutation(list(words[scene][0])):
            shown = {one[attribute] for one in words[scene]}
            others = [words[other][0][attribute] for other in (names[place + 1 :] + names[:place])]
            option = next((one for one in others if one not in shown), None)
            if option is not None:
                label = Label({str(attribute): frozenset({option})}, frozenset())
                rows.append(Written(f"{scene}-said", scene, "one_line", "en", "", (f"{option}, please",), (label,)))
                break
    return rows


@torch.no_grad()
def share_shown(judge: LookJudge, images: Tensor, targets: Sequence[str]) -> float:
    """Returns the share of pictures `(N, 3, H, W)` in which the judge names the target."""
    small = fit_size(images, 64) if images.shape[-1] > 64 else images
    named = torch.cat([judge(part).concept.argmax(1) for part in small.split(64)]).tolist()
    return float(np.mean([judge.config.concepts[place] == one for place, one in zip(named, targets, strict=True)]))


def train_probe(data: Any, captioner: Any, judge: LookJudge) -> tuple[Reader, dict[str, float]]:
    """Returns what reads attributes from the judge's features, and its accuracy on true pictures of other looks."""

    @torch.no_grad()
    def see(images: Tensor) -> np.ndarray:
        small = fit_size(images, 64) if images.shape[-1] > 64 else images
        found = [judge(part) for part in small.split(64)]
        return torch.cat([torch.cat([one.style, one.finish], 1) for one in found]).numpy()

    vectors, words = [], []
    rng = np.random.default_rng(0)
    items = [one for example in data.examples("train", PROBED // 4, 1) for one in example.liked[:5]]
    chosen = rng.permutation(len(items))[: PROBED + PROBED // 10]
    for start in tqdm(range(0, len(chosen), 64), desc="Probe of the judge"):
        part = [items[place] for place in chosen[start : start + 64]]
        images = data.images.pixels(data.images.rows(part))
        vectors.append(see(images))
        words += captioner.describe(images)
    features, names = np.concatenate(vectors), list(words[0])
    models, accuracy = {}, {}
    for name in names:
        labels = np.array([one[name] for one in words])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=500))
        models[name] = model.fit(features[:PROBED], labels[:PROBED])
        accuracy[name] = float((model.predict(features[PROBED:]) == labels[PROBED:]).mean())

    def read(images: Tensor) -> list[dict[str, str]]:
        seen = see(images)
        guessed = {name: model.predict(seen) for name, model in models.items()}
        return [{name: str(each[place]) for name, each in guessed.items()} for place in range(len(seen))]

    return read, accuracy


def draw_all(
    pipe: PersonalizedPipeline, data: Any, scenes: Mapping[str, Any], rows: Sequence[Written], setting: str, into: Path
) -> tuple[dict[str, Tensor], float]:
    """Returns pictures `(N, 3, H, W)` without the messages, with them, and of other noise; seconds a message.

    Each is kept as a file, by which an interrupted run is gone on with.
    """
    into.mkdir(parents=True, exist_ok=True)
    seconds, histories = [], {}
    method, *changes = setting.split(",")
    changed = dict(one.split("=") for one in changes)
    alpha = float(changed["alpha"]) if "alpha" in changed else None
    pipe.pipeline.pairs = [(1.0, 1.0)] * int(changed.get("noises", 4))

    def draw(name: str, scene: str, messages: Sequence[str], seed: int) -> Image.Image:
        path = into / f"{name}.png"
        if not path.exists():
            example = scenes[scene]
            if scene not in histories:
                histories[scene] = with_pictures([one.item for one in example.history][-4:], data.images)
            said = [("user", message) for message in messages]
            start = time.perf_counter()
            output = pipe(
                histories[scene], example.target.title, conversation=said, method=method, alpha=alpha,
                generator=torch.Generator().manual_seed(seed),
            )  # fmt: skip
            seconds.append(time.perf_counter() - start)
            output.images[0].save(path)
        return Image.open(path).convert("RGB")

    drawn: dict[str, list[Image.Image]] = {"before": [], "after": [], AGAIN: []}
    for row in tqdm(rows, desc=setting):
        drawn["before"].append(draw(row.scene, row.scene, (), 0))
        drawn["after"].append(draw(row.id, row.scene, row.messages, 0))
        drawn[AGAIN].append(draw(f"{row.scene}-again", row.scene, (), 1))
    pictures = {
        name: from_uint8(torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in each]))
        for name, each in drawn.items()
    }
    return pictures, float(np.mean(seconds)) if seconds else float("nan")


def measure(rows: Sequence[Written], drawn: Mapping[str, Tensor], reader: Reader) -> dict[str, Any]:
    """Returns the shares of obeyed and kept attributes, with intervals over scenes, by kind of messages.

    *Obeyed*: of the attributes that both readers of the messages say are asked for, those whose option one of them
    allows. *Kept*: of those that neither speaks of, those whose option is that of the picture without a message.
    """
    read = {name: reader(images) for name, images in drawn.items()}
    kinds = {"asked": [row for row in rows if row.asked], "nothing asked": [row for row in rows if not row.asked]}
    kinds |= {
        kind: [row for row in rows if row.kind == kind and (row.asked or kind == "none")]
        for kind in sorted({row.kind for row in rows})
    }
    places = {row.id: place for place, row in enumerate(rows)}
    return {
        name: {"n": len(part)} | {
            after: _measure_part([(row, read["before"][places[row.id]], read[after][places[row.id]]) for row in part])
            for after in ("before", "after", AGAIN)
        }
        for name, part in kinds.items() if part
    }  # fmt: skip


def _measure_part(triples: Sequence[tuple[Written, dict[str, str], dict[str, str]]]) -> dict[str, Any]:
    counts: dict[str, np.ndarray] = {}
    for row, before, after in triples:
        spoken = {name for one in row.labels for name in (*one.changes, *one.optional)}
        obeyed = [row.allows(name, after[name]) for name in row.asked]
        kept = [before[name] == after[name] for name in after if name not in spoken]
        one = np.array([len(obeyed), sum(obeyed), len(kept), sum(kept)], dtype=float)
        counts[row.scene] = counts.get(row.scene, 0) + one
    columns = np.stack(list(counts.values()))
    samples = np.vstack([columns.mean(0), bootstrap_users(columns, 0)])
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = {"obeyed": samples[:, 1] / samples[:, 0], "kept": samples[:, 3] / samples[:, 2]}
    return {
        name: [float(each[0]), *limits(each[np.isfinite(each)])] if np.isfinite(each[0]) else None
        for name, each in shares.items()
    }


def draw_sheet(rows: Sequence[Written], folder: Path) -> Image.Image:
    """Returns "before, message, after" of messages that ask for something, each of another scene."""
    by_scene = {row.scene: row for row in rows if row.asked}
    some = list(by_scene.values())[:: max(1, len(by_scene) // SHOWN)][:SHOWN]
    sheet = Image.new("RGB", (2 * (5 * SIDE + 16), (len(some) + 1) // 2 * (SIDE + 8)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(some):
        left, top = number % 2 * (5 * SIDE + 16), number // 2 * (SIDE + 8)
        for place, name in ((0, row.scene), (4, row.id)):
            picture = Image.open(folder / f"{name}.png").convert("RGB").resize((SIDE, SIDE))
            sheet.paste(picture, (left + place * SIDE, top))
        pen.multiline_text((left + SIDE + 6, top + 4), wrap_text("\n".join(row.messages), 60), fill="black")
    return sheet


def wrap_text(text: str, width: int) -> str:
    """Returns a text in lines of at most so many characters, and at most nine lines."""
    lines = [line for part in text.splitlines() for line in wrap(part, width)]
    return "\n".join(lines[:9] + (["…"] if len(lines) > 9 else []))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
