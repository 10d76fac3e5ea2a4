"""Both placements of a prefix, against a full forward pass that caches nothing of a history, and against peft."""

from __future__ import annotations

import copy

import pytest
import torch

from passes import full_pass
from pmg.models.language.context import Context
from pmg.models.preference.prefix_placement import PLACEMENTS, Prefix

TEXTS = ("red apple, flat", "dog: thick black outline, black and white, flat", "ghost")
M, N = 5, 3
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def parts(lm, hidden=None):
    torch.manual_seed(1)
    prefix = Prefix(lm.layers, lm.kv_heads, lm.head_dim, M, hidden, std=1.0)
    return torch.randn(N, lm.width, requires_grad=True), prefix


@pytest.mark.parametrize("hidden", [None, 16])
@pytest.mark.parametrize(("placement", "first"), [("late", 0), ("front", M)])
def test_a_placement_equals_a_full_forward_pass(language_model, placement, first, hidden):
    embeds, prefix = parts(language_model, hidden)
    got = PLACEMENTS[placement](language_model, language_model.prefill(TEXTS), embeds, prefix())
    for row, text in enumerate(TEXTS):
        states, _ = full_pass(language_model, text, embeds, prefix(), first, placement == "front")
        torch.testing.assert_close(got[row], states, **CLOSE)


def test_front_takes_the_first_positions(build):
    lm = build("llama")
    embeds, prefix = parts(lm)
    got = PLACEMENTS["front"](lm, lm.prefill(TEXTS[:1]), embeds, prefix())
    elsewhere, _ = full_pass(lm, TEXTS[0], embeds, prefix(), 0, True)
    assert (got[0] - elsewhere).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own calls
@pytest.mark.parametrize("family", ["llama", "llama-full"])
def test_front_and_its_gradient_equal_peft(build, family):
    peft = pytest.importorskip("peft")
    lm = build(family)
    embeds, prefix = parts(lm)
    got = PLACEMENTS["front"](lm, lm.prefill(TEXTS), embeds, prefix())
    model = copy.deepcopy(lm.model)
    model.set_attn_implementation("eager")
    theirs = peft.get_peft_model(model, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=M))
    pairs = theirs.prompt_encoder["default"].embedding.weight
    assert pairs.shape == prefix.pairs.shape
    pairs.data.copy_(prefix.pairs)
    expected = []
    for text in TEXTS:
        ids = torch.tensor([lm.tokenizer(text).input_ids])
        inputs = torch.cat([lm.embeddings[ids], embeds[None]], dim=1)
        mask = torch.ones(inputs.shape[:2])
        states = theirs(inputs_embeds=inputs, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
        expected.append(states[0, -N:])
    expected = torch.stack(expected)
    torch.testing.assert_close(got, expected, **CLOSE)
    direction = torch.randn_like(got)
    (mine,) = torch.autograd.grad((got * direction).sum(), prefix.pairs)
    (other,) = torch.autograd.grad((expected * direction).sum(), pairs)
    torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


def test_gradient_of_front_reaches_the_prefix_through_the_history(build):
    lm = build("llama")
    embeds, prefix = parts(lm)
    pairs = prefix().detach().requires_grad_()
    states = PLACEMENTS["front"](lm, lm.prefill(TEXTS[:1]), embeds, pairs)
    # the same history behind the same prefix, but as a constant: what is left is the way through soft tokens alone
    _, cache = full_pass(lm, TEXTS[0], embeds, pairs.detach(), M, True)
    length = len(lm.tokenizer(TEXTS[0]).input_ids)
    keys, values = (
        torch.stack([getattr(layer, name)[0, :, M : M + length].transpose(0, 1) for layer in cache.layers]).detach()
        for name in ("keys", "values")
    )
    read = lm.prefill(TEXTS[:1])
    constant = lm.extend(
        Context((keys,), (values,), read.tokens, read.ends), embeds[None], M + torch.arange(N),
        torch.ones(N, N, dtype=torch.bool).tril(), pairs,
    )  # fmt: skip
    torch.testing.assert_close(states, constant, **CLOSE)
    direction = torch.randn_like(states)
    whole, soft_alone = (
        torch.autograd.grad((some * direction).sum(), pairs, retain_graph=True)[0] for some in (states, constant)
    )
    torch.testing.assert_close(whole[-1], soft_alone[-1], rtol=1e-3, atol=1e-4)  # no layer follows to carry it on
    for layer in range(lm.layers - 1):
        assert (whole[layer] - soft_alone[layer]).abs().max() > 0.1 * soft_alone[layer].abs().max()


def test_without_a_prefix_both_are_the_same(language_model):
    context, embeds = language_model.prefill(TEXTS), torch.randn(N, language_model.width)
    late, front = (PLACEMENTS[name](language_model, context, embeds, None) for name in ("late", "front"))
    torch.testing.assert_close(late, front, **CLOSE)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_batch_and_order_of_users_do_not_matter(build, placement):
    lm = build("llama")
    embeds, prefix = parts(lm)
    context = lm.prefill(TEXTS)
    together = PLACEMENTS[placement](lm, context, embeds, prefix())
    for order in ([2, 0, 0], [1], [0, 2]):
        some = PLACEMENTS[placement](lm, context.select(order), embeds, prefix())
        torch.testing.assert_close(some, together[order], **CLOSE)


def test_front_reads_again_and_late_does_not(build):
    lm = build("llama")
    embeds, prefix = parts(lm)
    context = lm.prefill(TEXTS)
    history, soft = int(context.lengths.sum()), len(TEXTS) * N
    counts = {}
    for name, read in PLACEMENTS.items():
        before = lm.tokens_computed, lm.tokens_reused
        read(lm, context, embeds, prefix())
        counts[name] = lm.tokens_computed - before[0], lm.tokens_reused - before[1]
    assert counts == {"late": (soft, history), "front": (history + soft, 0)}


def test_stored_joined_and_selected_contexts_keep_their_tokens(build):
    lm = build("llama")
    context = lm.prefill(TEXTS, batch_size=2)
    stored = Context.from_tensors(context.select([2, 1]).to_tensors(), range(2))
    joined = Context.concatenate([stored, lm.prefill(TEXTS[:1])])
    for some, order in ((context, [0, 1, 2]), (stored, [2, 1]), (joined, [2, 1, 0])):
        tokens, mask = some.padded_tokens(), some.padding_mask()
        for place, text in enumerate(order):
            assert tokens[place][mask[place]].tolist() == lm.tokenizer(TEXTS[text]).input_ids
