"""Chat templates are programs: they run with limits, and what they write is what transformers has them write."""

from __future__ import annotations

import time

import pytest

from pmg.domain import PmgError
from pmg.models.language.chat_template import render_chat_template, split_chat_template
from pmg.models.tiny_models import tiny_tokenizer

TURNS = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
END = "{% if add_generation_prompt %}<model>{% if enable_thinking %}<think>{% endif %}{% endif %}"


def tokenizer_with(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("thinking", [True, False])
def test_a_template_writes_what_transformers_has_it_write(thinking):
    tokenizer = tokenizer_with(TURNS + END)
    messages = [{"role": "user", "content": "größe\n{{ 7 * 6 }}"}]
    said = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )
    assert render_chat_template(tokenizer, messages, thinking) == said
    assert split_chat_template(tokenizer, thinking=thinking).wrap("größe\n{{ 7 * 6 }}") == said


@pytest.mark.parametrize(("between", "space"), [(": ", " "), ("\n", ""), (">", "")])
def test_an_answer_has_the_space_that_the_template_puts_before_it(between, space):
    """As SmolVLM's: `Assistant:` begins an answer, and `Assistant: …` is one."""
    turns = "{% for m in messages %}{{ m.role }}BETWEEN{{ m.content }}\n{% endfor %}".replace("BETWEEN", between)
    end = f"{{% if add_generation_prompt %}}assistant{between.rstrip(' ')}{{% endif %}}"
    template = split_chat_template(tokenizer_with(turns + end))
    assert template.format_answer(" yes") == f"{space}yes"
    if space:
        assert template.wrap("a") + template.format_answer("yes") == "user: a\nassistant: yes"


def test_texts_that_a_template_puts_before_an_answer_are_no_space():
    turns = "{% for m in messages %}{{ m.role }}:{% if loop.index0 % 2 %}<x>{% endif %}{{ m.content }}\n{% endfor %}"
    template = split_chat_template(tokenizer_with(turns + "{% if add_generation_prompt %}assistant:{% endif %}"))
    assert template.format_answer(" yes") == "yes"


def test_a_template_writes_the_same_day_on_all_days():
    template = split_chat_template(tokenizer_with("Today: {{ strftime_now('%d %b %Y') }}\n" + TURNS))
    assert template.user_prefix.startswith("Today: 26 Jul 2024\n")


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "too much time or memory"),
        ("{{ (9 ** 9) ** (9 ** 9) }}", "too much time or memory"),
        ("{{ 'a' * 10 ** 10 }}", "MemoryError"),
        ("{{ '%10000000000d' | format(1) }}", "MemoryError|OverflowError|ValueError"),
        ("{{ 'ab' * 10 ** 6 }}", "too much time or memory"),
        ("{{ raise_exception('no\nroles') }}", "TemplateError: no roles"),
        ("{% for %}", "TemplateSyntaxError"),
        ("no message", "changes the user's message"),
    ],
)
def test_hostile_templates_are_refused_in_time(monkeypatch, template, said):
    monkeypatch.setattr("pmg.models.language.chat_template.SECONDS", 1)
    before = time.monotonic()
    with pytest.raises(PmgError, match=said):
        split_chat_template(tokenizer_with(template))
    assert time.monotonic() - before < 20


def test_a_text_needs_a_template():
    with pytest.raises(PmgError, match="no chat template"):
        split_chat_template(tokenizer_with(None)).wrap("a cat")
