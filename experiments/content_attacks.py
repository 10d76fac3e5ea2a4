"""Exchanges contents below commands: data, weights, pictures, records, caches and results of other runs.

Each command must refuse in one line, recover to the honest result, or (where only what it wrote for people to read was
edited) leave no trace in a result of its own. A row is ``mixed`` where it ended with code 0 and another result.

python experiments/content_attacks.py outputs/attacks
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from kills import run_undisturbed
from PIL import Image
from safetensors.torch import load_file, save_file
from stages import STUDY, exit_code, last_line, made, start

from pmg.commands.pmg import find_commands

READ = ["shop/items.csv", "shop/chosen.csv"]
SHOP = [
    "data=own_files", "paths.data_dir=data", "source.read.items=shop/items.csv",
    "source.read.interactions=shop/chosen.csv", "source.pictures.size=64", "run_dir=prepare",
]  # fmt: skip
CHAIN = [
    "experiment=real_users", "language_model=tiny", "preference_encoder=text", "text_encoder=tiny", "generator=tiny",
    "scorer=tiny", "paths.output_dir=.", "paths.cache_dir=cache", "paths.data_dir=data", "objective.users_per_step=4",
    "objective.batches.draws=2", "trainer=cpu", "trainer.precision=32-true", "trainer.max_steps=60",
    "trainer.log_every_n_steps=1", "trainer.val_check_interval=10", "sampling.steps=2", "targets.train=1",
    "data.duplicates=null", "sampling.batch_size=4", "callbacks.checkpoint.every_s=0",
]  # fmt: skip
DEEP = [
    *CHAIN, "text_encoder=minilm", "generator=looks", "scorer=looks", "captioner=tagger", "paths.models_dir=models",
    "sampling=default", "sampling.steps=2", "sampling.batch_size=4", "trainer.max_steps=30", "tower=scorer",
    "train_run=deep/train", "generate_run=deep/generate",
]  # fmt: skip
WORDS = [
    "data=own_files", "scenario=film_genres", "scorer=tiny", "text_encoder=tiny", "language_model=tiny",
    "paths.data_dir=data", "paths.cache_dir=cache", "run_dir=keywords", "later_items=1", "history_items=3",
]  # fmt: skip
SURVEY = [
    "run_dir=survey", "design.examples=3", "design.raters=2", "design.pairs=6", "design.ratings=6", "design.checks=1",
    "paths.data_dir=data",
]  # fmt: skip
MAKE = [*SURVEY, "generate_run=real_users/generate"]
ANALYSE = ["run_dir=analysis", "analyse=answers", "survey=survey", "evaluation=real_users", "allowed_failures=9"]
EXPORT = ["train_run=real_users/train", "folder=export/pipeline", "run_dir=export"]
PIPED = [
    *(text for text in CHAIN if not text.startswith(("language_model", "preference_enc", "text_enc", "generator="))),
    "pipeline=export/pipeline", "run_dir=piped",
]  # fmt: skip
PRETRAIN = [
    "stage=look_unet", "data=own_files", "paths.data_dir=data", "paths.models_dir=models", "into=installed",
    "name=deep",
    "run_dir=pretrain", "trainer=cpu", "trainer.precision=32-true", "trainer.max_steps=40", "stage.pool.looks=8",
    "stage.pool.held_out_looks=4", "stage.batch_size=8", "trainer.val_check_interval=10", "text_encoder=minilm",
    "stage.training.model.denoiser.model.block_out_channels=[16,16]", "trainer.log_every_n_steps=1",
    "stage.training.model.denoiser.model.attention_head_dim=[2,2]", "callbacks.checkpoint.every_s=0",
    "stage.training.model.style_encoder.channels=16", "trainer.limit_val_batches=1", "paths.cache_dir=cache",
]  # fmt: skip
STUDY_RUN = [
    *CHAIN, "run_dir=study", "train_run=${run_dir}/train", "generate_run=${run_dir}/generate",
    "results_dir=${run_dir}",
]  # fmt: skip
SHARDED = {
    "sharded": [*CHAIN, "shard.count=2", "run_dir=sharded"],
    "other_sharded": [*CHAIN, "shard.count=2", "run_dir=other_sharded", "train_run=other/train"],
}
JUDGE = [*SHARDED["sharded"], "generate_run=sharded", "run_dir=sharded_judged", "results_dir=sharded_judged"]
TRAIN, GENERATE = Path("real_users/train"), Path("real_users/generate")
WEIGHTS = "encoder/diffusion_pytorch_model.safetensors"


def call(verb: str, arguments: Sequence[str]) -> tuple[int, str]:
    """Exit code and last line on stderr of a command that runs in this process, from the current folder."""
    sys.argv, stderr, code = [f"pmg-{verb}", *arguments], io.StringIO(), 0
    os.environ.pop("HYDRA_FULL_ERROR", None)  # a command sets it for itself
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
        try:
            find_commands()[verb].load()()
        except SystemExit as end:
            code = exit_code(end)
        except Exception as error:
            return 99, f"traceback: {type(error).__name__}: {error}"
    return code, last_line("\n".join(line for line in stderr.getvalue().splitlines() if "Loading weights" not in line))


def must(verb: str, arguments: Sequence[str]) -> None:
    """Runs a command that is expected to succeed.

    Raises:
        RuntimeError: it failed.
    """
    code, said = call(verb, arguments)
    if code:
        raise RuntimeError(f"pmg-{verb} {' '.join(arguments)} failed undisturbed: {said}")


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Works in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def killed(verb: str, arguments: Sequence[str], far: Callable[[], bool]) -> None:
    """Starts a command in the current folder and kills it as soon as it is `far` enough."""
    process = start(Path.cwd(), verb, arguments, start_new_session=True)
    while process.poll() is None and not far():
        time.sleep(0.005)
    if process.poll() is not None:
        raise RuntimeError(f"pmg-{verb} ended before it was killed: {last_line(process.communicate()[1])}")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def open_shop(folder: Path, seed: int, mtime: float = 0) -> None:
    """Writes a small shop: equal ids, sizes and file lengths for each seed, other pictures, titles and genres."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, genres = np.random.default_rng(seed), ["comedy", "drama", "horror"]
    for number in range(40):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number}.bmp")
        if mtime:  # as unpacked from an archive whose files have one date
            os.utime(folder / f"{number}.bmp", (mtime, mtime))
    items = [f"i{n},thing {n},{genres[(n + seed) % 3]}|red,home,{1990 + n},{n}.bmp" for n in range(40)]
    (folder / "items.csv").write_text("\n".join(["id,title,keywords,topic,year,image", *items]) + "\n")
    chosen = [f"u{u},i{(u * 7 + k * 3) % 40},{u * 100 + k}" for u in range(20) for k in range(9)]
    (folder / "chosen.csv").write_text("\n".join(["user,item,timestamp", *chosen]) + "\n")


