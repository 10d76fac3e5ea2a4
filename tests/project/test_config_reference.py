"""Comments under conf say what each option is and what its keys mean; the configuration reference is made of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONF = (ROOT / "conf", *sorted(ROOT.glob("plugins/*/src/*/conf")))
OVERRIDES = ("experiment", "hparams_search", "debug")  # groups whose files set keys of others


@pytest.fixture(scope="module")
def reference():
    """The module that writes the reference, a hook of the site."""
    spec = importlib.util.spec_from_file_location("config_reference", ROOT / "docs" / "hooks" / "config_reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def unsaid(reader):
    """Returns the keys without a meaning, each with its file."""
    return [
        f"{reader.path(name)}: {key.name}"
        for name in reader.names
        if name.partition("/")[0] not in OVERRIDES
        for key in reader.option(name).keys
        if not key.comment and not key.name.endswith(("_target_", "_partial_"))
    ]


def test_every_option_file_opens_with_a_comment_that_says_what_it_is(reference):
    reader = reference.Reader(*CONF)
    assert [str(reader.path(name)) for name in reader.names if not reader.option(name).comment] == []


def test_every_key_of_an_option_file_has_a_comment_that_says_what_it_means(reference):
    found = unsaid(reference.Reader(*CONF))
    assert not found, "no comment, neither behind the key nor above it:\n" + "\n".join(found)


def test_a_key_without_a_comment_is_found(reference, tmp_path):
    files = {
        "train": "# trains\ndefaults: [generator: large]\nsteps: 3 # of the training\nrest: 1\n",
        "generator/small": "# a small one\n_target_: pmg.Small\nsize: 64 # pixels a side\nseed: 0\n",
        "generator/large": "# a large one\ndefaults: [small]\nsize: 256\ncodec: {side: 8}\n",
        "stage/first": "# @package _global_\n# the first stage\nsteps: 5\ngenerator: {size: 32}\nstage:\n  width: 1\n",
        "scenario/mugs": '# mugs\nattributes: # by name: questions\n  colour: {question: "Which colour?"}\n',
    }
    for name, text in files.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    reader = reference.Reader(tmp_path)
    assert [line.removeprefix(f"{tmp_path}/") for line in unsaid(reader)] == [
        "generator/large.yaml: generator.codec.side",  # no file that it extends has it
        "generator/small.yaml: generator.seed",
        "stage/first.yaml: stage.width",  # the others are keys of the command and of another group
        "train.yaml: rest",
    ]
    (attributes,) = reader.option("scenario/mugs").keys
    assert (attributes.default, attributes.comment) == ("colour", "by name: questions")
    (size, _) = reader.option("generator/large").keys
    assert (size.default, size.comment) == ("256", "pixels a side")
