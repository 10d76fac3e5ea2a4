"""Keywords within what the text encoder reads."""

from __future__ import annotations

import pytest

from pmg.domain import Keywords, PmgError
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.preferences.keywords import Budget


def count(text):
    """One token a word, and two special ones."""
    return len(text.split()) + 2


WORDS = Keywords(("apple", "red fruit", "sweet", "emoji"), (0.0, -3.0, -1.0, 0.0))


@pytest.mark.parametrize(
    ("limit", "kept", "dropped"),
    [
        (7, ("apple", "red fruit", "sweet", "emoji"), ()),
        (6, ("apple", "sweet", "emoji"), ("red fruit",)),
        (4, ("apple", "emoji"), ("red fruit", "sweet")),
        (3, ("apple",), ("red fruit", "sweet", "emoji")),  # of equals the later one goes
    ],
)
def test_words_go_in_order_of_weight(limit, kept, dropped):
    fitted = Budget(count, limit).fit(WORDS)
    assert fitted.words == kept
    assert sorted(fitted.dropped) == sorted(dropped)
    assert fitted.scores == tuple(dict(zip(WORDS.words, WORDS.scores, strict=True))[word] for word in kept)
    assert count(str(fitted)) <= limit


def test_a_word_too_long_by_itself_does_not_push_the_others_out():
    fitted = Budget(count, 4).fit(Keywords(("a b c d e", "red", "gold"), (0.0, -1.0, -2.0)))
    assert (fitted.words, fitted.dropped) == (("red", "gold"), ("a b c d e",))


def test_words_without_scores_go_from_the_end():
    assert Budget(count, 4).fit(Keywords(("a", "b", "c"))) == Keywords(("a", "b"), (), ("c",))


def test_what_fits_and_nothing_at_all_stay_as_they_are():
    assert Budget(count, 100).fit(WORDS) == WORDS
    assert Budget(count, 1).fit(Keywords(())) == Keywords(())


def test_fitting_twice_changes_nothing():
    once = Budget(count, 4).fit(WORDS)
    assert Budget(count, 4).fit(once) == once


def test_where_nothing_fits_the_way_out_is_named():
    with pytest.raises(
        PmgError, match=r"'a b' fits into the 3 tokens .* generator\.max_length .* text_encoder\.max_length"
    ):
        Budget(count, 3).fit(Keywords(("a b",)))


def test_text_encoder_reads_what_fits_and_refuses_more(text_encoder):
    short = TextEncoder(text_encoder.model, text_encoder.tokenizer, max_length=12)
    words = Keywords(("red apple", "ghost", "soft gradients", "rocket and volcano"), (0.0, -1.0, -2.0, -3.0))
    with pytest.raises(PmgError, match=r"'red apple.*tokens, the text encoder reads 12; shorten it, or raise"):
        short.encode(["cat", str(words)])
    fitted = Budget(short.count_tokens, short.max_length).fit(words)
    assert fitted.dropped
    assert short.encode(["cat", str(fitted)]).tokens.shape[1] <= 12
