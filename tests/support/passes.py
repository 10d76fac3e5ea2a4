"""A language model's whole forward pass, with which cached histories are compared."""

from __future__ import annotations

import copy

import torch
from transformers import DynamicCache


def full_pass(lm, text, embeds, prefix, first=0, history_sees_prefix=False):
    """Returns the states of soft tokens behind a text, by the library's own attention, and the cache.

    Text and soft tokens are read in one pass, from position `first` on; a prefix alone is in the cache before.
    """
    model = copy.deepcopy(lm.model)
    model.set_attn_implementation("eager")
    ids = torch.tensor([lm.tokenizer(text).input_ids])
    tokens, count = ids.shape[1], ids.shape[1] + len(embeds)
    inputs = torch.cat([model.get_input_embeddings()(ids), embeds[None]], dim=1)
    cache, m = DynamicCache(), 0 if prefix is None else prefix.shape[3]
    for layer in range(lm.layers if m else 0):
        cache.update(prefix[layer, 0][None], prefix[layer, 1][None], layer)
    seen = torch.cat([torch.ones(count, m), torch.ones(count, count).tril()], dim=1).bool()
    seen[:tokens, :m] = history_sees_prefix
    mask = torch.zeros(1, 1, *seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)
    states = model.model(
        inputs_embeds=inputs, attention_mask=mask, position_ids=first + torch.arange(count)[None],
        **{lm.cache_argument: cache},
    ).last_hidden_state  # fmt: skip
    return states[0, tokens:], cache
