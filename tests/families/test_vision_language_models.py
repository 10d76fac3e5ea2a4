"""Vision-language models: cached histories with pictures, against the whole models of transformers, and refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import (
    write_gemma3,
    write_language_model,
    write_qwen2_vl,
    write_qwen3_vl,
    write_qwen25_vl,
    write_smolvlm,
)
from pmg.domain import PmgError
from pmg.families.common.vision_language_model import VisionLanguageModel
from pmg.families.gemma3 import Gemma3
from pmg.families.qwen_vl import Qwen2VL, Qwen3VL, Qwen25VL
from pmg.families.smolvlm import SmolVLM
from pmg.models.compilation import compile_models, uncompiled
from pmg.models.language.context import Context
from pmg.models.language.picture_marks import mark_picture
from pmg.models.preference.prefix_placement import PLACEMENTS
from scores import score_shared_options

pytestmark = [pytest.mark.slow, pytest.mark.ci]


@dataclass(frozen=True)
class Case:
    """A family, and what writes a checkpoint of it."""

    family: type[VisionLanguageModel]
    write: Any


CASES = {
    "smolvlm": Case(SmolVLM, write_smolvlm),
    "qwen2_vl": Case(Qwen2VL, write_qwen2_vl),
    "qwen25_vl": Case(Qwen25VL, write_qwen25_vl),
    "qwen3_vl": Case(Qwen3VL, write_qwen3_vl),
    "gemma3": Case(Gemma3, write_gemma3),
}
IMAGES = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1
MARKS = [mark_picture(image.add(1).mul(127).byte()) for image in IMAGES]
TEXTS = [
    f"Stickers that a person sent:\nred apple: {MARKS[0]}\ndog face: {MARKS[1]}\n",
    "Stickers that a person sent:\nrocket\n",
    f"{MARKS[2]}",
]
SHOWN = [[0, 1], [], [2]]
BEHIND = "Their favourite shading is"


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, case):
    return case.write(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def lm(folder, case):
    return case.family.load(folder, "float32", 4, chat=False)


@pytest.fixture(scope="module")
def context(lm):
    features = lm.encode_pictures(IMAGES)
    return lm.prefill(TEXTS, batch_size=2, pictures=[list(features[row]) for row in SHOWN])


def whole_states(lm, text, images):
    """The whole model's last hidden states of a text with its pictures, by its own attention, without a cache."""
    tokens = torch.cat([lm.tokenize(text), torch.tensor(lm.token_ids(BEHIND))])[None]
    inputs = lm._processed(images) | lm.reference_inputs(tokens == lm.picture_token) if len(images) else {}
    chosen, _ = lm.attention, lm.model.set_attn_implementation({"text_config": "sdpa"})
    try:
        return lm.model.base_model(input_ids=tokens, **inputs, use_cache=False).last_hidden_state[0]
    finally:
        lm.set_attention(chosen)


def states_behind(lm, context, text):
    ids = torch.tensor(lm.token_ids(text))
    return lm.multimodal_states(context, lm.embed(ids))


def likeliest(lm, context, count):
    """The text that goes on behind one history, token by token, read anew for each."""
    tokens = lm.token_ids(BEHIND)
    for _ in range(count):
        states = lm.multimodal_states(context, lm.embed(torch.tensor(tokens)))[0, -1]
        tokens.append(int(lm.model.get_output_embeddings()(states).argmax()))
    return lm.tokenizer.decode(tokens[-count:], skip_special_tokens=True)


@torch.no_grad()
def test_states_behind_pictures_equal_those_of_the_whole_model(lm, context):
    got = states_behind(lm, context, BEHIND)
    for row, text in enumerate(TEXTS):
        wanted = whole_states(lm, text, IMAGES[SHOWN[row]])[-got.shape[1] :]
        assert (got[row] - wanted).norm() / wanted.norm() < 1e-5


@torch.no_grad()
def test_contexts_survive_the_cache(lm, context):
    again = Context.from_tensors(context.to_tensors(), [2, 0])
    both = states_behind(lm, again, BEHIND)
    assert torch.equal(both, states_behind(lm, context.select([2, 0]), BEHIND))


@torch.no_grad()
def test_states_depend_on_pictures(lm, context):
    other = lm.encode_pictures(IMAGES.flip(0))
    changed = lm.prefill(TEXTS[:1], pictures=[list(other[:2])])
    difference = states_behind(lm, changed, BEHIND) - states_behind(lm, context.select([0]), BEHIND)
    assert difference.abs().max() > 1e-3


def test_options_and_texts_follow_pictures(lm, context):
    options = [" flat", " soft gradients"]
    scores = score_shared_options(lm, context.select([0]), BEHIND, options)[0]
    for option, score in zip(options, scores, strict=True):
        ids = torch.tensor(lm.token_ids(option))
        behind = torch.cat([torch.tensor(lm.token_ids(BEHIND)), ids])
        states = lm.multimodal_states(context.select([0]), lm.embed(behind))[0, -len(ids) - 1 : -1]
        logits = lm.model.get_output_embeddings()(states).log_softmax(-1)
        torch.testing.assert_close(score, logits[range(len(ids)), ids].sum().detach(), rtol=1e-4, atol=1e-4)
    assert lm.generate(context.select([0]), BEHIND, 3) == [likeliest(lm, context.select([0]), 3)]


def test_gradients_reach_soft_tokens_and_prefix(lm, context):
    embeds = torch.randn(2, lm.width, requires_grad=True)
    prefix = torch.randn(lm.layers, 2, lm.kv_heads, 3, lm.head_dim, requires_grad=True)
    lm.multimodal_states(context, embeds, prefix).sum().backward()
    assert embeds.grad.abs().max() > 0
    assert prefix.grad.abs().max() > 0


