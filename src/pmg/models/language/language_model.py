"""A frozen causal language model: read histories once, then ask many things of them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Cache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache

from pmg.domain import PmgError
from pmg.models.language.chat_template import Frame, chat_frame
from pmg.models.language.compatibility import Shape, check_length, logits_of, settle_attention
from pmg.models.language.context import Context, ContextLayer, Past
from pmg.models.language.grouped_attention import PACKED, additive_mask
from pmg.models.language.option_scoring import Grove, Question, plant
from pmg.models.language.quantization import loading_options
from pmg.models.language.text_generation import Continuation, end_tokens, greedy, sampled, write
from pmg.models.loading.checkpoints import load_with_tokenizer
from pmg.models.loading.gguf import unpack_gguf
from pmg.models.loading.weight_sources import loading, resolve_source

NO_FRAME = Frame()
READ_AT_ONCE = {"cpu": 4}  # histories in one pass, else 32, which do not fit a processor's caches: twice the time
TREE_TOKENS = 4096  # tokens of questions and options in one pass, over all its histories; bounds memory


class LanguageModel(nn.Module):
    """A causal language model that is never trained: parameters frozen, always in eval mode.

    Args:
        model: any transformers causal language model whose layers keep keys and values.
        tokenizer: its tokenizer.
        frame: text around histories and questions: a chat template, or nothing.
        attention: name of the attention, where it is known to read right; None finds it out.

    Attributes:
        width: width of embeddings and hidden states.
        layers: number of transformer layers.
        kv_heads: number of key/value heads.
        head_dim: width of one head.
        cache_argument: name of the argument under which the model takes a cache.
        tokens_computed: tokens that went through the model since the start (padding not counted).
        tokens_reused: tokens of contexts that were attended to without being computed again.

    Raises:
        PmgError: the model can't go on behind a kept history.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, frame: Frame = NO_FRAME,
        attention: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model = model.requires_grad_(False)
        self.tokenizer, self.frame = tokenizer, frame
        shape = Shape.of(model.config)
        self.width, self.layers, self.limit = shape.width, shape.layers, shape.limit
        self.kv_heads, self.head_dim = shape.kv_heads, shape.head_dim
        self.tokens_computed = self.tokens_reused = 0
        # transformers 5.24 renamed the argument and warns about the old name
        renamed = "cache" in inspect.signature(model.get_decoder().forward).parameters
        self.cache_argument = "cache" if renamed else "past_key_values"
        self.train(False)
        self.attend_by(attention or settle_attention(self))
        self.tokens_computed = self.tokens_reused = 0

    def train(self, mode: bool = True) -> LanguageModel:
        """Stays in eval mode, whatever the module around it does."""
        return super().train(False)

    def attend_by(self, attention: str) -> None:
        """Uses an attention, by its name among those of transformers."""
        self.attention = attention
        self.model.set_attn_implementation(attention)

    @property
    def embeddings(self) -> Tensor:
        """The input embedding matrix `(vocabulary, width)`."""
        return self.model.get_input_embeddings().weight

    def embed(self, tokens: Tensor) -> Tensor:
        """Input embeddings `(..., width)` of tokens `(...)`, as the model itself looks them up."""
        return self.model.get_input_embeddings()(tokens.to(self.embeddings.device))

    def token_ids(self, text: str) -> list[int]:
        """Tokens of a piece of text that goes on from something: no special tokens."""
        return self.tokenizer(text, add_special_tokens=False).input_ids

    @torch.no_grad()
    def prefill(self, texts: Sequence[str], batch_size: int | None = None) -> Context:
        """Reads texts once, in batches of similar length.

        Args:
            texts: B texts, none empty.
            batch_size: texts in one forward pass; None: as many as suit the device.

        Returns:
            Their keys and values, in the order of `texts`, in the model's dtype.

        Raises:
            PmgError: a text has no tokens, or more than the model can read.
        """
        framed = self.frame.head != ""  # which holds the tokenizer's special tokens already
        ids = [self.tokenizer(self.frame.head + text, add_special_tokens=not framed).input_ids for text in texts]
        if not all(texts) or not all(ids) or not ids:
            raise PmgError("the language model was given an empty text; a context needs at least one token")
        return self.prefill_tokens([torch.tensor(row, dtype=torch.long) for row in ids], batch_size)

    @torch.no_grad()
    def prefill_tokens(self, tokens: Sequence[Tensor], batch_size: int | None = None) -> Context:
        """Reads texts as `prefill` does, given as tokens, int64 `(T_i,)` each."""
        lengths = torch.tensor([len(row) for row in tokens])
        order = lengths.argsort(stable=True)
        ends = lengths[order].cumsum(0)
        shape = (self.layers, int(ends[-1]), self.kv_heads, self.head_dim)
        keys, values = (torch.empty(shape, dtype=self.model.dtype) for _ in range(2))
        for batch in order.split(batch_size or READ_AT_ONCE.get(self.model.device.type, 32)):
            last = ends[(order == batch[-1]).nonzero().item()]
            span = slice(int(last - lengths[batch].sum()), int(last))
            self._read([tokens[row] for row in batch], keys[:, span], values[:, span])
        sizes, back = lengths[order].tolist(), order.argsort()
        return Context(keys.split(sizes, 1), values.split(sizes, 1), tuple(tokens[row] for row in order)).select(back)

    def _read(self, rows: list[Tensor], keys: Tensor, values: Tensor) -> None:
        """Runs one batch and writes its keys and values `(layers, T, kv_heads, head_dim)` in place."""
        check_length(max(map(len, rows)), self.limit)
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.model.device)
        real = torch.arange(padded.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        seen = real[:, None] & torch.ones(padded.shape[1], padded.shape[1], dtype=torch.bool).tril()
        cache = DynamicCache()
        self._decode(cache, seen, input_ids=padded)
        for layer, part in enumerate(cache.layers):
            keys[layer] = part.keys.transpose(1, 2)[real]
            values[layer] = part.values.transpose(1, 2)[real]
        self.tokens_computed += int(real.sum())

    def _decode(self, cache: Cache, seen: Tensor, **inputs: Tensor) -> Tensor:
        """Runs the transformer without its vocabulary head under bool `seen` `(B, N, L)`; last hidden states."""
        inputs |= {"attention_mask": additive_mask(seen, self.model), self.cache_argument: cache}
        return self.model.get_decoder()(**inputs, use_cache=True).last_hidden_state

    def extend(
        self, context: Context, embeds: Tensor, steps: Tensor, visible: Tensor, prefix: Tensor | None = None
    ) -> Tensor:
        """Runs N new tokens behind each history.

        Args:
            context: B histories.
            embeds: `(B, N, width)`.
            steps: int64 `(N,)` or `(B, N)`, positions counted from the end of the history.
            visible: bool `(N, N)` or `(B, N, N)`, which new token sees which.
            prefix: `(layers, 2, kv_heads, m, head_dim)`, seen by all new tokens; added as it is, not rotated.

        Returns:
            Last hidden states `(B, N, width)`.
        """
        batch, new = embeds.shape[:2]
        past, apart = Past(context, self.model.device, self.model.dtype), self.attention == PACKED
        prefixes = [None] * self.layers if prefix is None else prefix.to(self.model.device, self.model.dtype)
        layers = [ContextLayer(past, number, part, apart) for number, part in enumerate(prefixes)]
        free = torch.ones(1, 1, 0 if prefix is None else prefix.shape[3], dtype=torch.bool)
        parts = (context.padding_mask()[:, None], free, visible.expand(batch, new, new))
        seen = torch.cat([part.expand(batch, new, -1) for part in parts], dim=2)
        embeds = embeds.to(self.model.device, self.model.dtype)
        positions = context.lengths[:, None] + steps
        check_length(int(positions.max()) + 1, self.limit)
        self.tokens_computed += int(parts[2].diagonal(dim1=1, dim2=2).sum())  # what doesn't see itself is padding
        self.tokens_reused += int(context.lengths.sum())
        positions = positions.to(embeds.device)
        return self._decode(Cache(layers=layers), seen, inputs_embeds=embeds, position_ids=positions)

    def soft_states(self, context: Context, embeds: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Last hidden states of soft tokens that stand behind each history.

        Args:
            context: B histories.
            embeds: `(B, n, width)` or `(n, width)`, shared by all histories. Differentiable.
            prefix: late prefix `(layers, 2, kv_heads, m, head_dim)`, keys and values that the soft tokens
                alone see, added as they are. Differentiable.

        Returns:
            `(B, n, width)` in the model's dtype.
        """
        count = embeds.shape[-2]
        causal = torch.ones(count, count, dtype=torch.bool).tril()
        embeds = embeds.expand(len(context), -1, -1)
        return self.extend(context, embeds, torch.arange(count), causal, prefix)

    def choose(self, context: Context, prompt: str, options: Sequence[str], batch_size: int = 32) -> Tensor:
        """Scores every option as the continuation of each history and the prompt: `ask` with one question for all.

        Returns:
            float32 `(B, n_options)`.
        """
        questions = [[Question(prompt, tuple(options))]] * len(context)
        return torch.stack([scores for (scores,) in self.ask(context, questions, batch_size)])

    @torch.no_grad()
    def ask(
        self, context: Context, questions: Sequence[Sequence[Question]], batch_size: int = 32
    ) -> list[list[Tensor]]:
        """Scores all options of all questions of each history in one pass; histories may have different ones.

        Args:
            context: B histories.
            questions: for each history at least one.
            batch_size: at most so many histories in one pass.

        Returns:
            For each history and question float32 `(n_options,)`, plain sums of token log-probabilities.

        Raises:
            PmgError: a history has no question, or a prompt or an option is empty.
        """
        planted = {asked: plant(map(self._framed, asked), self.token_ids) for asked in map(tuple, questions)}
        trees = [planted[tuple(asked)] for asked in questions]
        size = max(1, min(batch_size, TREE_TOKENS // max(map(len, trees), default=1)))
        results: list[list[Tensor]] = []
        for rows in torch.arange(len(context)).split(size) if trees else ():
            batch = [trees[row] for row in rows]
            grove = Grove.of(batch)
            states = self.extend(context.select(rows), self.embed(grove.tokens), grove.steps, grove.visible)
            scores = grove.score(states, partial(logits_of, self.model))
            results += [list(row[: sum(t.counts)].split(t.counts)) for row, t in zip(scores, batch, strict=True)]
        return results

    def _framed(self, question: Question) -> Question:
        options = tuple(map(self.frame.answer, question.options))
        return Question(question.prompt + self.frame.tail if question.prompt else "", options)

    @torch.no_grad()
    def generate(
        self, context: Context, prompt: str, max_new_tokens: int, temperature: float = 0.0, seed: int = 0,
        batch_size: int = 32,
    ) -> list[str]:  # fmt: skip
        """Writes on behind each history and the prompt; the histories are not read again.

        Args:
            context: B histories.
            prompt: text between history and answer, at least one token.
            max_new_tokens: the longest answer.
            temperature: 0 takes the likeliest token each time; above 0 tokens are drawn.
            seed: of the draws; the answer to one history does not depend on the others.
            batch_size: histories at once.

        Returns:
            B texts, without special tokens.

        Raises:
            PmgError: the prompt is empty.
        """
        tokens = torch.tensor(self.token_ids(prompt + self.frame.tail), dtype=torch.long)
        if not prompt:
            raise PmgError("a text can't be written behind an empty prompt")
        config = self.model.generation_config
        ends = end_tokens(None if config is None else config.eos_token_id, self.tokenizer.eos_token_id)
        rows: list[list[int]] = []
        for batch in torch.arange(len(context)).split(batch_size):
            pick = sampled(temperature, seed) if temperature else greedy
            read = Continuation(context.select(batch), self.model.device, self._read_on)
            rows += write(read, tokens.expand(len(batch), -1), ends, max_new_tokens, pick)
        # the last token of a longest row is written and not read
        self.tokens_computed += sum(len(tokens) + min(len(row), max_new_tokens - 1) for row in rows)
        self.tokens_reused += int(context.lengths.sum())
        return self.tokenizer.batch_decode(rows, skip_special_tokens=True)

    def _read_on(self, cache: Cache, tokens: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
        """Reads `(B, N)` tokens behind what `cache` holds; gives logits of what follows, float32 `(B, V)`."""
        tokens, positions = tokens.to(self.model.device), positions.to(self.model.device)
        states = self._decode(cache, seen, input_ids=tokens, position_ids=positions)
        return logits_of(self.model, states[:, -1]).cpu()


def load_language_model(
    source: str, dtype: str, cache_dir: str, chat: bool = False, quantization: str | None = None
) -> LanguageModel:
    """Loads a language model and its tokenizer.

    Args:
        source: hub id, folder, or ``package:NAME/path``; a ``.gguf`` file is unpacked once into `cache_dir`.
        dtype: name of a floating point type, e.g. ``bfloat16``.
        cache_dir: where unpacked files lie.
        chat: whether histories and questions stand inside the tokenizer's chat template, where it has one.
        quantization: ``4bit`` or ``8bit`` keeps the weights so (bitsandbytes), or None.

    Raises:
        PmgError: the source is missing or damaged, or the model is of a kind that can't go on behind a history.
    """
    path = resolve_source(source)
    if path.endswith(".gguf"):
        with loading("the language model", path):
            path = str(unpack_gguf(Path(path), dtype, Path(cache_dir)))
    with loading("the language model", path):
        model, tokenizer = load_with_tokenizer(AutoModelForCausalLM, path, **loading_options(dtype, quantization))
        return LanguageModel(model, tokenizer, chat_frame(tokenizer) if chat else NO_FRAME)
