"""Contents are exchanged below commands: no command takes them for what an honest run read or made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from fault_runs import (
    ARGUMENTS,
    CHAIN,
    MODELS,
    OTHER,
    SHOP,
    SURVEY,
    HonestRuns,
    call,
    kill_when,
    made,
    must,
    open_shop,
    start,
)


@dataclass(frozen=True)
class Attack:
    """An exchange, and the commands that meet it; see contents.yaml."""

    name: str
    runs: tuple[str, str]
    made: str
    steps: list[list[Any]]
    expected: str = ""
    same: str = "files"
    honest: str = ""
    then: tuple[str, str] | None = None
    upto: str = "study of drawings"


def read_attacks():
    groups = yaml.safe_load(Path(__file__).with_name("contents.yaml").read_text())
    for group in groups:
        for name, steps in group.pop("attacks").items():
            expected = steps[-1] if isinstance(steps[-1], str) else ""
            yield Attack(name, steps=[step for step in steps if step != expected], expected=expected, **group)


def change_json(path: str, change: Callable[[Any], Any]) -> None:
    """Writes what `change` makes of a JSON file."""
    Path(path).write_text(json.dumps(change(json.loads(Path(path).read_text())), indent=2))


def edit(path, values):
    change_json(path, lambda found: found | values)


def unfinish(folder):
    """Makes a run look killed at its very end."""
    edit(f"{folder}/metrics.json", {"status": "running", "made": {}})


def resume(folder):
    """Puts what is left of a killed run in place of the finished one."""
    shutil.rmtree(folder)
    shutil.copytree(f"killed/{folder}", folder)


def copy(source, target, *names):
    for name in names:
        path = Path(target, name)
        if Path(source, name).is_dir():
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(Path(source, name), path)
        else:
            shutil.copy(Path(source, name), path)


def remove(*names):
    for path in map(Path, names):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def replace(name, old, new):
    text = Path(name).read_text()
    assert old in text, f"{name} has no {old}"
    Path(name).write_text(text.replace(old, new))


def matches(pattern):
    paths = sorted(Path().glob(pattern))
    assert paths, pattern
    return paths


def exchange(paths):
    """Exchanges the contents of files in a ring."""
    contents = [path.read_bytes() for path in paths]
    assert len(set(contents)) > 1, paths
    for path, content in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)


def redden(folder):
    for path in matches(f"{folder}/images/pmg/own/*.png"):
        Image.new("RGB", Image.open(path).size, "red").save(path)


ORDERS = {
    "without_last": lambda lines: lines[:-1],
    "without_first": lambda lines: lines[1:],
    "first_twice": lambda lines: [*lines, lines[0]],
    "reversed": lambda lines: lines[::-1],
    "first_nine": lambda lines: lines[:9],
}


def change_records(folder, change):
    path = Path(folder, "records.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    changed = change(lines)
    assert changed != lines
    path.write_text("".join(changed))


def edit_record(values, *without):
    """Changes values of the first record; without its checksum, it is as a version without checksums wrote it."""

    def change(lines):
        record = {key: value for key, value in (json.loads(lines[0]) | values).items() if key not in without}
        return [json.dumps(record, ensure_ascii=False) + "\n", *lines[1:]]

    change_records("real_users/generate", change)


def scale(pattern, by=1.3):
    """Scales the weights of a model in place: same names, shapes and size of the file."""
    for path in matches(pattern):
        tensors = load_file(path)
        changed = {name: value * by if value.is_floating_point() else value for name, value in tensors.items()}
        save_file(changed, path, {"format": "pt"})


def spoil_checkpoint(path):
    """Changes the weights of a checkpoint; types, shapes and the signature stay."""
    saved = torch.load(path, weights_only=True)
    for value in saved["state_dict"].values():
        if value.is_floating_point():
            value.mul_(1.5)
    torch.save(saved, path)


def spoil_pool(folder):
    """Replaces all looks of a pool but the first, which is the one that is compared."""
    path = Path(folder, "pool.safetensors")
    tensors = load_file(path)
    tensors["latents"][1:] = torch.randn_like(tensors["latents"][1:].float()).half()
    save_file(tensors, path)


def spoil_words(path):
    """Replaces the words of all looks of a pool but the first."""
    change_json(
        path,
        lambda found: (
            found | {"words": [found["words"][0], *([{"ground": "none"}] * len(look) for look in found["words"][1:])]}
        ),
    )


def prepare_again():
    """Prepares other content with the same ids into the same folder."""
    open_shop(Path("shop"), 1)
    must("prepare", *SHOP, "run_dir=prepare3")


def exchange_pictures():
    """Exchanges the pictures of the shop alone, for some of the same sizes and dates, and prepares them elsewhere."""
    items = Path("shop/items.csv").read_text()
    open_shop(Path("shop"), 1, 1e9)
    Path("shop/items.csv").write_text(items)
    must("prepare", *SHOP, "run_dir=prepare3", "data.folder=fresh")
    Path("data/prepared.json").unlink()


def other_data():
    """Prepares another data set beside the first."""
    open_shop(Path("shop2"), 1)
    sources = [text.replace("shop/", "shop2/") for text in SHOP]
    must("prepare", *sources, "data.folder=data/second", "run_dir=prepare2")


def exchange_methods():
    """Exchanges the methods of a survey's key."""

    def change(found):
        names = {"none": "pmg", "pmg": "none"}
        for shown in found["images"].values():
            shown["method"] = names.get(shown["method"], shown["method"])
        return found

    change_json("survey/key.json", change)


