"""A frozen causal language model: prefills histories once, and reuses their keys and values for every question."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Cache, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache

from pmg.domain import PmgError
from pmg.models.language.chat_template import ChatTemplate, split_chat_template
from pmg.models.language.compatibility import PROBE, DecoderShape, Probe, check_length, logits_of, select_attention
from pmg.models.language.context import Context, ContextLayer, HistoryInputs, PastKeyValues
from pmg.models.language.grouped_attention import PACKED, additive_mask, causal_mask
from pmg.models.language.option_scoring import BatchedOptionTree, Question, pack_options
from pmg.models.language.picture_marks import find_pictures
from pmg.models.language.quantization import loading_options
from pmg.models.language.text_generation import (
    IncrementalDecoder,
    collect_end_tokens,
    generate_tokens,
    greedy,
    sampled,
)
from pmg.models.loading.checkpoints import load_with_tokenizer
from pmg.models.loading.gguf import unpack_gguf
from pmg.models.loading.weight_sources import loading, resolve_source

NO_TEMPLATE = ChatTemplate()
NEAR = 2**40  # the position of a prefix: behind all tokens, so that no sliding window hides it
Pictures = Sequence[Tensor]
"""Features of the pictures in one text, in their order."""
PREFILL_BATCH = {"cpu": 4}  # histories in one pass, else 32, which exceed a CPU's caches: twice the time
TREE_TOKENS = 4096  # tokens of questions and options in one pass, over all its histories; bounds memory


class LanguageModel(nn.Module):
    """A causal language model that is never trained: parameters frozen, always in eval mode.

    Args:
        model: any transformers causal language model whose layers keep keys and values.
        tokenizer: its tokenizer.
        chat_template: text around histories and questions.
        attention: name of the attention implementation, if it was checked before; None checks it.
        read_layers: indices into the hidden states at which soft tokens are read, joined along their width; none: the
            last.

    Attributes:
        reads_pictures: whether texts may hold the marks of pictures, see `pmg.models.language.picture_marks`.
        width: width of embeddings and hidden states.
        layers: number of transformer layers.
        kv_heads: number of key/value heads.
        head_dim: width of one head.
        cache_argument: name of the argument under which the model takes a cache.
        tokens_computed: tokens that went through the model since the start (padding not counted).
        tokens_reused: cached tokens that were attended to without being computed again.

    Raises:
        PmgError: the model computes other states behind a cached history.
    """

    reads_pictures: ClassVar[bool] = False

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chat_template: ChatTemplate = NO_TEMPLATE,
        attention: str | None = None, read_layers: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.read_layers = tuple(read_layers)
        self.model = model.requires_grad_(False)
        self.tokenizer, self.chat_template = tokenizer, chat_template
        shape = DecoderShape.from_config(model.config)
        self.width, self.layers, self.limit = shape.width, shape.layers, self.longest(model.config)
        self.kv_heads, self.head_dim = shape.kv_heads, shape.head_dim
        self.tokens_computed = self.tokens_reused = 0
        # transformers 5.24 renamed the argument and warns about the old name
        renamed = "cache" in inspect.signature(model.get_decoder().forward).parameters
        self.cache_argument = "cache" if renamed else "past_key_values"
        self.train(False)
        self.set_attention(attention or select_attention(self))
        self.tokens_computed = self.tokens_reused = 0

    def longest(self, config: PreTrainedConfig) -> int | None:
        """Returns the longest sequence in tokens; None: there is no limit."""
        return DecoderShape.from_config(config).limit

    def train(self, mode: bool = True) -> LanguageModel:
        """Stays in eval mode, also where a parent module is set to train mode."""
        return super().train(False)

    def set_attention(self, attention: str) -> None:
        """Selects an attention implementation of transformers by its name."""
        self.attention = attention
        self.model.set_attn_implementation(attention)

    @property
    def state_width(self) -> int:
        """Width of the states of soft tokens."""
        return self.width * max(1, len(self.read_layers))

    @property
    def embeddings(self) -> Tensor:
        """The input embedding matrix `(vocabulary, width)`."""
        return self.model.get_input_embeddings().weight

    def embed(self, tokens: Tensor) -> Tensor:
        """Returns input embeddings `(..., width)` of tokens `(...)`."""
        return self.model.get_input_embeddings()(tokens.to(self.embeddings.device))

    def token_ids(self, text: str) -> list[int]:
        """Returns the tokens of a text that continues another: without special tokens."""
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def tokenize(self, text: str) -> Tensor:
        """Returns the tokens of a text that begins a sequence, int64 `(T,)`, with the start of the chat template.

        Raises:
            PmgError: the text holds pictures.
        """
        if find_pictures(text):
            raise PmgError(
                f"{type(self.model).__name__} reads no pictures. Use an encoder that does, e.g. encoder=smolvlm, or "
                "describe pictures in words, e.g. captioner=metadata"
            )
        return torch.tensor(self.first_ids(text), dtype=torch.long)

    def first_ids(self, text: str) -> list[int]:
        """Returns the tokens of a text that begins a sequence."""
        templated = self.chat_template.user_prefix != ""  # it holds the tokenizer's special tokens
        return self.tokenizer(self.chat_template.user_prefix + text, add_special_tokens=not templated).input_ids

    @torch.no_grad()
    def prefill(
        self, texts: Sequence[str], batch_size: int | None = None, pictures: Sequence[Pictures] | None = None
    ) -> Context:
        """Computes the keys and values of texts, in batches of similar length.

        Args:
            texts: B texts, none empty.
            batch_size: texts in one forward pass; None: as many as suit the device.
            pictures: of each text the features of its pictures, in their order; None: texts without pictures.

        Returns:
            Their keys and values, in the order of `texts`, in the model's dtype.

        Raises:
            PmgError: a text has no tokens, or more than the model's limit.
        """
        rows = [self.tokenize(text) for text in texts]
        if not all(texts) or not all(map(len, rows)) or not rows:
            raise PmgError("the language model got an empty text. A context needs at least one token")
        return self.prefill_tokens(rows, batch_size, pictures)

    @torch.no_grad()
    def prefill_tokens(
        self, tokens: Sequence[Tensor], batch_size: int | None = None, pictures: Sequence[Pictures] | None = None
    ) -> Context:
        """Computes keys and values as `prefill` does, of texts given as tokens, int64 `(T_i,)` each."""
        shown = pictures or [()] * len(tokens)
        lengths = torch.tensor([len(row) for row in tokens])
        order = lengths.argsort(stable=True)
        ends = lengths[order].cumsum(0)
        shape = (self.layers, int(ends[-1]), self.kv_heads, self.head_dim)
        keys, values = (torch.empty(shape, dtype=self.model.dtype) for _ in range(2))
        following: list[Tensor] = []
        for batch in order.split(batch_size or PREFILL_BATCH.get(self.model.device.type, 32)):
            last = ends[(order == batch[-1]).nonzero().item()]
            span = slice(int(last - lengths[batch].sum()), int(last))
            rows, seen = [tokens[row] for row in batch], [shown[row] for row in batch]
            following += self._prefill_batch(rows, seen, keys[:, span], values[:, span])
        sizes, ordered = lengths[order].tolist(), tuple(tokens[row] for row in order)
        context = Context(keys.split(sizes, 1), values.split(sizes, 1), ordered, tuple(following))
        return context.select(order.argsort())

    def _prefill_batch(
        self, rows: list[Tensor], pictures: list[Pictures], keys: Tensor, values: Tensor
    ) -> Iterable[Tensor]:
        """Runs one batch; stores its keys and values in `(layers, T, kv_heads, head_dim)` and returns its `ends`."""
        check_length(max(map(len, rows)), self.limit)
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.model.device)
        real = torch.arange(padded.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        inputs, cache = self._history_inputs(padded, real, pictures), DynamicCache()
        order = torch.arange(padded.shape[1]).expand(padded.shape)
        self._forward(cache, inputs.seen, (order, order), **inputs.arguments)
        for layer, part in enumerate(cache.layers):
            keys[layer] = part.keys.transpose(1, 2)[real]
            values[layer] = part.values.transpose(1, 2)[real]
        self.tokens_computed += int(real.sum())
        return inputs.ends

    def _history_inputs(self, padded: Tensor, real: Tensor, pictures: list[Pictures]) -> HistoryInputs:
        """Returns the decoder's inputs for padded texts `(B, L)`, whose own tokens are at `real` `(B, L)`."""
        return HistoryInputs(causal_mask(real), {"input_ids": padded}, real.sum(1))

    @torch.no_grad()
    def probe(self) -> Probe:
        """Returns a short text, with the states that the model's own attention gives without a cache."""
        tokens = torch.arange(sum(PROBE)) * 7 % len(self.embeddings)
        inputs = tokens[None].to(self.model.device)
        states = self.model.get_decoder()(input_ids=inputs, use_cache=False).last_hidden_state[0]
        history, new = tokens.split(PROBE)
        return Probe(lambda: self.prefill_tokens([history]), new, states[-len(new) :])

    def mask_layers(self, seen: Tensor, queries: Tensor, keys: Tensor) -> Any:
        """Returns the decoder's attention mask, or one by each kind of its layers.

        Args:
            seen: bool `(B, N, L)`, which of N new tokens attends to which of L keys.
            queries: positions of the new tokens, int64 `(B, N)`.
            keys: positions of the keys, int64 `(B, L)`; those of a prefix are `NEAR`.
        """
        return additive_mask(seen, self.model)

    def _forward(
        self, cache: Cache, seen: Tensor, places: tuple[Tensor, Tensor], read_layers: Sequence[int] = (), **inputs: Any
    ) -> Tensor:
        """Returns hidden states; `seen` and `places` are those of `mask_layers`. The vocabulary head is not run."""
        inputs |= {"attention_mask": self.mask_layers(seen, *places), self.cache_argument: cache}
        if not read_layers:
            return self.model.get_decoder()(**inputs, use_cache=True).last_hidden_state
        states = self.model.get_decoder()(**inputs, use_cache=True, output_hidden_states=True).hidden_states
        return torch.cat([states[layer] for layer in read_layers], dim=-1)

    def extend(
        self, context: Context, embeds: Tensor, steps: Tensor, visible: Tensor, prefix: Tensor | None = None,
        read_layers: Sequence[int] = (),
    ) -> Tensor:  # fmt: skip
        """Computes the states of N new tokens behind each history.

        Args:
            context: B histories.
            embeds: `(B, N, width)`.
            steps: int64 `(N,)` or `(B, N)`, positions counted from the end of the history.
            visible: bool `(N, N)` or `(B, N, N)`, which new token attends to which.
            prefix: `(layers, 2, kv_heads, m, head_dim)`, which all new tokens attend to; not rotated.
            read_layers: see the class.

        Returns:
            Hidden states `(B, N, width)`, or those of several layers, joined along their width.
        """
        batch, new = embeds.shape[:2]
        past, in_pieces = PastKeyValues(context, self.model.device, self.model.dtype), self.attention == PACKED
        prefixes = [None] * self.layers if prefix is None else prefix.to(self.model.device, self.model.dtype)
        layers = [ContextLayer(past, number, part, in_pieces) for number, part in enumerate(prefixes)]
        free = torch.ones(1, 1, 0 if prefix is None else prefix.shape[3], dtype=torch.bool)
        parts = (context.padding_mask()[:, None], free, visible.expand(batch, new, new))
        seen = torch.cat([part.expand(batch, new, -1) for part in parts], dim=2)
        embeds = embeds.to(self.model.device, self.model.dtype)
        positions = context.positions[:, None] + steps
        check_length(int(positions.max()) + 1, self.limit)
        self.tokens_computed += int(parts[2].diagonal(dim1=1, dim2=2).sum())  # padding doesn't attend to itself
        self.tokens_reused += int(context.lengths.sum())
        history = torch.arange(parts[0].shape[-1]).expand(batch, -1)
        keys = torch.cat([history, torch.full((batch, free.shape[-1]), NEAR), positions], dim=1)
        inputs = {"inputs_embeds": embeds, "position_ids": positions.to(embeds.device)}
        return self._forward(Cache(layers=layers), seen, (positions, keys), read_layers, **inputs)

    def multimodal_states(self, context: Context, embeds: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Returns the hidden states, at `read_layers`, of multimodal tokens appended to each history.

        Args:
            context: B histories.
            embeds: `(B, n, width)` or `(n, width)`, shared by all histories. Differentiable.
            prefix: late prefix `(layers, 2, kv_heads, m, head_dim)`, keys and values that only
                the multimodal tokens attend to, not rotated. Differentiable.

        Returns:
            `(B, n, state_width)` in the model's dtype.
        """
        count = embeds.shape[-2]
        causal = torch.ones(count, count, dtype=torch.bool).tril()
        embeds = embeds.expand(len(context), -1, -1)
        return self.extend(context, embeds, torch.arange(count), causal, prefix, self.read_layers)

    def score_shared_options(
        self, context: Context, prompt: str, options: Sequence[str], batch_size: int = 32
    ) -> Tensor:
        """Returns the score of every option of one question for all histories, see `score_options`.

        Returns:
            float32 `(B, n_options)`.
        """
        questions = [[Question(prompt, tuple(options))]] * len(context)
        return torch.stack([scores for (scores,) in self.score_options(context, questions, batch_size)])

    @torch.no_grad()
    def score_options(
        self, context: Context, questions: Sequence[Sequence[Question]], batch_size: int = 32
    ) -> list[list[Tensor]]:
        """Returns the log-probability of every option of every question, all questions of a history in one pass.

        Args:
            context: B histories.
            questions: for each history at least one.
            batch_size: at most so many histories in one pass.

        Returns:
            For each history and question float32 `(n_options,)`, plain sums of token log-probabilities.

        Raises:
            PmgError: a history has no question, or a prompt or an option is empty.
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
        """Generates an answer behind each history and the prompt.

        Args:
            context: B histories.
            prompt: text between history and answer, at least one token.
            max_new_tokens: the longest answer.
            temperature: 0 takes the most likely token each time; above 0 tokens are sampled.
            seed: of the samples; the answer to one history does not depend on the others.
            batch_size: histories in one batch.

        Returns:
            B texts, without special tokens.

        Raises:
            PmgError: the prompt is empty.
        """
        tokens = torch.tensor(self.token_ids(prompt + self.chat_template.assistant_prefix), dtype=torch.long)
        if not prompt:
            raise PmgError("text generation needs a prompt that isn't empty")
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

    def _next_token_logits(
        self, cache: Cache, tokens: Tensor, seen: Tensor, places: tuple[Tensor, Tensor]
    ) -> Tensor:  # fmt: skip
        """Appends tokens `(B, N)` to `cache`; returns the logits of the next token, float32 `(B, V)`."""
        tokens, positions = tokens.to(self.model.device), places[0].to(self.model.device)
        states = self._forward(cache, seen, places, input_ids=tokens, position_ids=positions)
        return logits_of(self.model, states[:, -1]).cpu()


def load_language_model(
    source: str, dtype: str, cache_dir: str, chat: bool = False, quantization: str | None = None
) -> LanguageModel:
    """Loads a language model and its tokenizer.

    Args:
        source: hub id, folder, or ``package:NAME/path``; a ``.gguf`` file is unpacked once into `cache_dir`.
        dtype: name of a floating point type, e.g. ``bfloat16``.
        cache_dir: folder of unpacked files.
        chat: whether histories and questions are put into the tokenizer's chat template, if it has one.
        quantization: ``4bit`` or ``8bit`` quantizes the weights (bitsandbytes), or None.

    Raises:
        PmgError: the source is missing or damaged, or the model computes other states behind a cached history.
    """
    path = resolve_source(source)
    if path.endswith(".gguf"):
        with loading("the language model", path):
            path = str(unpack_gguf(Path(path), dtype, Path(cache_dir)))
    with loading("the language model", path):
        model, tokenizer = load_with_tokenizer(AutoModelForCausalLM, path, **loading_options(dtype, quantization))
        return LanguageModel(model, tokenizer, split_chat_template(tokenizer) if chat else NO_TEMPLATE)
