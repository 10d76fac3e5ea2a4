"""A frozen causal language model: read histories once, then ask many things of them."""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, Cache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache

from pmg.domain import PmgError
from pmg.models.attention import PACKED
from pmg.models.context import Context, ContextLayer
from pmg.models.sources import resolve_source


class LanguageModel(nn.Module):
    """A causal language model that is never trained: parameters frozen, always in eval mode.

    Args:
        model: any transformers causal language model with rotary positions.
        tokenizer: its tokenizer.

    Attributes:
        tokens_computed: tokens that went through the model since the start (padding not counted).
        tokens_reused: tokens of contexts that were attended to without being computed again.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        model.set_attn_implementation(PACKED)
        self.tokenizer = tokenizer
        self.tokens_computed = 0
        self.tokens_reused = 0
        # transformers 5.24 renamed the argument and warns about the old name
        renamed = "cache" in inspect.signature(model.get_decoder().forward).parameters
        self._cache_argument = "cache" if renamed else "past_key_values"
        self.train(False)

    def train(self, mode: bool = True) -> LanguageModel:
        """Stays in eval mode, whatever the module around it does."""
        return super().train(False)

    @property
    def width(self) -> int:
        """Width of embeddings and hidden states."""
        return self.model.config.hidden_size

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return self.model.config.num_hidden_layers

    @property
    def kv_heads(self) -> int:
        """Number of key/value heads (fewer than query heads under grouped attention)."""
        return self.model.config.num_key_value_heads

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        config = self.model.config
        return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    @property
    def embeddings(self) -> Tensor:
        """The input embedding matrix `(vocabulary, width)`."""
        return self.model.get_input_embeddings().weight

    def token_ids(self, text: str) -> list[int]:
        """Tokens of a piece of text that goes on from something: no special tokens."""
        return self.tokenizer(text, add_special_tokens=False).input_ids

    @torch.no_grad()
    def prefill(self, texts: Sequence[str], batch_size: int = 32) -> Context:
        """Reads texts once, in batches of similar length.

        Args:
            texts: B texts, none empty.
            batch_size: texts in one forward pass.

        Returns:
            Their keys and values, in the order of `texts`, in the model's dtype.

        Raises:
            PmgError: a text has no tokens.
        """
        tokens = [torch.tensor(self.tokenizer(text).input_ids, dtype=torch.long) for text in texts]
        lengths = torch.tensor([len(row) for row in tokens])
        if not len(lengths) or not lengths.min():
            raise PmgError("the language model was given an empty text; a context needs at least one token")
        order = lengths.argsort(stable=True)
        ends = lengths[order].cumsum(0)
        shape = (self.layers, int(ends[-1]), self.kv_heads, self.head_dim)
        keys, values = (torch.empty(shape, dtype=self.model.dtype) for _ in range(2))
        for batch in order.split(batch_size):
            last = ends[(order == batch[-1]).nonzero().item()]
            span = slice(int(last - lengths[batch].sum()), int(last))
            self._read([tokens[row] for row in batch], keys[:, span], values[:, span])
        starts = torch.empty_like(lengths)
        starts[order] = ends - lengths[order]
        return Context(keys, values, starts, lengths)

    def _read(self, rows: list[Tensor], keys: Tensor, values: Tensor) -> None:
        """Runs one batch and writes its keys and values `(layers, T, kv_heads, head_dim)` in place."""
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.model.device)
        real = torch.arange(padded.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        seen = real[:, None] & torch.ones(padded.shape[1], padded.shape[1], dtype=torch.bool).tril()
        cache = DynamicCache()
        self._decode(cache, input_ids=padded, attention_mask=self._mask(seen))
        for layer, part in enumerate(cache.layers):
            keys[layer] = part.keys.transpose(1, 2)[real]
            values[layer] = part.values.transpose(1, 2)[real]
        self.tokens_computed += int(real.sum())

    def _mask(self, seen: Tensor) -> Tensor:
        """Turns bool `(B, N, L)` into what is added to attention logits, `(B, 1, N, L)`."""
        blocked = torch.finfo(self.model.dtype).min
        mask = torch.zeros(seen.shape, dtype=self.model.dtype).masked_fill_(~seen, blocked)
        return mask[:, None].to(self.model.device)

    def _decode(self, cache: Cache, **inputs: Tensor) -> Tensor:
        """Runs the transformer without its vocabulary head; returns last hidden states."""
        cache_argument = {self._cache_argument: cache}
        return self.model.get_decoder()(**inputs, **cache_argument, use_cache=True).last_hidden_state

    def _extend(
        self, context: Context, embeds: Tensor, steps: Tensor, visible: Tensor, prefix: Tensor | None = None
    ) -> Tensor:
        """Runs N new tokens behind each history.

        Args:
            context: B histories.
            embeds: `(B, N, width)`.
            steps: int64 `(N,)`, positions counted from the end of the history.
            visible: bool `(N, N)`, which new token sees which.
            prefix: `(layers, 2, kv_heads, m, head_dim)`, seen by all new tokens; it has no positions.

        Returns:
            Last hidden states `(B, N, width)`.
        """
        rows, (batch, new) = context.token_indices(), embeds.shape[:2]
        layers = [
            ContextLayer(context, layer, rows, None if prefix is None else prefix[layer])
            for layer in range(self.layers)
        ]
        free = torch.ones(1, 1, 0 if prefix is None else prefix.shape[3], dtype=torch.bool)
        parts = (context.padding_mask()[:, None], free, visible[None])
        seen = torch.cat([part.expand(batch, new, -1) for part in parts], dim=2)
        embeds = embeds.to(self.model.device, self.model.dtype)
        positions = (context.lengths[:, None] + steps).to(embeds.device)
        self.tokens_computed += batch * new
        self.tokens_reused += int(context.lengths.sum())
        cache = Cache(layers=layers)
        return self._decode(cache, inputs_embeds=embeds, attention_mask=self._mask(seen), position_ids=positions)

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
        return self._extend(context, embeds, torch.arange(count), causal, prefix)

    @torch.no_grad()
    def choose(self, context: Context, prompt: str, options: Sequence[str], batch_size: int = 32) -> Tensor:
        """Scores every option as the continuation of each history and the prompt.

        Args:
            context: B histories.
            prompt: text between history and option, at least one token.
            options: texts that may follow, each at least one token (most tokenizers want a leading space).
            batch_size: histories in one pass; prompt and options all go through in that one pass.

        Returns:
            float32 `(B, n_options)`, plain sums of token log-probabilities.

        Raises:
            PmgError: the prompt or an option is empty.
        """
        tokens = [self.token_ids(text) for text in (prompt, *options)]
        if len(tokens) < 2 or not all(tokens):
            raise PmgError(f"a choice needs a prompt and options that aren't empty, got '{prompt}' {list(options)}")
        batches = torch.arange(len(context)).split(batch_size)
        return torch.cat([self._choose(context.select(batch), *_tree(tokens)) for batch in batches])

    def _choose(self, context: Context, tree: Tensor, steps: Tensor, visible: Tensor, picks: Tensor) -> Tensor:
        """Scores one batch; see `_tree`."""
        embeds = self.embeddings[tree.to(self.embeddings.device)].expand(len(context), -1, -1)
        states = self._extend(context, embeds, steps, visible)
        first = int(picks[1].min())  # states before the prompt's end predict nothing that is asked for
        # flat: a matrix product of three dimensions would copy the vocabulary matrix for every history
        logits = self.model.get_output_embeddings()(states[:, first:].flatten(0, 1))
        log_probs = logits.float().log_softmax(-1).unflatten(0, (len(context), -1))
        scores = log_probs[:, picks[1] - first, picks[2]].cpu()
        return torch.zeros(len(context), int(picks[0].max()) + 1).index_add(1, picks[0], scores)


def _tree(tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lays a prompt and its options out as one sequence in which each option sees the prompt and itself.

    Args:
        tokens: tokens of the prompt, then of each option.

    Returns:
        Tokens `(N,)`, positions `(N,)`, visibility `(N, N)`, and `(3, K)`: for each option token the option,
        the place in the sequence that predicts it, and the token itself.
    """
    prompt = tokens[0]
    tree, steps, owner, picks = list(prompt), list(range(len(prompt))), [-1] * len(prompt), []
    for option, ids in enumerate(tokens[1:]):
        sources = [len(prompt) - 1, *range(len(tree), len(tree) + len(ids) - 1)]
        picks += [(option, source, token) for source, token in zip(sources, ids, strict=True)]
        tree += ids[:-1]
        steps += range(len(prompt), len(prompt) + len(ids) - 1)
        owner += [option] * (len(ids) - 1)
    owners = torch.tensor(owner)
    related = (owners[:, None] == owners) | (owners == -1)
    visible = related & torch.ones_like(related).tril()
    return torch.tensor(tree), torch.tensor(steps), visible, torch.tensor(picks).T