def furnish_base(base: Path) -> None:
    """Makes every honest run that is attacked, and what is left of killed ones, in the folder `base`."""
    base.mkdir(parents=True, exist_ok=True)
    with inside(base):
        open_shop(Path("shop"), 0, 1e9)
        must("prepare", SHOP)
        _kill_some()
        for verb in ("train", "generate"):
            must(verb, CHAIN)
        must("evaluate", CHAIN)
        other = [*CHAIN, "optimizer.lr=0.01", "train_run=other/train", "generate_run=other/generate"]
        for verb in ("train", "generate", "evaluate"):
            must(verb, [*other, f"run_dir=other/{verb}", "results_dir=other"][: None if verb == "evaluate" else -1])
        must("survey", MAKE)
        Path("answers").mkdir()
        for rater in _answers():
            Path("answers", f"answers-{rater['rater']}.json").write_text(json.dumps(rater))
        must("survey", ANALYSE)
        must("keywords", WORDS)
        must("export", EXPORT)
        must("export", ["train_run=other/train", "folder=other/pipeline", "run_dir=other/export"])
        must("generate", PIPED)
        must("report", ["real_users", "--into", "report"])
        must("study", STUDY_RUN)
        for name, arguments in SHARDED.items():
            must("generate", arguments)
            must(
                "evaluate",
                [*arguments, f"generate_run={name}", f"run_dir={name}_judged", f"results_dir={name}_judged"],
            )
    with inside(base):
        shutil.copytree(find_models(), "models")
        for verb in ("train", "generate"):
            must(verb, [*DEEP, f"run_dir=deep/{verb}"])
        must("evaluate", [*DEEP, "run_dir=deep/evaluate", "results_dir=deep"])
        must(
            "export",
            ["train_run=deep/train", "folder=deep/pipeline", "run_dir=deep/export", "paths.models_dir=models"],
        )
        shutil.copytree("models", "models_before")
        killed("pretrain", PRETRAIN, Path("pretrain/checkpoints/last.ckpt").exists)
        shutil.copytree("pretrain", "killed/pretrain")
        must("pretrain", PRETRAIN)
        shutil.rmtree("models")  # of which it has replaced one, which the runs in `deep` have read
        shutil.copytree("models_before", "models")


def find_models() -> Path:
    """The embedded models of this checkout."""
    return Path(__file__).resolve().parents[1] / "assets"


def _kill_some() -> None:
    """Leaves a killed training and generation in the folder ``killed``."""
    killed("train", CHAIN, Path(TRAIN, "checkpoints/last.ckpt").exists)
    shutil.copytree(TRAIN, "killed/train")
    must("train", CHAIN)
    records = GENERATE / "records.jsonl"
    killed("generate", CHAIN, lambda: records.exists() and records.read_text().count("\n") >= 12)
    shutil.copytree(GENERATE, "killed/generate")


def _answers() -> list[dict[str, Any]]:
    """Answers of two raters who prefer the left side."""
    key = json.loads(Path("survey/key.json").read_text())
    raters = []
    for slot, plan in enumerate(key["plans"]):
        answers = [
            {"task": n, "seconds": 3.0, "value": {"accuracy": 3, "preference": 4} if task[0] == "rating" else "left"}
            for n, task in enumerate(plan)
        ]
        raters.append(
            {"survey": key["survey"], "rater": f"{slot:032x}", "slot": slot, "consent": True, "answers": answers}
        )
    return raters


@dataclass(frozen=True)
class Attack:
    """An exchange of contents, and the command that meets it.

    Attributes:
        attack: in words.
        verb: of the command.
        arguments: of its command line.
        made: folder whose content is compared with that of the honest run.
        spoil: does it, in the folder with all runs.
        honest: the folder in that of the honest runs; empty: the same as `made`.
        more: commands that run after it, whose codes count as well.
        compare: another comparison of the folder with the honest one.
    """

    attack: str
    verb: str
    arguments: Sequence[str]
    made: str
    spoil: Callable[[], object]
    honest: str = ""
    more: Sequence[tuple[str, Sequence[str]]] = ()
    compare: Callable[[Path], object] | None = None


def resume(name: str) -> None:
    """Puts what is left of a killed run in place of the finished one."""
    folder = {"train": TRAIN, "generate": GENERATE, "pretrain": Path("pretrain")}[name]
    shutil.rmtree(folder)
    shutil.copytree(f"killed/{name}", folder)
    if name == "pretrain":
        shutil.rmtree("models")
        shutil.copytree("models_before", "models")


