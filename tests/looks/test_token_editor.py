"""The token editor: what it learns from, what it changes, and soft tokens of users who ask for something."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from looks import SPACE, fit_stage, save_codec
from pmg.data.chats import USER
from pmg.domain import PmgError, Turn
from pmg.installation import find_assets
from pmg.looks.dataset import LookDataset
from pmg.looks.drawings import LookData
from pmg.looks.measured_captions import MeasuringCaptioner
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.looks.models.token_editor import TokenEditor
from pmg.looks.stages.editor import (
    LOOKS,
    PICTURES,
    EditBatches,
    EditPool,
    LookEditorStage,
    LookEditorTraining,
    LookGroups,
    agreed,
    alter,
)
from pmg.looks.stages.pool import look_rng
from pmg.looks.style_tokens import EditedTokens, StyleTokens, edit_tokens
from pmg.looks.users import LookUsers
from pmg.models.loading.weight_sources import load_frozen
from pmg.models.tiny_models import tiny_text_encoder
from pmg.preferences.scenarios import Attribute
from pmg.preferences.wishes import Wishes
from pmg.training.optim import adamw, constant

TOKENS, WIDTH, WORDS = 2, 8, 32
ATTRIBUTES = {
    "ground": Attribute("Ground:", ("white ground", "black ground")),
    "outline": Attribute("Outline:", ("no outline", "thick dark outline")),
}


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """A folder with a codec, a style encoder and an editor, untrained but for noise in its last layer."""
    folder = tmp_path_factory.mktemp("generator")
    save_codec(data, folder)
    torch.manual_seed(0)
    StyleEncoder(in_channels=4, channels=16, tokens=TOKENS, width=WIDTH, heads=2).save_pretrained(
        folder / "style_encoder"
    )
    editor = TokenEditor(TOKENS, WIDTH, WORDS, hidden=16, layers=1)
    for weights in editor.out[-1].parameters():
        nn.init.normal_(weights)
    editor.mean.copy_(torch.randn(TOKENS, WIDTH))
    editor.save_pretrained(folder / "token_editor")
    return folder


@pytest.fixture(scope="module")
def data():
    return LookData(f"{find_assets()}/drawings", ["food-fruit", "animal-mammal", "tool"], SPACE, ["twemoji"], 0)


@pytest.fixture(scope="module")
def stage(folder):
    """A stage that draws two groups for training and eight for validation, with a captioner that measures."""
    return LookEditorStage(
        folder=str(folder / "trained"), generator_folder=str(folder),
        pool=EditPool(str(folder / "pool"), 2, MeasuringCaptioner("{ground}, {outline}, {palette}")),
        text_encoder=tiny_text_encoder(width=WORDS), unknown=0.1, mixed=0.3,
        editor=partial(TokenEditor, hidden=32, layers=1, dropout=0.0),
        training=partial(LookEditorTraining, optimizer=adamw(3e-3), lr_scheduler=constant), batch_size=8,
    )  # fmt: skip


@pytest.fixture(scope="module")
def built(stage, data):
    return stage.build(data, 0)


def test_an_untrained_editor_changes_nothing_and_a_trained_one_what_is_spoken_of():
    torch.manual_seed(0)
    editor = TokenEditor(TOKENS, WIDTH, WORDS, hidden=16).eval()
    tokens, options = torch.randn(1, TOKENS, WIDTH), torch.randn(1, 3, WORDS)
    spoken = torch.tensor([[True, False, True]])
    assert torch.equal(editor(tokens, options, spoken), tokens)
    nn.init.normal_(editor.out[-1].weight)
    edited = editor(tokens, options, spoken)
    other = options.clone()
    other[:, 1] = 9.0
    assert torch.equal(editor(tokens, other, spoken), edited)  # no message speaks of the second
    assert torch.allclose(editor(tokens, options[:, [2, 1, 0]], spoken), edited, atol=1e-6)
    assert not torch.allclose(editor(tokens, options, ~spoken), edited, atol=1e-3)


def test_altered_finishes_differ_in_a_part_or_two(data):
    finish = SPACE.sample(look_rng(0, "finish", 0))
    first, *others = alter(data, finish, look_rng(0, "altered", 0), seen=True)
    assert first == finish
    assert len(others) == LOOKS - 1
    assert all(SPACE.is_seen(each) and each != finish for each in others)


def test_an_option_describes_a_look_where_most_pictures_show_it():
    four = [{"ground": "white ground"}] * 4 + [{"ground": "black ground"}] * 2
    assert agreed(four) == ["white ground"]
    assert agreed(four[1:]) == [""]
    assert len(four) == PICTURES


def test_pairs_speak_of_what_differs_and_sometimes_of_one_attribute_more():
    tokens = torch.randn(1, 2, TOKENS, WIDTH).half()
    words = torch.tensor([[[0, 1, 2], [0, 3, 2]]])
    batches = EditBatches(LookGroups(tokens, words, list("abcd")), torch.eye(4), unknown=0.0, mixed=0.0)
    batch = batches(torch.zeros(40, dtype=torch.long), torch.Generator().manual_seed(0))
    for start, end, options, spoken in zip(*map(batch.get, ("start", "end", "options", "spoken")), strict=True):
        place = int(torch.equal(start, tokens[0, 0].float()))  # of the look that is wanted
        assert torch.equal(end, tokens[0, place].float())
        assert torch.equal(options, torch.eye(4)[words[0, place]])
        assert spoken[1]
        assert spoken.sum() <= 2
    assert 0 < int((batch["spoken"].sum(1) == 2).sum()) < 20
    none = replace(batches, groups=replace(batches.groups, words=torch.full((1, 2, 3), -1)))
    batch = none(torch.zeros(4, dtype=torch.long), torch.Generator().manual_seed(0))
    assert torch.equal(batch["start"], batch["end"])  # nothing is known that differs
    assert not batch["spoken"].any()


def test_a_stage_learns_saves_and_reads_its_pool_again(built, stage, data, folder, tmp_path, monkeypatch):
    module, batches = built
    with torch.no_grad():
        before = sum(float(module.errors(batches.train.batch(step)).mean()) for step in range(20))
    monkeypatch.setattr("pmg.looks.stages.editor.draw_groups", Mock(side_effect=AssertionError("drawn again")))
    module = fit_stage(stage, data, tmp_path, 150)
    with torch.no_grad():
        after = sum(float(module.errors(batches.train.batch(step)).mean()) for step in range(20))
    assert after < 0.8 * before
    measured = stage.save_and_evaluate((module, batches), data)
    assert measured.keys() == {"explained", "explained_without_editing"}
    saved = load_frozen(TokenEditor, stage.folder)
    assert torch.allclose(saved.mean, module.editor.mean, atol=1e-2)  # it is saved in half precision
    with pytest.raises(PmgError, match="learns from looks that it changes: data=looks"):
        stage.build(object(), 0)


def read_first(messages, attributes, text_encoder):
    """A reader of wishes: the attribute's last option where its name is said."""
    return [
        Wishes({name: one.options[-1:] for name, one in attributes.items() if name in " ".join(said)})
        for said in messages
    ]


