"""Language models of many families, as checkpoints in the true layout, by one interface."""

from __future__ import annotations

import pytest
import torch
import transformers as tf

from checkpoints import write_language_model
from pmg.domain import PmgError
from pmg.models.language.compatibility import longest_sequence
from pmg.models.language.language_model import load_language_model
from pmg.models.language.option_scoring import Question
from pmg.models.preference.preference_encoder import model_sizes
from pmg.models.preference.prefix_placement import PLACEMENTS
from pmg.models.preference.visual_encoder import SeenHistories, VisualPreferenceEncoder

TEXTS = ("red apple, flat", "dog: thick black outline, black and white, flat", "ghost")
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content | trim }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256, "pad_token_id": None, "bos_token_id": None, "eos_token_id": 0,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
FAMILIES = {
    "llama": tf.LlamaConfig(**GROUPED),
    "multi_query": tf.LlamaConfig(**{**GROUPED, "num_key_value_heads": 1}),
    "qwen2": tf.Qwen2Config(**GROUPED, tie_word_embeddings=True),
    "qwen3": tf.Qwen3Config(**{**GROUPED, "head_dim": 16}),
    "mistral": tf.MistralConfig(**GROUPED, sliding_window=128),
    "mixtral": tf.MixtralConfig(**GROUPED, num_local_experts=4),
    "phi3": tf.Phi3Config(**{**GROUPED, "pad_token_id": 0}),
    "smollm3": tf.SmolLM3Config(**{**GROUPED, "pad_token_id": 0}),
    "gemma2": tf.Gemma2Config(**{**GROUPED, "pad_token_id": 0}, sliding_window=128, query_pre_attn_scalar=8),
    "gemma3": tf.Gemma3TextConfig(**{**GROUPED, "pad_token_id": 0}, sliding_window=128, query_pre_attn_scalar=8),
    "granite": tf.GraniteConfig(**{**GROUPED, "pad_token_id": 0}, logits_scaling=2.0),
    "cohere": tf.CohereConfig(**{**GROUPED, "pad_token_id": 0}, logit_scale=0.5),
    "gpt_neox": tf.GPTNeoXConfig(**SIZES),
}
REFUSED = {
    "bloom": tf.BloomConfig(hidden_size=32, n_layer=2, n_head=4),  # positions by distance from the end
    "mamba": tf.MambaConfig(hidden_size=32, num_hidden_layers=2),  # a state, no keys
}


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    return write_language_model(tmp_path, FAMILIES[request.param])


def load(folder, **options):
    return load_language_model(folder, "float32", "unused", **options)


def test_kept_histories_give_what_the_librarys_own_pass_gives(folder):
    """Log-probabilities of options behind histories of different length, against one plain pass for each."""
    lm = load(folder)
    questions = [Question(" Their favourite is", (" flat", " thick black outline"))]
    got = lm.score_options(lm.prefill(TEXTS), [questions] * len(TEXTS))
    plain = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for text, (scores,) in zip(TEXTS, got, strict=True):
        for option, score in zip(questions[0].options, scores, strict=True):
            start = lm.tokenizer(text).input_ids + lm.token_ids(questions[0].prompt)
            end = lm.token_ids(option)
            with torch.no_grad():
                logits = plain(torch.tensor([start + end])).logits[0, len(start) - 1 : -1]
            expected = logits.log_softmax(-1)[torch.arange(len(end)), torch.tensor(end)].sum()
            torch.testing.assert_close(score, expected, rtol=1e-4, atol=1e-3)


def test_written_texts_are_those_of_the_library(folder):
    lm = load(folder)
    (got,) = lm.generate(lm.prefill(TEXTS[:1]), " It is", max_new_tokens=6)
    plain = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    start = torch.tensor([lm.tokenizer(TEXTS[0]).input_ids + lm.token_ids(" It is")])
    written = plain.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=6, do_sample=False)
    assert got == lm.tokenizer.decode(written[0, start.shape[1] :], skip_special_tokens=True)


def test_soft_tokens_take_gradients(folder):
    lm = load(folder)
    embeds = torch.randn(2, lm.width, requires_grad=True)
    prefix = torch.randn(lm.layers, 2, lm.kv_heads, 3, lm.head_dim, requires_grad=True)
    states = lm.multimodal_states(lm.prefill(TEXTS), embeds, prefix)
    assert states.shape == (3, 2, lm.width)
    states.square().sum().backward()
    assert embeds.grad.abs().sum() > 0
    assert prefix.grad.abs().sum() > 0


@pytest.mark.parametrize("family", REFUSED)
def test_models_that_keep_no_keys_are_refused(family, tmp_path):
    with pytest.raises(PmgError, match=r"can't be used with cached histories .* Llama, Qwen"):
        load(write_language_model(tmp_path, REFUSED[family]))


def test_models_with_soft_caps_use_the_plain_attention(tmp_path):
    assert load(write_language_model(tmp_path / "gemma", FAMILIES["gemma2"])).attention == "eager"
    assert load(write_language_model(tmp_path / "llama", FAMILIES["llama"])).attention == "pmg_packed"