def unfinish(folder: str) -> None:
    """Makes a run look killed at its very end."""
    path = Path(folder, "metrics.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running", "made": {}}))


def prepare_again() -> None:
    """Prepares other content with the same ids into the same folder."""
    open_shop(Path("shop"), 1)
    must("prepare", [*SHOP, "run_dir=prepare3"])


def exchange_pictures() -> None:
    """Exchanges the pictures of the shop alone, for some of the same sizes and dates, and prepares them elsewhere."""
    items = Path("shop/items.csv").read_text()
    open_shop(Path("shop"), 1, 1e9)
    Path("shop/items.csv").write_text(items)
    must("prepare", [*SHOP, "run_dir=prepare3", "data.folder=fresh"])
    Path("data/prepared.json").unlink()


def has_fresh_pictures(folder: Path) -> bool:
    """Whether a prepared folder has the pictures that another preparation of the same sources gives."""
    fresh = folder.parents[1] / "fresh/pictures/00000.arrow"
    return not fresh.exists() or fresh.read_bytes() == (folder / "pictures/00000.arrow").read_bytes()


def scale(pattern: str, by: float = 1.3) -> None:
    """Replaces the weights of a model folder in place: same names, shapes and size."""
    paths = sorted(Path().glob(pattern))
    assert paths, pattern
    for path in paths:
        tensors = load_file(path)
        changed = {name: value * by if value.is_floating_point() else value for name, value in tensors.items()}
        save_file(changed, path, {"format": "pt"})


def edit(path: str, **values: Any) -> None:
    """Changes values of a JSON file."""
    found = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps(found | values, indent=2))


def replace_text(path: str, old: str, new: str) -> None:
    """Replaces text of a file that has it."""
    text = Path(path).read_text()
    assert old in text, f"{path} has no {old}"
    Path(path).write_text(text.replace(old, new))


def swap(one: Path | str, other: Path | str) -> None:
    """Exchanges two files."""
    one, other = Path(one), Path(other)
    first, second = one.read_bytes(), other.read_bytes()
    assert first != second, f"{one} and {other} are equal"
    one.write_bytes(second)
    other.write_bytes(first)


def swap_all(pattern: str) -> None:
    """Exchanges the files of a pattern in a ring."""
    paths = sorted(Path().glob(pattern))
    assert len(paths) > 1, pattern
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)


def pngs(folder: str = "real_users/generate", method: str = "pmg_paper") -> list[Path]:
    """Pictures of a method."""
    return sorted(Path(folder).glob(f"images/{method}/own/*.png"))


def redden(folder: str = "real_users/generate") -> None:
    """Replaces pictures by red squares."""
    for path in pngs(folder):
        Image.new("RGB", Image.open(path).size, "red").save(path)


def lines(folder: str, change: Callable[[list[str]], list[str]]) -> None:
    """Changes the lines of records."""
    path = Path(folder, "records.jsonl")
    found = path.read_text().splitlines(keepends=True)
    now = change(found)
    assert now != found
    path.write_text("".join(now))


def record_edit(folder: str, number: int, keep_seal: bool = True, **values: Any) -> None:
    """Changes values of a record; without its seal, it is as a version without seals wrote it."""

    def change(found: list[str]) -> list[str]:
        record = json.loads(found[number]) | values
        if not keep_seal:
            record.pop("crc32")
        return [*found[:number], json.dumps(record, ensure_ascii=False) + "\n", *found[number + 1 :]]

    lines(folder, change)


def copy_into(source: str, target: str) -> None:
    """Copies a file or a folder over another."""
    if Path(source).is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def both(*acts: Callable[[], object]) -> Callable[[], None]:
    """Does one after another."""

    def act() -> None:
        for each in acts:
            each()

    return act


def do(function: Callable[..., object], *arguments: Any, **named: Any) -> Callable[[], object]:
    """A call for later."""
    return lambda: function(*arguments, **named)


def spoil_checkpoint(path: str) -> None:
    """Changes the weights in a checkpoint; types and shapes, and the signature, stay."""
    saved = torch.load(path, weights_only=True)
    for value in saved["state_dict"].values():
        if value.is_floating_point():
            value.mul_(1.5)
    torch.save(saved, path)


def other_data() -> None:
    """Prepares another data set beside the first."""
    open_shop(Path("shop2"), 1)
    must(
        "prepare", [*(text.replace("shop/", "shop2/") for text in SHOP), "data.folder=data/second", "run_dir=prepare2"]
    )


def exchange_methods() -> None:
    """Exchanges the methods of a survey's key."""
    text = Path("survey/key.json").read_text()
    found = json.loads(text)
    names = {"none": "pmg_paper", "pmg_paper": "none"}
    for shown in found["images"].values():
        shown["method"] = names.get(shown["method"], shown["method"])
    Path("survey/key.json").write_text(json.dumps(found))


def other_survey() -> None:
    """Makes a survey of another generation in another folder."""
    must("survey", [*SURVEY, "generate_run=other/generate", "run_dir=survey2"])


def shown(folder: Path) -> str:
    """What a page or a card says, without what differs between two honest runs."""
    names = ("*.json", "*.md", "*.html", "*.csv", "*.jsonl")
    paths = sorted(
        path for name in names for path in folder.glob(name) if path.name not in ("metrics.json", ".pmg.json")
    )
    return "\n".join(path.read_text() for path in paths)


def results(folder: Path) -> dict[str, Any]:
    """Results without costs and digests."""
    found = json.loads((folder / "results.json").read_text())
    return {name: part for name, part in found.items() if name not in ("cost", "revision", "digest", "records")}


def counts_honest(folder: Path) -> bool:
    """Whether a report's table has numbers of the honest run alone; a run that is refused has none."""
    honest = folder.parents[1] / "base" / folder.name
    return set(_numbers(folder)) <= set(_numbers(honest))