def test_who_asks_for_nothing_has_the_mean_and_who_liked_nothing_the_mean_of_all_looks(folder):
    users = LookUsers(2, 2, 2, 1, 4, 6, noise=0.2, several=0.5, spread=0.03, seed=0)
    topics = ["food-fruit", "animal-mammal", "tool"]
    data = LookDataset(f"{find_assets()}/drawings", topics, SPACE, ["twemoji"], 0, users)
    silent = data.examples("test", users=1)[0]
    speaks = replace(silent, conversation=(Turn(USER, "another ground, and an outline"),))
    new = replace(silent, history=())
    texts = tiny_text_encoder(width=WORDS)
    codec = SimpleNamespace(encode=lambda images: torch.nn.functional.avg_pool2d(images, 8)[:, [0, 1, 2, 0]])
    context = SimpleNamespace(
        examples=[silent, speaks, new, replace(new, conversation=speaks.conversation)], images=data.images,
        captions={}, generator=SimpleNamespace(encode_images=codec.encode, text_encoder=texts),
        extractor=SimpleNamespace(scenario=SimpleNamespace(attributes=ATTRIBUTES, max_items=12)),
    )  # fmt: skip
    given = {"folder": str(folder / "style_encoder"), "pictures": 12, "alone": True}
    source = EditedTokens(**given, wishes=read_first, editor_folder=str(folder / "token_editor"))
    tokens = source(context)
    context.examples = [silent]
    assert torch.equal(tokens[0], StyleTokens(**given)(context)[0])
    editor = load_frozen(TokenEditor, folder / "token_editor")
    assert torch.equal(tokens[2], editor.mean)
    asked = {"ground": "black ground", "outline": "thick dark outline"}
    for row, start in ((1, tokens[0]), (3, editor.mean)):
        assert not torch.allclose(tokens[row], start, atol=1e-2)
        (alone,) = edit_tokens(editor, texts, start[None], [asked])
        assert torch.allclose(tokens[row], alone, atol=1e-5)