def test_the_chat_template_surrounds_pictures(folder, case, lm):
    chat = case.family.load(folder, "float32", 4)
    ids = chat.tokenize(TEXTS[0]).tolist()
    assert chat.tokenizer.decode(ids).startswith("<|user|>Stickers")
    assert ids.count(chat.picture_token) == lm.tokenize(TEXTS[0]).tolist().count(lm.picture_token) == 8


class WithoutDeepstack(Qwen3VL):
    def layer_inputs(self, shows, features):
        return {}


class WithoutRows(Qwen2VL):
    def positions(self, padded, real, shows):
        return VisionLanguageModel.positions(self, padded, real, shows)


class OneWay(Gemma3):
    def visible(self, real, shows):
        return VisionLanguageModel.visible(self, real, shows)


@pytest.mark.parametrize(
    ("wrong", "write"),
    [(WithoutDeepstack, write_qwen3_vl), (WithoutRows, write_qwen2_vl), (OneWay, write_gemma3)],
)
def test_the_check_at_loading_finds_what_a_context_lacks(wrong, write, tmp_path):
    with pytest.raises(PmgError, match="can't be used with cached histories"):
        wrong.load(write(tmp_path), "float32", 4)


@torch.no_grad()
def test_a_history_of_gemma_may_be_longer_than_its_window(tmp_path):
    lm = Gemma3.load(write_gemma3(tmp_path, sliding_window=16), "float32", 4, chat=False)
    context = lm.prefill(TEXTS[:1], pictures=[list(lm.encode_pictures(IMAGES[:2]))])
    assert len(context.tokens[0]) > 2 * 16
    got = states_behind(lm, context, BEHIND)[0]
    wanted = whole_states(lm, TEXTS[0], IMAGES[:2])[-len(got) :]
    assert (got - wanted).norm() / wanted.norm() < 1e-5
    assert lm.generate(context, BEHIND, 3) == [likeliest(lm, context, 3)]


def test_positions_behind_a_picture_are_its_rows(tmp_path):
    lm = Qwen2VL.load(write_qwen2_vl(tmp_path), "float32", 9, chat=False)
    context = lm.prefill([f"a{MARKS[0]}"], pictures=[list(lm.encode_pictures(IMAGES[:1]))])
    assert len(context.tokens[0]) == 1 + 1 + 9 + 1
    assert int(context.ends[0]) == 1 + 1 + 3 + 1


@pytest.mark.parametrize(
    ("name", "budget", "tokens"), [("smolvlm", 64, 16), ("smolvlm", 5, 4), ("qwen2_vl", 24, 16), ("gemma3", 9, 4)]
)
def test_pictures_stay_within_the_budget(name, budget, tokens, tmp_path):
    lm = CASES[name].family.load(CASES[name].write(tmp_path), "float32", budget)
    assert lm.picture_tokens.count(lm.picture_token) == tokens == lm.encode_pictures(IMAGES[:1]).shape[2]


def test_a_gemma_with_a_smaller_budget_is_refused(tmp_path):
    with pytest.raises(PmgError, match="tokens_per_picture is 3, and this Gemma 3 reads each picture as 4 tokens"):
        Gemma3.load(write_gemma3(tmp_path), "float32", 3)


def test_a_prefix_in_front_is_refused(tmp_path):
    lm = SmolVLM.load(write_smolvlm(tmp_path), "float32", 4)
    with pytest.raises(PmgError, match=r"placement=front .* Use placement=late"):
        PLACEMENTS["front"](lm, lm.prefill(["a"]), torch.zeros(1, lm.width), None)


def drop_file(name):
    return lambda folder: Path(folder, name).unlink()


def drop_token(folder):
    path = Path(folder, "tokenizer.json")
    content = json.loads(path.read_text())
    content["added_tokens"] = [one for one in content["added_tokens"] if one["content"] != "<global-img>"]
    path.write_text(json.dumps(content))
    config = Path(folder, "tokenizer_config.json")
    config.write_text(config.read_text().replace('"<global-img>"', '"<end>"'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_file("preprocessor_config.json"), "has no image processor that can be read"),
        (drop_file("tokenizer.json"), "has no tokenizer that can be read"),
        (drop_file("model.safetensors"), "can't load the language model"),
        (drop_token, "the tokenizer has no token '<global-img>', which frames pictures"),
    ],
)
def test_a_missing_component_is_named_in_one_line(damage, message, tmp_path):
    write_smolvlm(tmp_path)
    damage(tmp_path)
    with pytest.raises(PmgError, match=message) as caught:
        SmolVLM.load(str(tmp_path), "float32", 4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", [write_language_model, write_qwen2_vl])
def test_another_family_is_refused_in_one_line(write, tmp_path):
    with pytest.raises(PmgError, match=r"is a (llama|qwen2_vl), and this encoder reads a smolvlm\.") as caught:
        SmolVLM.load(write(tmp_path), "float32", 4)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_features_that_enter_behind_a_layer_enter_there_between_groups(tmp_path, generator):
    lm = Qwen3VL.load(write_qwen3_vl(tmp_path), "float32", 4, chat=False)
    features = list(lm.encode_pictures(torch.linspace(-1, 1, 3 * 40**2).view(1, 3, 40, 40)))
    text = f"Stickers: {mark_picture(torch.zeros(3, 40, 40, dtype=torch.uint8))}"
    before = lm.prefill([text], pictures=[features])
    compile_models(generator, lm, tmp_path / "compiled")
    with uncompiled():
        after = lm.prefill([text], pictures=[features])
    for got, kept in zip((*after.keys, *after.values), (*before.keys, *before.values), strict=True):
        assert torch.equal(got, kept)