def _numbers(folder: Path) -> list[tuple[str, ...]]:
    """The table of a report, without costs."""
    table = pd.read_parquet(folder / "table.parquet")
    measured = table[table["method"] != ""]
    return [*measured[["method", "control", "metric", "value", "n"]].astype(str).itertuples(index=False, name=None)]


def study_results(folder: Path) -> dict[str, Any]:
    """Results of a study without its config, which names the folder of the training."""
    return {name: part for name, part in results(folder).items() if name != "config"}


def shows_honest(folder: Path) -> bool:
    """Whether a report's page shows pictures of the honest one alone, in their order; one that is refused is none."""
    honest = folder.parents[1] / "base" / folder.name
    found, rest = _pictures(folder), iter(_pictures(honest))
    return all(picture in rest for picture in found)


def _pictures(folder: Path) -> list[str]:
    text = (folder / "index.html").read_text()
    return [part.split('"')[0] for part in text.split("data:image/webp;base64,")[1:]]


def is_measured(folder: Path) -> bool:
    """Whether a card has results."""
    return "Measured on test users" in (folder / "README.md").read_text()


def with_dir(verb: str) -> list[str]:
    """The chain's arguments for the deep runs."""
    return [*DEEP, f"run_dir=deep/{verb}", *(["results_dir=deep"] if verb == "evaluate" else [])]


