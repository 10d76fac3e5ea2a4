"""The generator's text encoder as the language model: it reads histories with the same weights."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from pmg_janus.published import Janus

from checkpoints import qwen3, write_flux2_klein, write_janus, write_qwen_image, write_sd3, write_z_image
from pmg.domain import PmgError
from pmg.families.flux2_klein import Flux2Klein
from pmg.families.qwen_image import QwenImage
from pmg.families.shared_language_model import SharedLanguageModel
from pmg.families.stable_diffusion_3 import StableDiffusion3
from pmg.families.z_image import ZImage, ZImageTextEncoder
from pmg.models.language.language_model import LanguageModel
from pmg.models.preference.preference_encoder import build_preference_encoder
from pmg.models.tiny_models import tiny_language_model
from scores import score_shared_options

pytestmark = [pytest.mark.slow, pytest.mark.ci]

CASES = {
    "z_image": (ZImage, write_z_image, (-2,)),
    "flux2_klein": (Flux2Klein, write_flux2_klein, (9, 18, 27)),
    "qwen_image": (QwenImage, write_qwen_image, (-1,)),
}
TEXTS = ["Stickers that a person sent:\nred apple\n", "Stickers that a person sent:\na dog face, a rocket\n"]
PROMPTS = ["red apple", "a ghost with a crown"]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory, case):
    family, write, _ = case
    return family.load(write(tmp_path_factory.mktemp("model")), size=64, max_length=256).text_encoder


@pytest.fixture(scope="module")
def lm(text_encoder):
    return SharedLanguageModel(chat=False).of(text_encoder)


def tensors(*modules):
    """The distinct weights of modules, by where they are in memory."""
    weights = chain.from_iterable(module.parameters() for module in modules)
    return {weight.data_ptr(): weight.nbytes for weight in weights}


def test_all_weights_are_the_text_encoders(text_encoder, lm):
    together, alone = sum(tensors(text_encoder, lm).values()), sum(tensors(text_encoder).values())
    head = 0 if text_encoder.head is None else text_encoder.head.weight.nbytes
    assert together == alone + head
    assert alone + sum(tensors(lm).values()) > 1.9 * alone  # two models


@torch.no_grad()
def test_soft_tokens_are_read_at_the_pipelines_layers(text_encoder, lm, case):
    _, _, layers = case
    embeds = lm.embed(torch.tensor(lm.token_ids(" favourite style")))
    got = lm.multimodal_states(lm.prefill(TEXTS), embeds)
    assert got.shape[-1] == text_encoder.width == lm.state_width
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([lm.tokenizer(text).input_ids + lm.token_ids(" favourite style")])
        states = text_encoder.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
        wanted = torch.cat([states[layer] for layer in layers], dim=-1)[0, -len(embeds) :]
        assert (got[row] - wanted).norm() / wanted.norm() < 1e-5


@torch.no_grad()
def test_the_map_starts_as_the_identity(text_encoder, lm):
    context = lm.prefill(TEXTS)
    sample = text_encoder.encode(TEXTS, padded=False).tokens.flatten(0, 1)
    encoder = build_preference_encoder(lm, sample, context, "favourite style", soft_tokens=2, map_start="identity")
    assert torch.equal(encoder(lm, context), encoder.states(lm, context))
    assert encoder.train()(lm, context.select([0])).shape == (1, 2, text_encoder.width)


@torch.no_grad()
def test_prompts_see_neither_history_nor_prefix(text_encoder, lm):
    before = text_encoder.encode(PROMPTS)
    prefix = torch.randn(lm.layers, 2, lm.kv_heads, 3, lm.head_dim)
    lm.multimodal_states(lm.prefill(TEXTS), torch.randn(2, lm.width), prefix)
    after = text_encoder.encode(PROMPTS)
    assert torch.equal(before.tokens, after.tokens)
    assert torch.equal(before.pooled, after.pooled)


@torch.no_grad()
def test_keywords_are_scored_by_the_models_head(text_encoder, lm):
    head = text_encoder.head or torch.nn.Linear(1, 1).requires_grad_(False)
    if text_encoder.head is None:
        head.weight = text_encoder.model.get_input_embeddings().weight
        head.bias = None
    scores = score_shared_options(lm, lm.prefill(TEXTS[:1]), "Their shading is", [" flat"])
    ids = lm.tokenizer(TEXTS[0]).input_ids + lm.token_ids("Their shading is")
    answer = lm.token_ids(" flat")
    states = text_encoder.model(input_ids=torch.tensor([ids + answer]), use_cache=False).last_hidden_state[0]
    logits = head(states).log_softmax(-1)[len(ids) - 1 : -1]
    torch.testing.assert_close(scores[0, 0], logits[range(len(answer)), answer].sum(), rtol=1e-4, atol=1e-4)


def test_gradients_reach_embeddings_and_prefix_and_no_weight(lm):
    embeds = torch.randn(2, lm.width, requires_grad=True)
    prefix = torch.randn(lm.layers, 2, lm.kv_heads, 3, lm.head_dim, requires_grad=True)
    lm.multimodal_states(lm.prefill(TEXTS), embeds, prefix).sum().backward()
    assert embeds.grad.abs().max() > 0
    assert prefix.grad.abs().max() > 0
    assert all(weight.grad is None for weight in lm.parameters())


def test_a_text_encoder_that_is_no_language_model_is_refused(tmp_path):
    generator = StableDiffusion3.load(write_sd3(tmp_path))
    with pytest.raises(PmgError, match=r"this generator's is no language model\. Use generator=z_image"):
        SharedLanguageModel().of(generator.text_encoder)


def test_input_embeddings_of_a_generator_of_image_tokens_are_no_language_model(tmp_path):
    generator = Janus.load(write_janus(tmp_path))
    with pytest.raises(PmgError, match=r"this generator's is no language model\. Use generator=z_image"):
        SharedLanguageModel().of(generator.text_encoder)


def test_a_text_encoder_without_head_and_tied_embeddings_is_refused():
    model, tokenizer = qwen3(2)
    model.config.tie_word_embeddings = False
    text_encoder = ZImageTextEncoder(model.model, tokenizer, 96, str, (-2,))
    with pytest.raises(PmgError, match="has no head, and its embeddings aren't tied to one"):
        SharedLanguageModel().of(text_encoder)


def test_other_language_models_stay_as_they_are():
    lm: LanguageModel = tiny_language_model()
    assert lm.of(ZImageTextEncoder(lm.model.model, lm.tokenizer, 96, str, (-2,))) is lm


def test_an_identity_between_other_widths_is_refused():
    lm = tiny_language_model()
    with pytest.raises(PmgError, match=r"states are 32 wide, the text tokens 8\. Use map_start=scaled"):
        build_preference_encoder(lm, torch.zeros(4, 8), lm.prefill(TEXTS), "a", map_start="identity")
