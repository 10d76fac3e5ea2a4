"""Tells commands to write into folders that aren't theirs: each must refuse, and the folder stays as it is.

python experiments/foreign_folders.py outputs/attacks
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from content_attacks import (
    CHAIN,
    EXPORT,
    SHOP,
    SURVEY,
    WORDS,
    call,
    copy_runs,
    find_models,
    honest_runs,
    inside,
    must,
    open_shop,
)

PRETRAIN = [
    "stage=look_autoencoder", "stage.batch_size=2", "trainer=cpu", "trainer.precision=32-true", "trainer.max_steps=2",
    "stage.autoencoder.encoder_block_out_channels=[8,8,8,16]", "data.topics=[animal-mammal]", "name=deep",
    "stage.autoencoder.decoder_block_out_channels=[8,8,8,16]", "trainer.val_check_interval=2", "run_dir=pretrain",
    "trainer.limit_val_batches=1", "paths.output_dir=.", "paths.cache_dir=cache", "trainer.log_every_n_steps=1",
]  # fmt: skip
POOLED = [
    "stage=look_unet", "stage.batch_size=8", "trainer=cpu", "trainer.precision=32-true", "trainer.max_steps=2",
    "stage.pool.looks=4", "stage.pool.held_out_looks=4", "data.topics=[animal-mammal]", "text_encoder=minilm",
    "stage.training.model.denoiser.model.block_out_channels=[16,16]", "trainer.val_check_interval=2", "name=deep",
    "stage.training.model.denoiser.model.attention_head_dim=[2,2]", "run_dir=pretrain", "paths.output_dir=.",
    "stage.training.model.style_encoder.channels=16", "trainer.limit_val_batches=1", "paths.cache_dir=cache",
]  # fmt: skip
MAKE = [*SURVEY, "generate_run=real_users/generate"]
PROJECT = {
    "README.md": "# Mine\n", "config.yaml": "a: 1\n", "model_index.json": "{}\n", "src/mine.py": "print(1)\n",
    "results.json": "{}\n", "items.parquet": "x", "pictures/me.png": "x", "encoder/config.json": "{}",
    "checkpoints/last.ckpt": "x", "records.jsonl": "", "table.md": "mine", "csv/notes.csv": "a,b\n",
    "metrics.csv": "x", "index.html": "<p>", "summary.md": "# Mine", "figures/mine.png": "x", "words.json": "{}",
    "look_generator/vae/config.json": "{}", "look_generator/vae/diffusion_pytorch_model.safetensors": "x",
    "train/pool.safetensors": "x", "digests.json": "{}", "prepared.json": "{}", "answers.sqlite": "x",
    "0/config.yaml": "b: 2\n", "shards/0/records.jsonl": "x", "judged/mine.parquet": "x", "key.json": "{}",
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """A command that is told to write into a foreign folder.

    Attributes:
        command: the verb.
        arguments: of its command line.
        target: the foreign folder.
        kind: what it is.
        before: done first, in the folder with all of them.
        environment: variables of the command.
        place: the folder that the command starts in.
        new: a new folder in the target that may be the command's.
    """

    command: str
    arguments: Sequence[str]
    target: str
    kind: str = "a project"
    before: Callable[[], object] = lambda: None
    environment: dict[str, str] = field(default_factory=dict)
    place: str = "."
    new: str = "/"


def contents(folder: Path) -> dict[str, str]:
    """A digest of each file and link; locks are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file() and "lock" not in path.name:
            found[name] = sha256(path.read_bytes()).hexdigest()
    return found


def write_project(folder: Path = Path("project")) -> None:
    """Writes a user's project, whose files have the names of those that commands write."""
    for name, text in PROJECT.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def furnish_base(base: Path) -> None:
    """Makes runs of several commands, a project, and links to both."""
    base.mkdir(parents=True)
    with inside(base):
        open_shop(Path("shop"), 0)
        must("prepare", SHOP)
        for verb in ("train", "generate", "evaluate"):
            must(
                verb, [*CHAIN, f"run_dir=real_users/{verb}", *([] if verb != "evaluate" else ["results_dir=results"])]
            )
        must("survey", MAKE)
        must("keywords", WORDS)
        must("export", EXPORT)
        must("report", ["real_users", "--into", "report"])
        write_project()
        for name in ("project", "real_users/generate", "results"):
            Path(f"link_to_{Path(name).name}").symlink_to(Path(name).resolve().relative_to(base.resolve()))
        shutil.copytree(find_models(), "models")
        Path("link_to_models").symlink_to("models")