KILLED_PNG = "real_users/generate/images/keywords/own/*.png"
LOOK_ENCODER = "models/look_scorer/model.safetensors"
ATTACKS = (
    # evaluate
    Attack("pictures of two users swapped", "evaluate", CHAIN, "real_users", lambda: swap(*pngs()[:2])),
    Attack("pictures replaced by red squares", "evaluate", CHAIN, "real_users", redden),
    Attack("a record removed", "evaluate", CHAIN, "real_users", do(lines, str(GENERATE), lambda x: x[:-1])),
    Attack("a record twice", "evaluate", CHAIN, "real_users", do(lines, str(GENERATE), lambda x: [*x, x[0]])),
    Attack(
        "records and pictures of another run",
        "evaluate",
        CHAIN,
        "real_users",
        both(
            do(copy_into, "other/generate/records.jsonl", "real_users/generate/records.jsonl"),
            do(copy_into, "other/generate/images", "real_users/generate/images"),
        ),
    ),
    Attack("data prepared again, then evaluated", "evaluate", CHAIN, "real_users", prepare_again),
    Attack(
        "pictures exchanged, sizes and dates kept, prepared again",
        "prepare",
        SHOP,
        "data/own_files",
        exchange_pictures,
        compare=has_fresh_pictures,
    ),
    Attack(
        "pictures exchanged, sizes and dates kept, killed preparation",
        "prepare",
        SHOP,
        "data/own_files",
        both(
            exchange_pictures,
            do(Path("data/own_files/manifest.json").unlink),
            do(unfinish, "prepare"),
            lambda: Path("data/own_files/pictures").rename("data/own_files/.pictures"),
        ),
        compare=has_fresh_pictures,
    ),
    Attack(
        "pictures exchanged, prepared again",
        "prepare",
        SHOP,
        "data/own_files",
        both(exchange_pictures, lambda: [path.touch() for path in Path("shop").glob("*.bmp")]),
        compare=has_fresh_pictures,
    ),
    Attack(
        "shard of pictures of another data set",
        "evaluate",
        CHAIN,
        "real_users",
        both(other_data, do(copy_into, "data/second/pictures", "data/own_files/pictures")),
    ),
    Attack(
        "interactions of another data set",
        "evaluate",
        CHAIN,
        "real_users",
        both(other_data, do(copy_into, "data/second/items.parquet", "data/own_files/items.parquet")),
    ),
    Attack("prepared.json names another data set", "evaluate", CHAIN, "real_users", other_data),
    Attack(
        "paths.data_dir of another data set",
        "evaluate",
        [*CHAIN, "paths.data_dir=elsewhere"],
        "real_users",
        both(other_data, do(copy_into, "data/second", "elsewhere/own_files")),
    ),
    Attack(
        "the training replaced by another one before the evaluation",
        "evaluate",
        CHAIN,
        "real_users",
        do(copy_into, "other/train", "real_users/train"),
    ),
    Attack(
        "config.yaml of the generation: another split's seed",
        "evaluate",
        CHAIN,
        "real_users",
        do(replace_text, "real_users/generate/config.yaml", "  seed: 0\n  windows", "  seed: 3\n  windows"),
    ),
    Attack(
        "config.yaml of the generation: another generator",
        "evaluate",
        CHAIN,
        "real_users",
        do(replace_text, "real_users/generate/config.yaml", "snr_gamma: 5.0\n  seed: 0", "snr_gamma: 5.0\n  seed: 5"),
    ),
    Attack(
        "config.yaml of the generation: shorter histories",
        "evaluate",
        CHAIN,
        "real_users",
        do(replace_text, "real_users/generate/config.yaml", "    history: 5", "    history: 2"),
    ),
    Attack(
        "config.yaml of the training: another learning rate",
        "evaluate",
        CHAIN,
        "real_users",
        do(replace_text, "real_users/train/config.yaml", "\noptimizer:\n", "\noptimizer:\n  note: of another\n"),
    ),
    Attack(
        "weights of the generator replaced before the evaluation",
        "evaluate",
        with_dir("evaluate"),
        "deep",
        do(scale, "models/look_generator/vae/*.safetensors"),
    ),
    Attack(
        "results edited, evaluated again",
        "evaluate",
        CHAIN,
        "real_users",
        do(edit, "real_users/results.json", arms={}),
    ),
    # generate
    Attack(
        "encoder of another run copied in",
        "generate",
        CHAIN,
        str(GENERATE),
        both(do(shutil.rmtree, GENERATE), do(copy_into, f"other/train/{WEIGHTS}", f"real_users/train/{WEIGHTS}")),
    ),
    Attack(
        "encoder of another run with its own metrics, killed generation",
        "generate",
        CHAIN,
        str(GENERATE),
        both(
            do(resume, "generate"),
            do(copy_into, "other/train/encoder", "real_users/train/encoder"),
            do(copy_into, "other/train/metrics.json", "real_users/train/metrics.json"),
        ),
    ),
    Attack(
        "config.json of the encoder edited",
        "generate",
        CHAIN,
        str(GENERATE),
        both(do(shutil.rmtree, GENERATE), do(edit, "real_users/train/encoder/config.json", placement="front")),
    ),
    Attack(
        "config.json of the encoder edited in the middle",
        "generate",
        CHAIN,
        str(GENERATE),
        both(do(resume, "generate"), do(edit, "real_users/train/encoder/config.json", placement="front")),
    ),
    Attack(
        "config.yaml of the training edited: inputs",
        "generate",
        CHAIN,
        str(GENERATE),
        both(
            do(shutil.rmtree, GENERATE),
            do(replace_text, "real_users/train/config.yaml", "placement: late", "placement: front"),
        ),
    ),
    Attack(
        "data prepared again, killed generation",
        "generate",
        CHAIN,
        str(GENERATE),
        both(do(resume, "generate"), prepare_again),
    ),
    Attack("killed generation", "generate", CHAIN, "real_users", do(resume, "generate"), more=[("evaluate", CHAIN)]),
    Attack(
        "records of another run, killed generation",
        "generate",
        CHAIN,
        str(GENERATE),
        both(
            do(resume, "generate"), do(copy_into, "other/generate/records.jsonl", "real_users/generate/records.jsonl")
        ),
    ),
    Attack(
        "records and pictures of another run, killed generation",
        "generate",
        CHAIN,
        str(GENERATE),
        both(
            do(resume, "generate"),
            do(copy_into, "other/generate/records.jsonl", "real_users/generate/records.jsonl"),
            do(copy_into, "other/generate/images", "real_users/generate/images"),
        ),
    ),
    Attack(
        "a record twice, killed generation, evaluated",
        "generate",
        CHAIN,
        "real_users",
        both(do(resume, "generate"), do(lines, str(GENERATE), lambda x: [*x, x[0]])),
        more=[("evaluate", CHAIN)],
        compare=results,
    ),
    Attack(
        "records in another order, killed generation, evaluated",
        "generate",
        CHAIN,
        "real_users",
        both(do(resume, "generate"), do(lines, str(GENERATE), lambda x: x[::-1])),
        more=[("evaluate", CHAIN)],
        compare=results,
    ),
    Attack(
        "a record removed, killed generation, evaluated",
        "generate",
        CHAIN,
        "real_users",
        both(do(resume, "generate"), do(lines, str(GENERATE), lambda x: x[1:])),
        more=[("evaluate", CHAIN)],
        compare=results,
    ),
    Attack(
        "a record edited, killed generation",
        "generate",
        CHAIN,
        str(GENERATE),
        both(do(resume, "generate"), do(record_edit, str(GENERATE), 0, user="u0")),
    ),
    Attack(
        "a record edited without its checksum, killed generation, evaluated",
        "generate",
        CHAIN,
        "real_users",
        both(
            do(resume, "generate"),
            do(record_edit, str(GENERATE), 0, keep_seal=False, target_keywords=["a whale"], alpha=0.9),
        ),
        more=[("evaluate", CHAIN)],
    ),
    Attack(
        "pictures swapped, killed generation",
        "generate",
        CHAIN,
        str(GENERATE),
        both(do(resume, "generate"), do(swap_all, KILLED_PNG)),
    ),
    Attack(
        "pictures swapped, killed generation, evaluated",
        "generate",
        CHAIN,
        "real_users",
        both(do(resume, "generate"), do(swap_all, KILLED_PNG)),
        more=[("evaluate", CHAIN)],
    ),
    Attack(
        "pictures swapped, finished generation run again", "generate", CHAIN, str(GENERATE), lambda: swap(*pngs()[:2])
    ),
    Attack(
        "entries of the cache exchanged",
        "generate",
        CHAIN,
        str(GENERATE),
        both(do(shutil.rmtree, GENERATE), do(swap_all, "cache/contexts/*/*.safetensors")),
    ),
    Attack(
        "digests of the cache exchanged, encoder replaced",
        "generate",
        CHAIN,
        str(GENERATE),
        both(
            do(shutil.rmtree, GENERATE),
            do(copy_into, f"other/train/{WEIGHTS}", f"real_users/train/{WEIGHTS}"),
            do(lambda: Path("cache/digests.json").write_text("{}")),
        ),
    ),
    Attack(
        "weights of the scorer replaced, killed generation",
        "generate",
        with_dir("generate"),
        "deep/generate",
        both(do(unfinish, "deep/generate"), do(lines, "deep/generate", lambda x: x[:9]), do(scale, LOOK_ENCODER)),
    ),
    Attack(
        "weights of the generator replaced between train and generate",
        "generate",
        with_dir("generate"),
        "deep/generate",
        both(do(shutil.rmtree, "deep/generate"), do(scale, "models/look_generator/unet/*.safetensors")),
    ),
    Attack(
        "weights of the captioner's scorer replaced between train and generate",
        "generate",
        with_dir("generate"),
        "deep/generate",
        both(do(shutil.rmtree, "deep/generate"), do(scale, LOOK_ENCODER)),
    ),
    Attack(
        "config.json of the generator edited between train and generate",
        "generate",
        with_dir("generate"),
        "deep/generate",
        both(do(shutil.rmtree, "deep/generate"), do(edit, "models/look_generator/unet/config.json", act_fn="gelu")),
    ),
    Attack(
        "latent statistics edited between train and generate",
        "generate",
        with_dir("generate"),
        "deep/generate",
        both(
            do(shutil.rmtree, "deep/generate"),
            do(replace_text, "models/look_generator/vae/latent_statistics.json", "0.", "1."),
        ),
    ),
    Attack(
        "weights of an exported pipeline of another training, killed generation",
        "generate",
        PIPED,
        "piped",
        both(
            do(unfinish, "piped"),
            do(lines, "piped", lambda x: x[:9]),
            do(copy_into, "other/pipeline/preference_encoder", "export/pipeline/preference_encoder"),
        ),
    ),
    Attack(
        "config.json of an exported encoder edited, killed generation",
        "generate",
        PIPED,
        "piped",
        both(
            do(unfinish, "piped"),
            do(lines, "piped", lambda x: x[:9]),
            do(edit, "export/pipeline/preference_encoder/config.json", placement="front"),
        ),
    ),
    Attack(
        "template of an exported pipeline edited, killed generation",
        "generate",
        PIPED,
        "piped",
        both(
            do(unfinish, "piped"),
            do(lines, "piped", lambda x: x[:9]),
            do(replace_text, "export/pipeline/model_index.json", '"max_items": 12', '"max_items": 2'),
        ),
    ),
    Attack(
        "records and pictures of all shards of another run",
        "generate",
        SHARDED["sharded"],
        "sharded",
        both(
            do(unfinish, "sharded"),
            *(
                do(copy_into, f"other_sharded/shards/{n}/{name}", f"sharded/shards/{n}/{name}")
                for n in range(2)
                for name in ("records.jsonl", "images")
            ),
        ),
    ),
    Attack(
        "records and pictures of one shard of another run",
        "generate",
        SHARDED["sharded"],
        "sharded",
        both(
            do(unfinish, "sharded"),
            *(
                do(copy_into, f"other_sharded/shards/1/{name}", f"sharded/shards/1/{name}")
                for name in ("records.jsonl", "images")
            ),
        ),
    ),
    Attack(
        "pictures of a shard swapped",
        "generate",
        SHARDED["sharded"],
        "sharded",
        both(do(unfinish, "sharded"), do(swap_all, "sharded/shards/0/images/pmg/own/*.png")),
    ),
    Attack(
        "rows of a shard of another evaluation",
        "evaluate",
        JUDGE,
        "sharded_judged",
        both(
            do(unfinish, "sharded_judged"),
            do(copy_into, "other_sharded_judged/shards/0/rows.parquet", "sharded_judged/shards/0/rows.parquet"),
        ),
        compare=results,
    ),
    # train
    Attack("killed training", "train", CHAIN, str(TRAIN), do(resume, "train")),
    Attack(
        "checkpoint of another run copied in",
        "train",
        CHAIN,
        str(TRAIN),
        both(
            do(resume, "train"),
            do(copy_into, "other/train/checkpoints/last.ckpt", "real_users/train/checkpoints/last.ckpt"),
        ),
    ),
    Attack(
        "weights in the checkpoint changed",
        "train",
        CHAIN,
        str(TRAIN),
        both(do(resume, "train"), do(spoil_checkpoint, "real_users/train/checkpoints/last.ckpt")),
    ),
    Attack(
        "data prepared again, killed training", "train", CHAIN, str(TRAIN), both(do(resume, "train"), prepare_again)
    ),
    Attack(
        "entries of the cache exchanged",
        "train",
        CHAIN,
        str(TRAIN),
        both(do(resume, "train"), do(swap_all, "cache/contexts/*/*.safetensors")),
    ),
    Attack(
        "weights of init_from replaced, finished run again",
        "train",
        [*CHAIN, "init_from=other/train", "run_dir=second"],
        "second",
        both(
            do(must, "train", [*CHAIN, "init_from=other/train", "run_dir=second"]),
            do(unfinish, "second"),
            do(copy_into, TRAIN / "encoder", "other/train/encoder"),
        ),
        honest="second",
    ),
    Attack(
        "config.json of init_from's encoder edited",
        "train",
        [*CHAIN, "init_from=other/train", "run_dir=second"],
        "second",
        do(edit, "other/train/encoder/config.json", placement="front"),
        honest="second",
    ),
    Attack(
        "weights of the generator replaced, killed training",
        "train",
        with_dir("train"),
        "deep/train",
        both(do(unfinish, "deep/train"), do(scale, "models/look_generator/unet/*.safetensors")),
    ),
    # export
    Attack(
        "encoder of another run copied in",
        "export",
        EXPORT,
        "export",
        do(copy_into, f"other/train/{WEIGHTS}", f"real_users/train/{WEIGHTS}"),
    ),
    Attack(
        "config.json of the encoder edited",
        "export",
        EXPORT,
        "export",
        both(do(shutil.rmtree, "export"), do(edit, "real_users/train/encoder/config.json", placement="front")),
        compare=lambda folder: (folder / "pipeline/preference_encoder/config.json").read_text(),
    ),
    Attack(
        "results of another run on the card",
        "export",
        [*EXPORT, "results=other/results.json"],
        "export/pipeline",
        do(shutil.rmtree, "export"),
        compare=is_measured,
    ),
    Attack(
        "results edited, for the card",
        "export",
        [*EXPORT, "results=real_users/results.json"],
        "export/pipeline",
        both(do(shutil.rmtree, "export"), do(replace_text, "real_users/results.json", '"mean": 0.', '"mean": 9.')),
        compare=is_measured,
    ),
    Attack(
        "weights of the generator replaced between train and export",
        "export",
        ["train_run=deep/train", "folder=deep/pipeline", "run_dir=deep/export", "paths.models_dir=models"],
        "deep/pipeline",
        both(
            do(shutil.rmtree, "deep/export"),
            do(shutil.rmtree, "deep/pipeline"),
            do(scale, "models/look_generator/vae/*.safetensors"),
        ),
    ),
    Attack(
        "weights of the captioner replaced between train and export, copied",
        "export",
        ["train_run=deep/train", "folder=deep/copied", "run_dir=deep/export2", "copy_frozen=true"],
        "deep/copied",
        do(scale, LOOK_ENCODER),
        honest="deep/pipeline",
    ),
    Attack(
        "config.yaml of the training edited: generator's seed",
        "export",
        EXPORT,
        "export",
        both(
            do(shutil.rmtree, "export"), do(replace_text, "real_users/train/config.yaml", "  seed: 0\n", "  seed: 7\n")
        ),
    ),
    # survey
    Attack(
        "pictures swapped, survey made",
        "survey",
        MAKE,
        "survey",
        both(do(shutil.rmtree, "survey"), lambda: swap(*pngs()[:2])),
        compare=shown,
    ),
    Attack(
        "data prepared again, survey made",
        "survey",
        MAKE,
        "survey",
        both(do(shutil.rmtree, "survey"), prepare_again),
        compare=shown,
    ),
    Attack(
        "config.yaml of the generation: shorter histories, survey made",
        "survey",
        MAKE,
        "survey",
        both(
            do(shutil.rmtree, "survey"),
            do(replace_text, "real_users/generate/config.yaml", "    history: 5", "    history: 2"),
        ),
        compare=shown,
    ),
    Attack(
        "key edited: methods exchanged",
        "survey",
        ANALYSE,
        "analysis",
        both(do(shutil.rmtree, "analysis"), exchange_methods),
        compare=results,
    ),
    Attack(
        "key of the survey of another run",
        "survey",
        ANALYSE,
        "analysis",
        both(do(shutil.rmtree, "analysis"), other_survey, do(copy_into, "survey2/key.json", "survey/key.json")),
        compare=results,
    ),
    Attack(
        "answers to the survey of another run",
        "survey",
        ANALYSE,
        "analysis",
        both(do(shutil.rmtree, "analysis"), other_survey, do(copy_into, "survey2", "survey")),
        compare=results,
    ),
    Attack(
        "results of another run beside the answers",
        "survey",
        [*(text for text in ANALYSE if not text.startswith("evaluation")), "evaluation=other"],
        "analysis",
        do(shutil.rmtree, "analysis"),
        compare=results,
    ),
    Attack(
        "rows of the evaluation exchanged",
        "survey",
        ANALYSE,
        "analysis",
        both(do(shutil.rmtree, "analysis"), do(copy_into, "other/rows.parquet", "real_users/rows.parquet")),
        compare=results,
    ),
    # study
    Attack(
        "encoder of another run in a study",
        "study",
        STUDY_RUN,
        "study",
        both(
            do(unfinish, "study"),
            do(shutil.rmtree, "study/generate"),
            do(shutil.rmtree, "study/evaluate"),
            do(copy_into, "other/train/encoder", "study/train/encoder"),
        ),
        compare=study_results,
    ),
    Attack(
        "results of a study edited, run again",
        "study",
        STUDY_RUN,
        "study",
        both(do(unfinish, "study"), do(replace_text, "study/results.json", '"mean": 0.', '"mean": 9.')),
    ),
    Attack(
        "results of a study removed, run again",
        "study",
        STUDY_RUN,
        "study",
        both(do(unfinish, "study"), do(Path("study/results.json").unlink)),
    ),
    Attack(
        "pictures of a study swapped, evaluated again",
        "study",
        STUDY_RUN,
        "study",
        both(do(unfinish, "study"), do(shutil.rmtree, "study/evaluate"), lambda: swap(*pngs("study/generate")[:2])),
    ),
    Attack(
        "records of another run in a study, finished",
        "study",
        STUDY_RUN,
        "study",
        both(
            do(unfinish, "study"),
            do(copy_into, "other/generate/records.jsonl", "study/generate/records.jsonl"),
            do(copy_into, "other/generate/images", "study/generate/images"),
        ),
    ),
    Attack(
        "data prepared again, finished study", "study", STUDY_RUN, "study", both(do(unfinish, "study"), prepare_again)
    ),
    # keywords
    Attack("data prepared again, finished run", "keywords", WORDS, "keywords", prepare_again, compare=shown),
    Attack(
        "entries of the cache exchanged",
        "keywords",
        WORDS,
        "keywords",
        both(do(shutil.rmtree, "keywords"), do(swap_all, "cache/contexts/*/*.safetensors")),
        compare=lambda folder: (folder / "keywords.jsonl").read_text(),
    ),
    Attack(
        "keywords edited, run again",
        "keywords",
        WORDS,
        "keywords",
        do(Path("keywords/keywords.jsonl").write_text, "{}\n"),
        compare=lambda f: (f / "keywords.jsonl").read_text(),
    ),
    # pretrain
    Attack(
        "weights of the autoencoder in `into` replaced, killed training",
        "pretrain",
        PRETRAIN,
        "pretrain",
        both(do(resume, "pretrain"), do(scale, "models/look_generator/vae/*.safetensors")),
    ),
    Attack("killed training", "pretrain", PRETRAIN, "pretrain", do(resume, "pretrain")),
    Attack(
        "weights of the autoencoder in `into` changed by 1 in 100, killed training",
        "pretrain",
        PRETRAIN,
        "pretrain",
        both(do(resume, "pretrain"), do(scale, "models/look_generator/vae/*.safetensors", 1.01)),
    ),
    Attack(
        "latent statistics in `into` edited, killed training",
        "pretrain",
        PRETRAIN,
        "pretrain",
        both(do(resume, "pretrain"), do(replace_text, "models/look_generator/vae/latent_statistics.json", "0.", "1.")),
    ),
    Attack(
        "pool of looks edited: last looks replaced, killed training",
        "pretrain",
        PRETRAIN,
        "pretrain",
        both(do(resume, "pretrain"), lambda: spoil_pool("pretrain/pool/train")),
    ),
    Attack(
        "words of the pool edited, killed training",
        "pretrain",
        PRETRAIN,
        "pretrain",
        both(do(resume, "pretrain"), lambda: spoil_words("pretrain/pool/train/words.json")),
    ),
    Attack(
        "data prepared again, killed training",
        "pretrain",
        PRETRAIN,
        "pretrain",
        both(do(resume, "pretrain"), prepare_again),
    ),
    Attack(
        "weights in the checkpoint changed",
        "pretrain",
        PRETRAIN,
        "pretrain",
        both(do(resume, "pretrain"), do(spoil_checkpoint, "pretrain/checkpoints/last.ckpt")),
    ),
    # report
    Attack(
        "pictures swapped, reported",
        "report",
        ["real_users", "--into", "report"],
        "report",
        lambda: swap_all("real_users/generate/images/pmg/own/*.png"),
        compare=shows_honest,
    ),
    Attack(
        "results edited, reported",
        "report",
        ["real_users", "--into", "report"],
        "report",
        do(replace_text, "real_users/results.json", '"mean": 0.', '"mean": 9.'),
        compare=counts_honest,
    ),
    Attack(
        "results of another run copied in, reported",
        "report",
        ["real_users", "--into", "report"],
        "report",
        do(copy_into, "other/results.json", "real_users/results.json"),
        compare=counts_honest,
    ),
    # the catalogue of drawings
    Attack(
        "looks: records and pictures of two users swapped",
        "evaluate",
        STUDY,
        "evaluate",
        lambda: swap(*pngs("generate")[:2]),
    ),
    Attack(
        "looks: another population of users in config.yaml",
        "evaluate",
        STUDY,
        "evaluate",
        do(replace_text, "generate/config.yaml", "noise: 0.", "noise: 1.0 # 0."),
    ),
)


