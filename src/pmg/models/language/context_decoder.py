"""A frozen decoder: prefills texts once, and computes states of new tokens behind their cached keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache

from pmg.domain import PmgError
from pmg.models.language.chat_template import NO_TEMPLATE, ChatTemplate
from pmg.models.language.compatibility import check_length, find_cache_argument, longest_sequence, unsupported_model
from pmg.models.language.context import Context, ContextLayer, HistoryInputs, PastKeyValues
from pmg.models.language.grouped_attention import PACKED, additive_mask, causal_mask
from pmg.models.language.layer_states import states_behind
from pmg.models.language.picture_marks import find_pictures
from pmg.models.loading.weight_sources import Frozen

NEAR = 2**40  # the position of a prefix: behind all tokens, so that no sliding window hides it
Pictures = Sequence[Tensor]
"""Features of the pictures in one text, in their order."""
PROBE = (5, 3)  # cached tokens, and tokens behind them
TOLERANCE = {torch.float32: 1e-3}  # relative error of the states; in half precision the order of sums shows
HALF_TOLERANCE = 0.1
PREFILL_BATCH = {"cpu": 4}  # histories in one pass, else 32, which exceed a CPU's caches: twice the time


class ContextDecoder(Frozen):
    """A causal decoder that is never trained: parameters frozen, always in eval mode.

    The model is any causal one of transformers whose layers keep keys and values; PmgError if it computes other states
    behind a cached history. `read_layers` are indices into the hidden states at which soft tokens are read, joined
    along their width; none: the last.

    Attributes:
        width: width of embeddings and hidden states.
        layers: number of transformer layers.
        kv_heads: number of key/value heads, fewer than query heads under grouped and multi-query attention.
        head_dim: width of one head.
        cache_argument: name of the argument under which the model takes a cache.
        tokens_computed: tokens that went through the model since the start (padding not counted).
        tokens_reused: cached tokens that were attended to without being computed again.
    """

    reads_pictures: ClassVar[bool] = False  # whether texts may hold marks of `pmg.models.language.picture_marks`
    adds_between_layers: ClassVar[bool] = False  # whether features of pictures are added behind single layers

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chat_template: ChatTemplate = NO_TEMPLATE,
        read_layers: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.read_layers = tuple(read_layers)
        self.model = model.requires_grad_(False)
        self.tokenizer, self.chat_template = tokenizer, chat_template
        config = model.config.get_text_config()
        heads = getattr(config, "num_attention_heads", None)
        if not heads:
            raise unsupported_model(config.model_type, "it has no attention heads")
        self.width, self.layers, self.limit = config.hidden_size, config.num_hidden_layers, self.longest(config)
        self.kv_heads: int = getattr(config, "num_key_value_heads", None) or heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.tokens_computed = self.tokens_reused = 0
        self.cache_argument = find_cache_argument(model.get_decoder())
        self.train(False)
        self.set_attention(self._select_attention())
        self.tokens_computed = self.tokens_reused = 0

    def longest(self, config: PreTrainedConfig) -> int | None:
        """Returns the longest sequence of a text model, in tokens; None: there is no limit."""
        return longest_sequence(config)

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
        """Returns a text's tokens behind the chat template's start, int64 `(T,)`; PmgError if it holds pictures."""
        if find_pictures(text):
            raise PmgError(
                f"{type(self.model).__name__} reads no pictures. Use one that does, e.g. language_model=smolvlm, or "
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
        """Returns keys and values of texts, in their order and the model's dtype; batches have similar lengths.

        A forward pass has `batch_size` texts; None: as many as suit the device. `pictures` are of each text the
        features of its pictures, in their order. PmgError if a text is empty, has no tokens, or more than the model's
        limit.
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
        for batch in order.split(batch_size or self._at_once()):
            last = ends[(order == batch[-1]).nonzero().item()]
            span = slice(int(last - lengths[batch].sum()), int(last))
            inputs, real, positions = self._pad([tokens[row] for row in batch], [shown[row] for row in batch])
            cache = DynamicCache()
            self._forward(cache, inputs.seen, (positions, positions), **inputs.arguments)
            for layer, part in enumerate(cache.layers):
                keys[layer, span] = part.keys.transpose(1, 2)[real]
                values[layer, span] = part.values.transpose(1, 2)[real]
            self.tokens_computed += int(real.sum())
            following += inputs.ends
        sizes, ordered = lengths[order].tolist(), tuple(tokens[row] for row in order)
        context = Context(keys.split(sizes, 1), values.split(sizes, 1), ordered, tuple(following))
        return context.select(order.argsort())

    @torch.no_grad()
    def layer_states(
        self, texts: Sequence[str], layers: Sequence[int], pictures: Sequence[Pictures] | None = None
    ) -> list[Tensor]:
        """Returns the hidden states of each text's tokens behind so many layers, `(T, len(layers) * width)`.

        Layers above the last of them aren't run. Layer 0 is the embeddings, the last one `self.layers`; states are
        joined along the width. Pictures are as for `prefill`. PmgError if no layer is named, or one that isn't there;
        a text has no tokens, or more than the model's limit.
        """
        if not layers or not all(0 <= layer <= self.layers for layer in layers):
            raise PmgError(
                f"inputs.layers={[*layers]}: name at least one of the language model's {self.layers} layers; 0 is its "
                "embeddings"
            )
        rows, shown = [self.tokenize(text) for text in texts], pictures or [()] * len(texts)
        found: dict[int, Tensor] = {}
        for batch in torch.tensor([len(row) for row in rows]).argsort(stable=True).split(self._at_once()):
            inputs, real, order = self._pad([rows[row] for row in batch], [shown[row] for row in batch])
            mask = self.mask_layers(inputs.seen, order, order)
            states = states_behind(self.model.get_decoder(), layers, attention_mask=mask, **inputs.arguments)
            found |= {int(row): states[place, real[place]].cpu() for place, row in enumerate(batch)}
            self.tokens_computed += int(real.sum())
        return [found[row] for row in range(len(rows))]

    def _at_once(self) -> int:
        """Returns how many histories suit the device in one pass."""
        return PREFILL_BATCH.get(self.model.device.type, 32)

    def _pad(self, rows: list[Tensor], pictures: list[Pictures]) -> tuple[HistoryInputs, Tensor, Tensor]:
        """Returns the decoder's inputs, where the texts' own tokens are, bool `(B, L)`, and positions `(B, L)`."""
        check_length(max(map(len, rows)), self.limit)
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.model.device)
        real = torch.arange(padded.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        order = torch.arange(padded.shape[1]).expand(padded.shape)
        return self._history_inputs(padded, real, pictures), real, order

    def _history_inputs(self, padded: Tensor, real: Tensor, pictures: list[Pictures]) -> HistoryInputs:
        """Returns the decoder's inputs for padded texts `(B, L)`, whose own tokens are at `real` `(B, L)`."""
        return HistoryInputs(causal_mask(real), {"input_ids": padded}, real.sum(1))

    @torch.no_grad()
    def probe(self) -> tuple[Tensor, list[Pictures] | None, Tensor, Tensor]:
        """Returns a short history's tokens and pictures, new tokens, and their states by the model's own pass.

        That pass has no cache. Shapes: int64 `(T,)`, as for `prefill`, int64 `(N,)`, `(N, width)`.
        """
        tokens = torch.arange(sum(PROBE)) * 7 % len(self.embeddings)
        inputs = tokens[None].to(self.model.device)
        states = self.model.get_decoder()(input_ids=inputs, use_cache=False).last_hidden_state[0]
        history, new = tokens.split(PROBE)
        return history, None, new, states[-len(new) :]

    def _select_attention(self) -> str:
        """Returns the attention, by name, by which a cached history gives the same states as one uncached pass.

        Candidates are the packed one and transformers' eager one, which supports soft caps and sinks; PmgError if both
        fail, as with recurrent layers and positions relative to the end.
        """
        if self.model.device.type == "meta":
            return PACKED
        bound = TOLERANCE.get(self.model.dtype, HALF_TOLERANCE)
        history, pictures, new, states = self.probe()
        wanted, visible = states.float(), torch.ones(len(new), len(new), dtype=torch.bool).tril()
        for name in (PACKED, "eager"):
            try:
                self.set_attention(name)
                context = self.prefill_tokens([history], pictures=pictures)
                got = self.extend(context, self.embed(new)[None], torch.arange(len(new)), visible)[0].float()
                error = float((got - wanted).norm() / wanted.norm())
                reason = f"its states differ by {error:.0%} from those of one uncached pass"
            except (RuntimeError, AttributeError, IndexError, TypeError, ValueError) as failure:
                error, reason = float("inf"), " ".join(str(failure).split())[:160]
            if error < bound:
                return name
        raise unsupported_model(type(self.model).__name__, reason)

    def mask_layers(self, seen: Tensor, queries: Tensor, keys: Tensor) -> Any:
        """Returns the decoder's attention mask, or one by each kind of its layers.

        Bool `seen` `(B, N, L)` says which of N new tokens attends to which of L keys. Positions are int64, `(B, N)` of
        the new tokens and `(B, L)` of the keys; those of a prefix are `NEAR`.
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
        """Returns states `(B, N, width)` of N new tokens behind each history; those of several layers are joined.

        Args:
            context: B histories.
            embeds: `(B, N, width)`.
            steps: int64 `(N,)` or `(B, N)`, positions counted from the end of the history.
            visible: bool `(N, N)` or `(B, N, N)`, which new token attends to which.
            prefix: `(layers, 2, kv_heads, m, head_dim)`, which all new tokens attend to; not rotated.
            read_layers: see the class.
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