def instead(arguments: Sequence[str], *named: str) -> list[str]:
    """Arguments with other values of some keys."""
    keys = tuple(f"{text.partition('=')[0]}=" for text in named)
    return [*(text for text in arguments if not text.startswith(keys)), *named]


EVALUATE = [*CHAIN, "results_dir=results"]
TRAINED = "real_users/train"
ASSETS = {"PMG_ASSETS": "models"}
TRIALS = (
    *(
        Trial(verb, instead(arguments, f"run_dir={target}"), real, kind)
        for verb, arguments in (
            ("train", CHAIN),
            ("generate", CHAIN),
            ("evaluate", EVALUATE),
            ("study", CHAIN),
            ("export", EXPORT),
            ("survey", MAKE),
            ("keywords", WORDS),
            ("prepare", SHOP),
            ("pretrain", PRETRAIN),
        )
        for target, real, kind in (
            ("project", "project", "a project"),
            ("link_to_project", "project", "a link to a project"),
            ("project/src", "project", "a folder in a project"),
        )
    ),
    *(
        Trial(verb, instead(arguments, "run_dir=."), "project", "a project, run_dir=. in it", place="project")
        for verb, arguments in (
            ("train", [*CHAIN, "paths.data_dir=../data", "paths.cache_dir=../cache"]),
            (
                "evaluate",
                [*CHAIN, "generate_run=../real_users/generate", "paths.data_dir=../data", "paths.cache_dir=../cache"],
            ),
            ("export", instead(EXPORT, "train_run=../real_users/train", "folder=../new")),
            ("survey", instead(MAKE, "generate_run=../real_users/generate")),
        )
    ),
    # another run, and another command's folder
    Trial("train", instead(CHAIN, "run_dir=real_users/generate"), "real_users/generate", "another command's"),
    Trial("train", instead(CHAIN, "run_dir=link_to_generate"), "real_users/generate", "a link to another command's"),
    Trial("generate", instead(CHAIN, "run_dir=real_users/train"), TRAINED, "another command's"),
    Trial("train", [*CHAIN, "optimizer.lr=0.5"], TRAINED, "another run"),
    Trial(
        "evaluate",
        [*CHAIN, "run_dir=new", "results_dir=real_users/generate"],
        "real_users/generate",
        "results_dir: a run",
    ),
    Trial(
        "evaluate",
        [*CHAIN, "run_dir=new", "results_dir=link_to_generate"],
        "real_users/generate",
        "results_dir: a link",
    ),
    Trial("evaluate", [*CHAIN, "run_dir=new", "results_dir=project"], "project", "results_dir: a project"),
    Trial("evaluate", [*CHAIN, "run_dir=new", "results_dir=project/src"], "project", "results_dir: in a project"),
    Trial(
        "evaluate",
        [*CHAIN, "run_dir=new", "results_dir=results", "metrics=lpips_truth"],
        "results",
        "results of another run",
    ),
    Trial("evaluate", [*CHAIN, "run_dir=new", "results_dir=export/pipeline"], "export", "results_dir: a pipeline"),
    Trial("evaluate", [*CHAIN, "run_dir=new", "results_dir=data/own_files"], "data", "results_dir: prepared data"),
    Trial(
        "evaluate", [*CHAIN, "run_dir=new", "results_dir=real_users/train/encoder"], TRAINED, "results_dir: in a run"
    ),
    Trial(
        "evaluate",
        [*CHAIN, "run_dir=new", "results_dir=models/look_judge"],
        "models",
        "results_dir: models",
        environment=ASSETS,
    ),
    Trial("keywords", [*WORDS, "run_dir=new", "results_dir=results"], "results", "results of pmg-evaluate"),
    Trial("keywords", [*WORDS, "run_dir=new", "results_dir=survey"], "survey", "results_dir: a survey"),
    Trial("survey", [*MAKE, "run_dir=real_users/generate"], "real_users/generate", "the run that is judged"),
    Trial("survey", instead(SURVEY, "generate_run=real_users/generate", "seed=4"), "survey", "another survey"),
    Trial("export", instead(EXPORT, "run_dir=new", "folder=project"), "project", "folder: a project"),
    Trial("export", instead(EXPORT, "run_dir=new", "folder=link_to_project"), "project", "folder: a link"),
    Trial("export", instead(EXPORT, "run_dir=new", "folder=project/src"), "project", "folder: in a project"),
    Trial("export", instead(EXPORT, "run_dir=new", "folder=real_users/train"), TRAINED, "folder: the training"),
    Trial("export", instead(EXPORT, "run_dir=new", "folder=real_users/train/encoder"), TRAINED, "folder: the encoder"),
    Trial("export", instead(EXPORT, "run_dir=new", "folder=results"), "results", "folder: results"),
    Trial("export", instead(EXPORT, "run_dir=new", "folder=data/own_files"), "data", "folder: prepared data"),
    Trial(
        "export",
        instead(EXPORT, "run_dir=new", "folder=models/pipeline"),
        "models",
        "folder: the assets",
        environment=ASSETS,
    ),
    Trial(
        "export",
        instead(EXPORT, "run_dir=new", "folder=link_to_models/pipeline"),
        "models",
        "folder: a link to the assets",
        environment=ASSETS,
    ),
    # data
    Trial("prepare", [*instead(SHOP, "run_dir=new"), "data.folder=project"], "project", "data.folder: a project"),
    Trial("prepare", [*instead(SHOP, "run_dir=new"), "source.folder=project"], "project", "source.folder: a project"),
    Trial("prepare", [*instead(SHOP, "run_dir=new"), "data.folder=shop"], "shop", "data.folder: its own sources"),
    Trial("prepare", [*instead(SHOP, "run_dir=new"), "data.folder=real_users/train"], TRAINED, "data.folder: a run"),
    Trial("prepare", [*instead(SHOP, "run_dir=new"), "data.folder=results"], "results", "data.folder: results"),
    Trial(
        "prepare",
        [*instead(SHOP, "run_dir=new"), "data.folder=models/drawings"],
        "models",
        "data.folder: the assets",
        environment=ASSETS,
    ),
    Trial(
        "prepare",
        [*instead(SHOP, "run_dir=new"), "paths.data_dir=project"],
        "project",
        "paths.data_dir: a project",
        new="own_files/",
    ),
    Trial(
        "prepare",
        [*instead(SHOP, "run_dir=new"), "paths.data_dir=project", "data.folder=new2"],
        "project",
        "paths.data_dir: a project with a prepared.json",
        before=lambda: Path("project/prepared.json").write_text("[1]"),
    ),
    Trial(
        "prepare",
        [*instead(SHOP, "run_dir=new"), "source.pictures.size=32", "data.folder=export/pipeline"],
        "export",
        "data.folder: a pipeline",
    ),
    # pretraining
    Trial("pretrain", [*PRETRAIN, "stage.folder=project"], "project", "stage.folder: a project"),
    Trial("pretrain", [*PRETRAIN, "stage.folder=pretrain/../project"], "project", "stage.folder: .. to a project"),
    Trial("pretrain", [*PRETRAIN, "card.folder=project"], "project", "card.folder: a project"),
    Trial("pretrain", [*PRETRAIN, "into=project"], "project", "into: a project"),
    Trial("pretrain", [*PRETRAIN, "into=link_to_project"], "project", "into: a link to a project"),
    Trial("pretrain", [*PRETRAIN, "into=models"], "models", "into: the assets", environment=ASSETS),
    Trial("pretrain", [*PRETRAIN, "into=link_to_models"], "models", "into: a link to the assets", environment=ASSETS),
    Trial("pretrain", [*PRETRAIN, "into=real_users/train"], TRAINED, "into: a run"),
    Trial("pretrain", [*PRETRAIN, "into=data/own_files"], "data", "into: prepared data"),
    Trial("pretrain", [*POOLED, "stage.pool.folder=project"], "project", "stage.pool.folder: a project"),
    Trial("pretrain", [*POOLED, "stage.pool.folder=real_users/train"], TRAINED, "stage.pool.folder: a run"),
    Trial("pretrain", [*POOLED, "stage.pool.folder=export/pipeline"], "export", "stage.pool.folder: a pipeline"),
    Trial(
        "pretrain",
        [*POOLED, "stage.pool.folder=models/look_generator"],
        "models",
        "stage.pool.folder: the assets",
        environment=ASSETS,
    ),
    Trial(
        "pretrain",
        [*POOLED, "stage.pool.folder=link_to_models/look_generator"],
        "models",
        "stage.pool.folder: a link to the assets",
        environment=ASSETS,
    ),
    # paths, sweeps and reports
    Trial("train", [*CHAIN, "run_dir=new", "paths.cache_dir=project"], "project", "paths.cache_dir: a project"),
    Trial(
        "train",
        [*CHAIN, "run_dir=new", "paths.cache_dir=models"],
        "models",
        "paths.cache_dir: the assets",
        environment=ASSETS,
    ),
    Trial("train", [*CHAIN, "run_dir=new", "paths.contexts_dir=project"], "project", "paths.contexts_dir: a project"),
    Trial(
        "train",
        [*CHAIN, "run_dir=new", "paths.contexts_dir=real_users/generate"],
        "real_users/generate",
        "paths.contexts_dir: a run",
    ),
    Trial("train", [*CHAIN, "run_dir=new", "paths.latents_dir=project"], "project", "paths.latents_dir: a project"),
    Trial("train", instead(CHAIN, "run_dir=models/new"), "models", "run_dir: in the assets", environment=ASSETS),
    Trial(
        "train",
        [*instead(CHAIN, "paths.output_dir=project"), "run_dir=${paths.output_dir}/src"],
        "project",
        "paths.output_dir: a project",
    ),
    Trial("train", ["-m", "optimizer.lr=0.1,0.2", *CHAIN, "run_dir=project"], "project", "a sweep in a project"),
    Trial(
        "train",
        ["-m", "optimizer.lr=0.1,0.2", *CHAIN, "run_dir=real_users/generate"],
        "real_users/generate",
        "a sweep in a run",
    ),
    Trial(
        "train",
        ["-m", "optimizer.lr=0.1,0.2", *CHAIN, "hydra.sweep.dir=project"],
        "project",
        "hydra.sweep.dir: a project",
    ),
    Trial(
        "train",
        ["-m", "optimizer.lr=0.1,0.2", *CHAIN, "hydra.sweep.dir=new", "hydra.sweep.subdir=../project"],
        "project",
        "hydra.sweep.subdir: .. to a project",
    ),
    Trial("train", [*CHAIN, "run_dir=new", "hydra.run.dir=project"], "project", "hydra.run.dir: a project"),
    Trial("train", [*CHAIN, "run_dir=new", "hydra.output_subdir=../project"], "project", "hydra.output_subdir"),
    Trial("report", ["real_users", "--into", "project"], "project", "--into: a project"),
    Trial("report", ["real_users", "--into", "real_users/train"], TRAINED, "--into: a run"),
    Trial("report", ["real_users", "--into", "link_to_project"], "project", "--into: a link"),
    Trial("report", ["real_users", "--into", "project/look_generator"], "project", "--into: a folder in a project"),
    Trial(
        "report",
        ["real_users", "--into", "page"],
        "page",
        "--into: a web page with pictures of one's own",
        before=lambda: write_project(Path("page")),
    ),
    # folders that look like a run's: hidden files, logs, folders that hold a run
    Trial(
        "train",
        instead(CHAIN, "run_dir=hidden"),
        "hidden",
        "hidden files alone",
        before=lambda: _write("hidden/.train.log"),
    ),
    Trial("train", instead(CHAIN, "run_dir=logs"), "logs", "logs alone", before=lambda: _write("logs/train.log")),
    Trial(
        "train",
        instead(CHAIN, "run_dir=holds"),
        "holds",
        "a project that holds a run in encoder",
        before=lambda: (_write("holds/encoder/config.json"), _write("holds/encoder/a/metrics.json")),
    ),
    Trial(
        "export",
        instead(EXPORT, "run_dir=new", "folder=holds"),
        "holds",
        "folder: a project that holds runs in a folder",
        before=lambda: (
            _write("holds/preference_encoder/config.json"),
            _write("holds/preference_encoder/a/metrics.json"),
        ),
    ),
    Trial("train", instead(CHAIN, "run_dir=real_users"), "real_users", "the folder of many runs"),
)