def spoil_pool(folder: str) -> None:
    """Replaces all looks of a pool but the first, which is the one that is compared."""
    path = Path(folder, "pool.safetensors")
    tensors = load_file(path)
    tensors["latents"][1:] = torch.randn_like(tensors["latents"][1:].float()).half()
    save_file(tensors, path)


def spoil_words(path: str) -> None:
    """Exchanges the words of all looks of a pool but the first."""
    found = json.loads(Path(path).read_text())
    found["words"] = [found["words"][0], *([{"ground": "none"}] * len(look) for look in found["words"][1:])]
    Path(path).write_text(json.dumps(found))


def attack_contents(place: Path, whole: Path, only: str = "") -> list[dict[str, Any]]:
    """Tries every exchange; one row each.

    Args:
        place: a folder for the runs; made anew, but for its honest runs.
        whole: finished runs of `stages.py`: ``train``, ``generate``, ``evaluate`` and ``cache``.
        only: words of the attacks that are tried; empty: all.
    """
    random.seed(0)

    def furnish(base: Path) -> None:
        """Makes the honest runs, and adds the finished ones."""
        furnish_base(base)
        for name in ("train", "generate", "evaluate", "cache"):
            shutil.copytree(whole / name, base / name, dirs_exist_ok=True)

    base = honest_runs(place, furnish)
    chosen = [attack for attack in ATTACKS if only in f"{attack.verb} {attack.attack}"]
    return [_try(attack, place, base) for attack in chosen]