@pytest.mark.parametrize(("family", "limit"), [("mistral", 128), ("gemma2", 128), ("llama", 256)])
def test_histories_beyond_the_window_or_the_positions_are_refused(family, limit, tmp_path):
    lm = load(write_language_model(tmp_path, FAMILIES[family]))
    assert lm.limit == limit
    fits = lm.prefill_tokens([torch.ones(limit - 4, dtype=torch.long)])
    lm.multimodal_states(fits, torch.randn(4, lm.width))
    with pytest.raises(PmgError, match=rf"have {limit + 1} tokens.* reads {limit}: lower scenario.max_items"):
        lm.multimodal_states(fits, torch.randn(5, lm.width))
    with pytest.raises(PmgError, match=r"lower scenario.max_items"):
        lm.prefill(["ghost " * 300])


def test_a_window_that_is_switched_off_is_no_limit():
    config = tf.Qwen2Config(**GROUPED, sliding_window=64, use_sliding_window=False)
    assert longest_sequence(config) == 256


def test_chat_templates_stand_around_history_and_question(tmp_path):
    folder = write_language_model(tmp_path, FAMILIES["llama"], CHAT)
    framed, plain = load(folder, chat=True), load(folder)
    assert framed.chat_template.user_prefix == "<|user|>\n"
    assert framed.chat_template.assistant_prefix == "<end>\n<|assistant|>\n"
    context = framed.prefill(["red apple, flat"])
    assert framed.tokenizer.decode(context.tokens[0]) == "<|user|>\nred apple, flat"
    (scores,) = framed.score_options(context, [[Question("\nWhich?", (" flat", " glossy"))]])[0]
    by_hand = Question("\nWhich?<end>\n<|assistant|>\n", ("flat", "glossy"))
    (expected,) = plain.score_options(plain.prefill(["<|user|>\nred apple, flat"]), [[by_hand]])[0]
    torch.testing.assert_close(scores, expected)
    written = plain.generate(plain.prefill(["<|user|>\nred apple, flat"]), by_hand.prompt, 5)
    assert framed.generate(context, "\nWhich?", 5) == written


@pytest.mark.parametrize("placement", ["late", "front", "visual"])
def test_multimodal_tokens_take_the_place_of_the_answer(tmp_path, placement):
    folder = write_language_model(tmp_path, FAMILIES["llama"], CHAT)
    framed, plain = load(folder, chat=True), load(folder)
    texts = ["red apple, flat", "ghost"]
    end = torch.tensor(plain.token_ids("<end>\n<|assistant|>\n"))
    context = framed.prefill(texts)
    whole = plain.prefill_tokens([torch.cat([tokens, end]) for tokens in context.tokens])
    torch.manual_seed(0)
    if placement == "visual":
        none = torch.zeros(2, 0, dtype=torch.bool)
        seen, expected = (SeenHistories(one, torch.zeros(2, 0, 6), none, none) for one in (context, whole))
        encoder = VisualPreferenceEncoder(feature_width=6, sees="both", prefix_length=0,
                                          **model_sizes(plain, 8))  # fmt: skip
        got, wanted = encoder.states(framed, seen), encoder.states(plain, expected)
        copying = VisualPreferenceEncoder(feature_width=32, sees="both", copies=True, **model_sizes(plain, 8))
        some = torch.tensor([[True, True], [True, False]])
        soft = copying.eval()(framed, SeenHistories(context, torch.randn(2, 2, 32), some, some))
        assert soft.shape == (2, 4, 8)  # the end of the turn is no picture
    else:
        embeds = torch.randn(3, plain.width)
        prefix = torch.randn(plain.layers, 2, plain.kv_heads, 2, plain.head_dim) if placement == "front" else None
        got = PLACEMENTS[placement](framed, context, embeds, prefix)
        wanted = PLACEMENTS[placement](plain, whole, embeds, prefix)
    assert got.shape[1] == wanted.shape[1]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_tokenizer_without_a_template_is_told_the_bare_text(tmp_path):
    lm = load(write_language_model(tmp_path, FAMILIES["llama"]), chat=True)
    assert lm.chat_template.user_prefix == lm.chat_template.assistant_prefix == ""


def test_a_template_that_hides_the_message_is_refused(tmp_path):
    with pytest.raises(PmgError, match=r"changes the user's message. Set language_model.chat=false"):
        load(write_language_model(tmp_path, FAMILIES["llama"], "nothing of it"), chat=True)


def test_unknown_types_and_quantizations_are_refused(tmp_path):
    folder = write_language_model(tmp_path, FAMILIES["llama"])
    with pytest.raises(PmgError, match="no type of torch"):
        load_language_model(folder, "bfloat", "unused")
    with pytest.raises(PmgError, match=r"'3bit'\. Use one of 4bit, 8bit"):
        load(folder, quantization="3bit")


def test_four_bits_keep_the_answers_near(tmp_path):
    pytest.importorskip("bitsandbytes")
    config = tf.LlamaConfig(**{**GROUPED, "hidden_size": 128, "intermediate_size": 256, "head_dim": 32})
    folder = write_language_model(tmp_path, config)
    whole, packed = load(folder), load(folder, quantization="4bit")
    states = [lm.multimodal_states(lm.prefill(TEXTS), lm.embeddings[:2].float()) for lm in (whole, packed)]
    size = [sum(p.numel() * p.element_size() for p in lm.model.model.layers.parameters()) for lm in (whole, packed)]
    assert size[1] < size[0] / 6
    assert torch.cosine_similarity(*states, dim=-1).min() > 0.6