def load_language_model(source: str, dtype: str, cache_dir: str) -> LanguageModel:
    """Loads a language model and its tokenizer.

    Args:
        source: hub id, folder, or ``package:NAME/path``; a ``.gguf`` file is unpacked once into `cache_dir`.
        dtype: name of a floating point type, e.g. ``bfloat16``.
        cache_dir: where unpacked files lie.

    Raises:
        PmgError: the source is missing or damaged.
    """
    path = resolve_source(source)
    try:
        if path.endswith(".gguf"):
            path = str(_unpack_gguf(Path(path), dtype, Path(cache_dir)))
        model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
        return LanguageModel(model, AutoTokenizer.from_pretrained(path))
    except PmgError:
        raise
    except Exception as error:  # readers of weights raise whatever they like on damaged files
        reason = " ".join(str(error).split())[:200]
        raise PmgError(f"can't load the language model from {path} ({type(error).__name__}: {reason})") from error


def _unpack_gguf(file: Path, dtype: str, cache_dir: Path) -> Path:
    """Turns a quantised GGUF file into a folder of safetensors, once; returns the folder."""
    if not file.is_file():
        raise PmgError(f"language model file {file} does not exist; run `make setup` or name another source")
    folder = cache_dir / f"{file.stem}-{dtype}-{file.stat().st_size}"
    if folder.is_dir():
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".unpacking-") as temporary:
        for part in _read_gguf(file, dtype):
            part.save_pretrained(Path(temporary, "model"))
        if not folder.is_dir():  # another process may have been faster
            shutil.move(Path(temporary, "model"), folder)
    return folder


def _read_gguf(file: Path, dtype: str) -> Iterator[PreTrainedModel | PreTrainedTokenizerBase]:
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        from transformers import GgufConfig
    except ImportError:  # before GgufConfig, transformers always unpacked
        dense = {}
    else:
        dense = {"quantization_config": GgufConfig(dequantize=True)}
    yield AutoModelForCausalLM.from_pretrained(**where, **dense, dtype=getattr(torch, dtype))
    yield AutoTokenizer.from_pretrained(**where)
