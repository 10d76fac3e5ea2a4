"""A frozen causal language model: answers questions about histories, which it prefills once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Cache
from transformers.cache_utils import DynamicCache

from pmg.domain import PmgError
from pmg.models.language.chat_template import NO_TEMPLATE, split_chat_template
from pmg.models.language.compatibility import check_length, logits_of
from pmg.models.language.context import Context
from pmg.models.language.context_decoder import ContextDecoder
from pmg.models.language.option_scoring import BatchedOptionTree, Question, pack_options
from pmg.models.loading.checkpoints import load_with_tokenizer
from pmg.models.loading.gguf import unpack_gguf
from pmg.models.loading.quantization import Quantization, loading_options
from pmg.models.loading.weight_sources import loading, resolve_source

TREE_TOKENS = 4096  # tokens of questions and options in one pass, over all its histories; bounds memory


class LanguageModel(ContextDecoder):
    """A causal language model that scores options, generates text and computes states of multimodal tokens.

    It is never trained: parameters frozen, always in eval mode. Arguments and attributes: see `ContextDecoder`.
    """

    def encode_pictures(self, images: Tensor) -> Tensor:
        """Returns a row of features of each picture `(B, 3, H, W)` in [-1, 1]; PmgError without `reads_pictures`."""
        raise PmgError(f"{type(self.model).__name__} reads no pictures. Use one that does: language_model=smolvlm")

    def of(self, text_encoder: object) -> LanguageModel:
        """Returns itself; what a config has in its place, e.g. `shared`, makes one of the generator's text encoder."""
        return self

    def multimodal_states(self, context: Context, embeds: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Returns the states `(B, n, state_width)`, at `read_layers`, of multimodal tokens behind each history.

        With a chat template they take the place of the answer: the end of the user's turn precedes them. The tokens,
        `(B, n, width)` or `(n, width)` for all histories, are differentiable; so is the late `prefix` `(layers, 2,
        kv_heads, m, head_dim)`: keys and values, not rotated, that only they and the end of the turn attend to.
        """
        tokens = self.end_turn(embeds.expand(len(context), -1, -1))
        count = tokens.shape[1]
        causal = torch.ones(count, count, dtype=torch.bool).tril()
        states = self.extend(context, tokens, torch.arange(count), causal, prefix, self.read_layers)
        return states[:, -embeds.shape[-2] :]

    def end_turn(self, embeds: Tensor) -> Tensor:
        """Returns `(B, E + n, width)`: embeddings of E tokens that end the user's turn, and others `(B, n, width)`.

        E are the tokens of `ChatTemplate.assistant_prefix`: none without a chat template.
        """
        ids = self.token_ids(self.chat_template.assistant_prefix) if self.chat_template.assistant_prefix else []
        if not ids:
            return embeds
        end = self.embed(torch.tensor(ids)).to(embeds)
        return torch.cat([end.expand(len(embeds), -1, -1), embeds], dim=1)

    @torch.no_grad()
    def score_options(
        self, context: Context, questions: Sequence[Sequence[Question]], batch_size: int = 32
    ) -> list[list[Tensor]]:
        """Returns the log-probability of every option of every question, all questions of a history in one pass.

        For each of B histories and its questions float32 `(n_options,)`, sums of token log-probabilities; at most
        `batch_size` histories in one pass. PmgError if there is no question, or a prompt or an option is empty.
        """
        packed = {
            some: pack_options(map(self._apply_chat_template, some), self.token_ids) for some in map(tuple, questions)
        }
        trees = [packed[tuple(some)] for some in questions]
        size = max(1, min(batch_size, TREE_TOKENS // max(map(len, trees), default=1)))
        results: list[list[Tensor]] = []
        for rows in torch.arange(len(context)).split(size) if trees else ():
            batch = [trees[row] for row in rows]
            options = BatchedOptionTree.from_trees(batch)
            states = self.extend(context.select(rows), self.embed(options.tokens), options.steps, options.visible)
            scores = options.score(states, partial(logits_of, self.model))
            results += [list(row[: sum(t.counts)].split(t.counts)) for row, t in zip(scores, batch, strict=True)]
        return results

    def _apply_chat_template(self, question: Question) -> Question:
        options = tuple(map(self.chat_template.format_answer, question.options))
        return Question(question.prompt + self.chat_template.assistant_prefix if question.prompt else "", options)

    @torch.no_grad()
    def generate(
        self, context: Context, prompt: str, max_new_tokens: int, temperature: float = 0.0, seed: int = 0,
        batch_size: int = 32,
    ) -> list[str]:  # fmt: skip
        """Generates an answer behind each history and the prompt, without special tokens.

        The prompt between history and answer has at least one token; PmgError if it is empty. An answer has at most
        `max_new_tokens`. A `temperature` of 0 takes the most likely token each time; above 0 tokens are sampled by
        `seed`, and the answer to one history does not depend on the others. `batch_size` are histories in one batch.
        """
        tokens = torch.tensor(self.token_ids(prompt + self.chat_template.assistant_prefix), dtype=torch.long)
        if not prompt:
            raise PmgError("text generation needs a prompt that isn't empty")
        check_length(int(context.lengths.max()) + len(tokens) + max_new_tokens - 1, self.limit)
        config = self.model.generation_config
        ends = collect_end_tokens(None if config is None else config.eos_token_id, self.tokenizer.eos_token_id)
        rows: list[list[int]] = []
        for batch in torch.arange(len(context)).split(batch_size):
            pick = sampled(temperature, seed) if temperature else greedy
            decoder = IncrementalDecoder(context.select(batch), self.model.device, self._next_token_logits)
            rows += generate_tokens(decoder, tokens.expand(len(batch), -1), ends, max_new_tokens, pick)
        # the last token of a longest row is not fed back
        self.tokens_computed += sum(len(tokens) + min(len(row), max_new_tokens - 1) for row in rows)
        self.tokens_reused += int(context.lengths.sum())
        return self.tokenizer.batch_decode(rows, skip_special_tokens=True)

    def _next_token_logits(self, cache: Cache, tokens: Tensor, seen: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
        """Appends tokens `(B, N)` to `cache`; returns the logits of the next token, float32 `(B, V)`."""
        tokens, positions = tokens.to(self.model.device), places[0].to(self.model.device)
        states = self._forward(cache, seen, places, input_ids=tokens, position_ids=positions)
        return logits_of(self.model, states[:, -1]).cpu()


def load_language_model(
    source: str, dtype: str, cache_dir: str, chat: bool = False, quantization: Quantization | None = None
) -> LanguageModel:
    """Loads a language model and its tokenizer.

    The source is a hub id, folder, or ``package:NAME/path``; a ``.gguf`` file is unpacked once into `cache_dir`.
    `chat` is whether histories and questions are put into the tokenizer's chat template, if it has one; ``4bit`` or
    ``8bit`` quantizes the weights (bitsandbytes). PmgError if the source is missing or damaged, or the model computes
    other states behind a cached history.
    """
    path = resolve_source(source)
    if path.endswith(".gguf"):
        with loading("the language model", path):
            path = str(unpack_gguf(Path(path), dtype, Path(cache_dir)))
    with loading("the language model", path):
        model, tokenizer = load_with_tokenizer(AutoModelForCausalLM, path, **loading_options(dtype, quantization))
        return LanguageModel(model, tokenizer, split_chat_template(tokenizer) if chat else NO_TEMPLATE)


Pick = Callable[[Tensor], Tensor]
"""Chooses the next tokens, int64 `(B,)`, from logits `(B, V)`."""


def greedy(logits: Tensor) -> Tensor:
    """Returns the most likely token of each row."""
    return logits.argmax(-1)


def sampled(temperature: float, seed: int) -> Pick:
    """Returns a function that draws tokens from the softmax of logits / `temperature`, a number above 0.

    Every row is drawn with the same random numbers (the Gumbel trick), so that the text of one
    history does not depend on the others in its batch.
    """
    rng = torch.Generator().manual_seed(seed)

    def pick(logits: Tensor) -> Tensor:
        """Returns the drawn tokens of logits `(B, V)`, int64 `(B,)`."""
        uniform = torch.rand(logits.shape[-1], generator=rng).clamp(min=1e-20)
        return (logits / temperature - (-uniform.log()).log().to(logits.device)).argmax(-1)

    return pick


def generate_tokens(
    forward: Callable[[Tensor], Tensor], prompts: Tensor, ends: Collection[int], max_new_tokens: int, pick: Pick
) -> list[list[int]]:
    """Generates the tokens of each row, without the one that ends it, up to the maximal length.

    `forward` appends tokens `(B, N)` to the sequence, first the int64 `prompts`, and returns the logits of the next
    one, `(B, V)`, which `pick` chooses; tokens in `ends` end a row.
    """
    rows: list[list[int]] = [[] for _ in prompts]
    unfinished, tokens = set(range(len(rows))), prompts
    for _ in range(max_new_tokens):
        tokens = pick(forward(tokens))[:, None]
        unfinished -= {row for row in unfinished if int(tokens[row]) in ends}
        for row in unfinished:
            rows[row].append(int(tokens[row]))
        if not unfinished:
            break
    return rows


def collect_end_tokens(*sources: int | Sequence[int] | None) -> frozenset[int]:
    """Returns the end tokens of several configurations, each of which has one, several or none."""
    named = (torch.tensor([] if source is None else source).view(-1).tolist() for source in sources)
    return frozenset(int(token) for tokens in named for token in tokens)


class IncrementalDecoder:
    """Appends tokens to `B` histories at every call, with a cache that grows.

    `forward` takes the cache, tokens `(B, N)`, bool `(B, N, L + N)`, which new token attends to which, and the
    positions of these, `(B, N)`, and of all, `(B, L + N)`; it returns the logits of the next token, `(B, V)`.
    """

    def __init__(
        self, context: Context, device: torch.device,
        forward: Callable[[DynamicCache, Tensor, Tensor, tuple[Tensor, Tensor]], Tensor],
    ) -> None:  # fmt: skip
        self.forward, self.cache = forward, context.to_cache(device)
        self.seen, self.position = context.padding_mask(), context.positions[:, None]
        self.keys = torch.arange(self.seen.shape[1]).expand(self.seen.shape)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Returns the logits of the token after `tokens` `(B, N)`: `(B, V)`."""
        batch, new = tokens.shape
        causal = torch.ones(new, new, dtype=torch.bool).tril().expand(batch, -1, -1)
        seen = torch.cat([self.seen[:, None].expand(-1, new, -1), causal], dim=2)
        positions = self.position + torch.arange(new)
        self.keys = torch.cat([self.keys, positions], dim=1)
        logits = self.forward(self.cache, tokens, seen, (positions, self.keys))
        self.seen, self.position = seen[:, -1], self.position + new
        return logits