STEPS = {
    **{function.__name__: function for function in (
        edit, unfinish, resume, copy, remove, replace, redden, edit_record, scale, spoil_checkpoint, spoil_pool,
        spoil_words, prepare_again, exchange_pictures, other_data, exchange_methods,
    )},
    "write": lambda name, text: Path(name).write_text(text),
    "rename": lambda name, new: Path(name).rename(new),
    "touch": lambda pattern: [path.touch() for path in matches(pattern)],
    "rotate": lambda pattern: exchange(matches(pattern)),
    "swap_pictures": lambda folder: exchange(matches(f"{folder}/images/pmg/own/*.png")[:2]),
    "records": lambda folder, order: change_records(folder, ORDERS[order]),
    "other_survey": lambda: must("survey", *SURVEY, "generate_run=other/generate", "run_dir=survey2"),
}  # fmt: skip


def results(folder, *without):
    found = json.loads((folder / "results.json").read_text())
    return {name: part for name, part in found.items() if name not in ("cost", "revision", "digest", *without)}


def texts(folder):
    """What a run wrote for people, without what differs between two honest runs."""
    names = ("*.json", "*.md", "*.html", "*.csv", "*.jsonl")
    paths = sorted(path for name in names for path in folder.glob(name))
    return [path.read_text() for path in paths if path.name not in ("metrics.json", ".pmg.json")]


def pictures(folder):
    text = (folder / "index.html").read_text()
    return [part.split('"')[0] for part in text.split("data:image/webp;base64,")[1:]]


def numbers(folder):
    table = pd.read_parquet(folder / "table.parquet")
    shown = table[table["method"] != ""][["method", "control", "metric", "value", "n"]]
    return set(shown.astype(str).itertuples(index=False, name=None))


def in_order(some, others):
    rest = iter(others)
    return all(one in rest for one in some)


def equal(read):
    return lambda honest, attacked: read(honest) == read(attacked)


def is_fresh(honest, attacked):
    """Whether prepared pictures are those that a new preparation of the same sources gives."""
    fresh = attacked.parents[1] / "fresh"
    return (fresh / "pictures/00000.arrow").read_bytes() == (attacked / "pictures/00000.arrow").read_bytes()


SAME = {
    "files": equal(made),
    "results": equal(lambda folder: results(folder, "records")),
    "results_of_study": equal(lambda folder: results(folder, "records", "config")),  # it names the training's folder
    "texts": equal(texts),
    "keywords": equal(lambda folder: (folder / "keywords.jsonl").read_text()),
    "encoder": equal(lambda folder: (folder / "preference_encoder/config.json").read_text()),
    "card": equal(lambda folder: "Measured on test users" in (folder / "README.md").read_text()),
    "fresh_pictures": is_fresh,
    # a report leaves out a run that was changed: without an evaluation it shows what the generation measured itself
    "shown_pictures": lambda honest, attacked: in_order(pictures(attacked), pictures(honest)),
    "shown_numbers": lambda honest, attacked: (
        numbers(attacked) <= numbers(honest) | numbers(honest.with_name("report_generate"))
    ),
}


def prepare():
    open_shop(Path("shop"), 0, 1e9)
    must("prepare", *SHOP)