def _write(name: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"mine": 1}\n')


def attack_folders(place: Path, only: str = "") -> list[dict[str, Any]]:
    """Tries every foreign folder; one row each.

    Args:
        place: a folder for the runs; made anew, but for its honest runs.
        only: words of the trials that are made; empty: all.
    """
    base = honest_runs(place, furnish_base)
    chosen = [trial for trial in TRIALS if only in f"{trial.command} {trial.kind}"]
    return [_try(trial, place, base) for trial in chosen]


def _try(trial: Trial, place: Path, base: Path) -> dict[str, Any]:
    folder = copy_runs(base, place, symlinks=True)
    with inside(folder), _environment(trial.environment):
        trial.before()
        target = Path(trial.target).resolve()
        earlier = contents(target)
        with inside(folder / trial.place):
            code, said = call(trial.command, trial.arguments)
        now = contents(target)
    changed = sorted(
        name for name in {*earlier, *now} if earlier.get(name) != now.get(name) and not name.startswith(trial.new)
    )
    return {
        "command": trial.command, "target": trial.kind, "code": code, "said": said, "changed": changed,
    }  # fmt: skip


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Any:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: str(Path(value).resolve()) for name, value in values.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


if __name__ == "__main__":
    where = Path(sys.argv[1]).resolve()
    for row in attack_folders(where / "folders", " ".join(sys.argv[2:])):
        print(*row.values(), sep=" | ", flush=True)
