"""Contexts of many users: the same wherever they are, and no memory for those that nobody asks for."""

from __future__ import annotations

import sys

import pytest
import torch

from pmg.cache import Cache, NoCache, open_cache
from pmg.domain import PmgError
from pmg.models.language.context import Context
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.contexts import CachedContexts, LazyContexts

TEXTS = ["a red apple", "dog", "a rocket that flies to the moon", "two cats"]
CHUNKS = [TEXTS[:3], TEXTS[3:]]


def kept(language_model, cache):
    entries = []
    for texts in CHUNKS:
        key = Cache.key(texts=texts)
        tensors = cache.fetch(key, lambda texts=texts: language_model.prefill(texts).to_tensors())
        entries.append((cache.lazy(key, tensors), len(texts)))
    return CachedContexts(entries)


@pytest.mark.parametrize("place", ["folder", "store", "nowhere"])
def test_histories_are_the_same_wherever_they_are(place, tmp_path):
    language_model = tiny_language_model()
    cache = (
        NoCache() if place == "nowhere" else open_cache(str(tmp_path) if place == "folder" else "memory://contexts")
    )
    found = kept(language_model, cache)
    again = LazyContexts.concatenate([LazyContexts(language_model, texts) for texts in CHUNKS])
    whole = language_model.prefill(TEXTS)
    assert len(found) == len(again) == len(TEXTS)
    for rows in ([3, 0, 0], torch.tensor([2]), range(4)):
        expected = whole.select(rows).to_tensors()
        for contexts in (found, again):
            torch.testing.assert_close(contexts.select(rows).to_tensors(), expected)


def test_a_batch_over_several_entries_gives_the_states_of_a_loop(tmp_path):
    language_model, embeds = tiny_language_model(), torch.randn(2, 32)
    contexts = kept(language_model, Cache(tmp_path))
    embeds = torch.randn(2, language_model.width)
    together = language_model.multimodal_states(contexts.select([3, 1, 2]), embeds)
    one_by_one = [language_model.multimodal_states(contexts.select([row]), embeds) for row in (3, 1, 2)]
    torch.testing.assert_close(together, torch.cat(one_by_one), rtol=1e-5, atol=1e-5)


def test_prefetched_rows_are_gathered_and_gives_the_same_states(tmp_path):
    language_model = tiny_language_model()
    contexts, embeds = kept(language_model, Cache(tmp_path)), torch.randn(2, language_model.width)
    rows = torch.tensor([3, 1, 2])
    expected = language_model.multimodal_states(contexts.select(rows), embeds)
    contexts.prefetch(rows)
    contexts.prefetch(torch.tensor([0, 1]))
    found = contexts.select(rows)
    assert len(found.gathered) == language_model.layers
    assert torch.equal(language_model.multimodal_states(found, embeds), expected)
    assert contexts.select(rows).gathered is None


def test_prefetched_rows_that_are_never_selected_are_dropped(tmp_path):
    contexts = kept(tiny_language_model(), Cache(tmp_path))
    for row in range(4):
        contexts.prefetch(torch.tensor([row]))
    assert list(contexts.pending) == [(2,), (3,)]


def resident_mib():
    """Memory of this process that is in use, mapped files included."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_nobody_asks_for_takes_no_memory(tmp_path):
    cache, size = Cache(tmp_path), 2**18  # of 4 users, 4 MiB each
    keys = torch.ones(2, 1, size, 1)
    tokens, ends = (torch.ones(1, dtype=torch.long),) * 4, (torch.tensor(1),) * 4
    tensors = Context((keys,) * 4, (keys,) * 4, tokens, ends).to_tensors()
    for number in range(4):
        cache.save(f"0{number}", tensors)
    del tensors, tokens, ends
    before = resident_mib()
    contexts = CachedContexts([(cache.lazy(f"0{number}", cache.load(f"0{number}")), 4) for number in range(4)])
    for row in range(len(contexts)):
        chosen = contexts.select([row])
        assert float(chosen.keys[0].sum() + chosen.values[0].sum()) == 4 * size
        del chosen
    assert resident_mib() - before < 16  # of 64, one user's 4


def test_an_entry_that_is_gone_is_named(tmp_path):
    contexts = kept(tiny_language_model(), Cache(tmp_path))
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(PmgError, match="is gone; run the same command again"):
        contexts.select([0])