def kill_runs():
    """Leaves what is left of a killed training and generation in the folder ``killed``; ends both."""
    for verb, reached in (
        ("train", Path("real_users/train/checkpoints/last.ckpt").exists),
        ("generate", lambda: _count_records("real_users/generate") >= 12),
    ):
        assert kill_when(start(verb, CHAIN), reached)
        shutil.copytree(f"real_users/{verb}", f"killed/real_users/{verb}")
        must(verb, *CHAIN)


def _count_records(folder):
    path = Path(folder, "records.jsonl")
    return path.read_text().count("\n") if path.exists() else 0


def run_others():
    """Evaluates the runs and those of another training."""
    must("evaluate", *CHAIN)
    for verb in ("train", "generate", "evaluate"):
        must(verb, *OTHER, f"run_dir=other/{verb}", *(["results_dir=other"] if verb == "evaluate" else []))
    must("train", *ARGUMENTS["second"])


def ask():
    """Makes a survey, and analyses the answers of two raters who prefer the left side."""
    must("survey", *ARGUMENTS["survey"])
    Path("answers").mkdir()
    key = json.loads(Path("survey/key.json").read_text())
    for slot, plan in enumerate(key["plans"]):
        answers = [
            {"task": n, "seconds": 3.0, "value": {"accuracy": 3, "preference": 4} if task[0] == "rating" else "left"}
            for n, task in enumerate(plan)
        ]
        rater = {"survey": key["survey"], "rater": f"{slot:032x}", "slot": slot, "consent": True, "answers": answers}
        Path("answers", f"answers-{rater['rater']}.json").write_text(json.dumps(rater))
    must("survey", *ARGUMENTS["answers"])


def run_rest():
    """Keywords, pipelines, a report, a study, and runs in shards."""
    must("keywords", *ARGUMENTS["words"])
    must("export", *ARGUMENTS["export"])
    must("export", "train_run=other/train", "folder=other/pipeline", "run_dir=other/export")
    must("generate", *ARGUMENTS["piped"])
    must("report", *ARGUMENTS["report"])
    must("report", "real_users/generate", "--into", "report_generate")
    must("study", *ARGUMENTS["whole_study"])
    for name, more in (("sharded", []), ("other_sharded", ["train_run=other/train"])):
        arguments = [*CHAIN, "shard.count=2", f"run_dir={name}", *more]
        must("generate", *arguments)
        judged = f"generate_run={name} run_dir={name}_judged results_dir={name}_judged".split()
        must("evaluate", *arguments, *judged)


def run_deep():
    """Runs with the shipped models, a copy of them, and a pretraining, which is killed and ends."""
    shutil.copytree(MODELS, "models", ignore=shutil.ignore_patterns("*.egg-info", "build"))
    for verb in ("train", "generate", "evaluate", "export"):
        must(verb, *ARGUMENTS[f"deep_{verb}"])
    assert kill_when(start("pretrain", ARGUMENTS["denoiser"]), Path("pretrain/checkpoints/last.ckpt").exists)
    shutil.copytree("pretrain", "killed/pretrain")
    must("pretrain", *ARGUMENTS["denoiser"])


def run_drawings():
    for verb in ("train", "generate", "evaluate"):
        must(verb, *ARGUMENTS["study"])


@pytest.fixture(scope="module")
def honest_runs(tmp_path_factory):
    makers = {
        "prepare": prepare, "killed runs": kill_runs, "other runs": run_others, "survey": ask, "rest": run_rest,
        "deep": run_deep, "study of drawings": run_drawings,
    }  # fmt: skip
    return HonestRuns(tmp_path_factory.mktemp("contents") / "honest", makers)


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(
            attack, id=f"{attack.runs[0]}: {attack.name}", marks=() if attack.upto == "prepare" else pytest.mark.slow
        )
        for attack in read_attacks()
    ],
)
def test_exchanged_contents_are_refused_or_change_no_result(attack, honest_runs, tmp_path, outcome):
    honest = honest_runs.upto(attack.upto) / (attack.honest or attack.made)
    with honest_runs.copied(attack.upto, tmp_path / "attacked"):
        for step, *arguments in attack.steps:
            STEPS[step](*arguments)
        code = 0
        for verb, arguments in (attack.runs, attack.then) if attack.then else (attack.runs,):
            if code == 0:
                code, said = call(verb, ARGUMENTS[arguments])
        outcome(
            "exchanged contents",
            attack.runs[0],
            attack.name,
            "refused in one line" if code else "the honest result",
            said if code else "",
        )
        assert (code != 0) == bool(attack.expected), said
        assert attack.expected in said
        assert code or SAME[attack.same](honest, Path(attack.made).absolute())