def honest_runs(place: Path, furnish: Callable[[Path], None]) -> Path:
    """Returns the folder of the honest runs in `place`; `furnish` makes them where it isn't complete."""
    base = place / "base"
    if not (base / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        furnish(base)
        (base / "complete").touch()
    return base


def copy_runs(base: Path, place: Path, symlinks: bool = False) -> Path:
    """Returns a new copy of the honest runs, which an attack may change."""
    folder = place / "attacked"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder, symlinks=symlinks)
    return folder


def _try(attack: Attack, place: Path, base: Path) -> dict[str, Any]:
    folder = copy_runs(base, place)
    with inside(folder):
        attack.spoil()
        code, said = call(attack.verb, attack.arguments)
        for verb, arguments in attack.more if code == 0 else ():
            code, said = call(verb, arguments)
    compare = attack.compare or made
    mixed = code == 0 and _honest(attack, base, compare) != compare(folder / attack.made)
    return {"attack": attack.attack, "command": attack.verb, "code": code, "said": said, "mixed": mixed}


def _honest(attack: Attack, base: Path, compare: Callable[[Path], object]) -> object:
    """What the honest run gave; made first where it is none of the base."""
    folder = base / (attack.honest or attack.made)
    if not folder.exists():
        with inside(base):
            must(attack.verb, attack.arguments)
    return compare(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the runs; honest ones that are there are taken")
    parser.add_argument("words", nargs="*", help="of the attacks that are tried; none: all")
    given = parser.parse_args()
    where = given.folder.resolve()
    undisturbed = honest_runs(where / "whole", run_undisturbed)
    for row in attack_contents(where / "contents", undisturbed, " ".join(given.words)):
        print(*row.values(), sep=" | ", flush=True)
