"""Writing token by token: ends, lengths, and draws that do not depend on the batch."""

from __future__ import annotations

import torch

from pmg.models.language.language_model import collect_end_tokens, generate_tokens, greedy, sampled


def count_up(tokens: torch.Tensor) -> torch.Tensor:
    """Logits whose likeliest token is one more than the last one."""
    return torch.nn.functional.one_hot(tokens[:, -1] + 1, 20).float()


def test_rows_end_on_their_own():
    rows = generate_tokens(count_up, torch.tensor([[0, 3], [0, 7], [0, 12]]), {6, 9}, 4, greedy)
    assert rows == [[4, 5], [8], [13, 14, 15, 16]]


def test_reading_stops_when_every_row_has_ended():
    calls = []

    def read(tokens):
        calls.append(tokens.shape)
        return count_up(tokens)

    assert generate_tokens(read, torch.tensor([[5]]), {6}, 10, greedy) == [[]]
    assert calls == [(1, 1)]


def test_draws_follow_the_softmax_at_a_temperature():
    logits = torch.tensor([[1.0, 0.0, -1.0]])
    pick = sampled(0.5, seed=0)
    counts = torch.bincount(torch.cat([pick(logits) for _ in range(4000)]), minlength=3) / 4000
    torch.testing.assert_close(counts, (logits[0] / 0.5).softmax(0), atol=0.03, rtol=0)


def test_draws_of_a_row_do_not_depend_on_the_others():
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(1))
    together = sampled(1.0, seed=3)(logits)
    assert [int(sampled(1.0, seed=3)(row[None])) for row in logits] == together.tolist()


def test_ends_as_configurations_name_them():
    assert collect_end_tokens(None, 3, [4, 5]) == {3, 4, 5}
    assert collect_end_tokens(None) == frozenset()
