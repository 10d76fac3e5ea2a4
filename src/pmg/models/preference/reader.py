"""A preference encoder that reads: trained layers over a language model's states of a history, and its pictures.

Shapes: `B` users, `T` tokens of a history's text, `E` width of the language model, `W` that of its states at k layers
together, k E; `H` pictures of a user, `F` width of a picture's vector, `n` soft tokens, `D` their width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from pmg.configuration.ranges import Count, Decay
from pmg.models.language.language_model import LanguageModel
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.models.preference.visual_encoder import weigh_pictures

HEAD = 64  # width of an attention head
LONGEST = 1024  # tokens of a text with a position of their own; older ones share the last
TEXT, DISLIKED, LIKED, SENTENCE = range(4)  # kinds of what is read
Attributes = Mapping[str, Mapping[str, Any]]
"""A scenario's attributes by name; those with ``options`` can be answered."""


@dataclass(frozen=True)
class Readings:
    """What a reader takes of B users."""

    states: Tensor  # of the text's tokens, at one layer or several of the language model, `(B, T, W)`
    words: Tensor  # bool `(B, T)`, false at padding
    titles: Tensor  # of each picture the mean embedding of its title's tokens, `(B, H, E)`
    vectors: Tensor  # of the pictures, `(B, H, F)`
    present: Tensor  # bool `(B, H)`, false at padding
    liked: Tensor  # bool `(B, H)`, false at pictures that the user disliked
    # vectors of the user's sentences by a sentence encoder, `(B, S, V)`, oldest first; None: none
    sentences: Tensor | None = None
    said: Tensor | None = None  # bool `(B, S)`, false at padding

    def __len__(self) -> int:
        return len(self.states)


class ReadingLayer(nn.Module):
    """Cross-attention of learned queries and pictures to text and pictures, then self-attention among them.

    Tokens of a text don't attend to each other in trained layers: that overfits to the phrases of training, at four
    times the cost. Keys come from all layers that are read, values from the first alone.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        heads = max(1, width // HEAD)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.read = nn.MultiheadAttention(width, heads, dropout, batch_first=True, add_zero_attn=True)
        self.exchange = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.change = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, hidden: Tensor, keys: Tensor, values: Tensor, padding: Tensor) -> Tensor:
        """Returns the changed states `(B, Q, width)` of queries and pictures.

        Keys and values of what is read are `(B, K, width)`. Bool `hidden` `(B, Q)` is true where states are padding,
        and `padding` `(B, K)` where keys are.
        """
        first, second, third = self.norms
        read, _ = self.read(first(states), keys, values, padding, need_weights=False)
        states = states + self.dropout(read)
        own = second(states)
        exchanged, _ = self.exchange(own, own, own, hidden, need_weights=False)
        states = states + self.dropout(exchanged)
        return states + self.dropout(self.change(third(states)))


class PreferenceReader(TokenEncoder):
    """Learned queries that read a history's text and its pictures in one sequence.

    The text comes as hidden states of a frozen language model, which are computed once; each picture as its vector
    and the embedding of its title, by which sentences refer to it. Queries and pictures attend to both (as in the
    Perceiver, Jaegle et al. 2021), so that what is said can replace what pictures show. Keys are made of all layers
    that are read, values of the first alone. Where pictures' vectors are soft tokens themselves, a weighted mean of
    them is added, times a learned gate, so that copying needs no training. Positions are counted from the end: the
    latest is 0.

    `llm_width` is E, `feature_width` F, `text_width` D, and `soft_tokens` n; `layers_read` is k, the layers of the
    language model whose states are joined; without a `sentence_width` V no sentences are read. `width` and number of
    `layers` are those of the trained ones. `answered` names the scenario's attributes whose options the reader scores,
    each with its options.
    """

    @register_to_config
    def __init__(
        self, *, llm_width: int, feature_width: int, text_width: int, layers_read: int = 1, sentence_width: int = 0,
        soft_tokens: int = 4, width: int = 192, layers: int = 3, dropout: float = 0.1,
        answered: Sequence[tuple[str, Sequence[str]]] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        counts = [len(words) for _, words in answered]
        self.text, self.titles = nn.Linear(layers_read * llm_width, width), nn.Linear(llm_width, width)
        self.named = nn.Linear(llm_width, width)
        self.pictures = nn.Linear(feature_width, width)
        if sentence_width:
            self.sentences, self.stated = nn.Linear(sentence_width, width), nn.Linear(sentence_width, width)
        self.queries = nn.Parameter(0.02 * torch.randn(soft_tokens + len(counts), width))
        self.answers = nn.ModuleList(nn.Linear(width, count) for count in counts)
        self.kinds, self.positions = nn.Embedding(4, width), nn.Embedding(LONGEST, width)
        for part in (self.kinds, self.positions):
            nn.init.normal_(part.weight, std=0.02)
        self.reading = nn.ModuleList(ReadingLayer(width, dropout) for _ in range(layers))
        self.key_norm, self.value_norm, self.last_norm = (nn.LayerNorm(width) for _ in range(3))
        self.copies = feature_width == soft_tokens * text_width
        self.match, self.gate = nn.Linear(width, width), nn.Linear(width, 1)
        for linear in (self.match, self.gate):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.map = nn.Linear(width, text_width)
        nn.init.normal_(self.map.weight, std=0.5 * width**-0.5)
        nn.init.zeros_(self.map.bias)
        sizes = {"state": layers_read * llm_width, "title": llm_width, "feature": feature_width}
        for name, size in {**sizes, "sentence": sentence_width}.items():
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("output_mean", torch.zeros(soft_tokens, text_width))
        self.register_buffer("output_std", torch.ones(()))

    @classmethod
    def sized(
        cls, language_model: LanguageModel, text_width: int, inputs: Readings, *, attributes: Attributes | None = None,
        **options: Any,
    ) -> Self:  # fmt: skip
        """Returns an untrained reader that fits a language model and pictures' vectors, see `TokenEncoder`."""
        answered = [(name, list(one["options"])) for name, one in (attributes or {}).items() if one.get("options")]
        return cls(
            llm_width=inputs.titles.shape[-1], layers_read=inputs.states.shape[-1] // inputs.titles.shape[-1],
            feature_width=inputs.vectors.shape[-1], text_width=text_width,
            sentence_width=0 if inputs.sentences is None else inputs.sentences.shape[-1],
            answered=answered, **options,
        )  # fmt: skip

    def forward(self, language_model: LanguageModel, inputs: Readings) -> Tensor:
        """Returns the soft tokens of B users, `(B, n, D)`; the language model has read before."""
        return self.respond(language_model, inputs)[0]

    def respond(self, language_model: LanguageModel, inputs: Readings) -> tuple[Tensor, list[Tensor]]:
        """Returns soft tokens, `(B, n, D)`, and the scores of each attribute's options, `(B, K)` before a softmax."""
        count, device = len(self.output_mean), self.output_mean.device
        read = self._read(inputs)
        queries, pictures = read[:, :count], read[:, len(self.queries) :]
        tokens = self.output_mean + self.output_std * self.map(queries)
        if self.copies:
            fit = self.match(queries) @ pictures.transpose(1, 2) * self.config.width**-0.5
            weights = weigh_pictures(fit, (inputs.present & inputs.liked).to(device))[..., 1:]
            vectors = inputs.vectors.to(tokens).unflatten(2, tuple(self.output_mean.shape)) - self.output_mean
            tokens = tokens + self.gate(queries).sigmoid() * torch.einsum("bnh,bhnd->bnd", weights, vectors)
        scores = [answer(read[:, count + place]) for place, answer in enumerate(self.answers)]
        return tokens, scores

    def _read(self, inputs: Readings) -> Tensor:
        """Returns what queries and pictures have read, `(B, n + A + H, width)` with A attributes."""
        device = self.output_mean.device
        words, present = inputs.words.to(device), inputs.present.to(device)
        states = self._scaled("state", inputs.states)
        text = self.text(states) + self._places(words) + self.kinds.weight[TEXT]
        named = self.named(states[..., : self.config.llm_width]) + self.kinds.weight[TEXT]
        vectors, titles = self._scaled("feature", inputs.vectors), self._scaled("title", inputs.titles)
        seen = self.pictures(vectors) + self.titles(titles)
        seen = seen + self.kinds(torch.where(inputs.liked.to(device), LIKED, DISLIKED))
        keys, values, padding = [seen, text], [seen, named], [present, words]
        if inputs.sentences is not None and inputs.said is not None:
            sentences, said = self._scaled("sentence", inputs.sentences), inputs.said.to(device)
            keys.append(self.sentences(sentences) + self._places(said) + self.kinds.weight[SENTENCE])
            values.append(self.stated(sentences) + self.kinds.weight[SENTENCE])
            padding.append(said)
        read_keys, read_values = self.key_norm(torch.cat(keys, 1)), self.value_norm(torch.cat(values, 1))
        queries = self.queries.expand(len(text), -1, -1)
        hidden = ~torch.cat([present.new_ones(queries.shape[:2]), present], 1)
        read = torch.cat([queries, seen], 1)
        for layer in self.reading:
            read = layer(read, hidden, read_keys, read_values, ~torch.cat(padding, 1))
        return self.last_norm(read)

    def _places(self, present: Tensor) -> Tensor:
        """Returns embeddings of places, `(B, T, width)`, counted from each row's last that is `present`, `(B, T)`."""
        places = present.sum(1, keepdim=True) - 1 - torch.arange(present.shape[1], device=present.device)
        return self.positions(places.clamp(min=0, max=len(self.positions.weight) - 1))

    def _scaled(self, name: str, values: Tensor) -> Tensor:
        mean, std = self.get_buffer(f"{name}_mean"), self.get_buffer(f"{name}_std")
        return (values.to(mean) - mean) / std

    @torch.no_grad()
    def fit_scales(self, sample: Readings, text_embeddings: Tensor) -> None:
        """Sets mean and deviation of the inputs to those of some users, and of the outputs to those of real tokens.

        These are the pictures' own tokens where their vectors are such, else `text_embeddings` `(N, D)`.
        """
        seen = {"state": sample.states[sample.words], "title": sample.titles[sample.present],
                "feature": sample.vectors[sample.present]}  # fmt: skip
        if sample.sentences is not None:
            seen["sentence"] = sample.sentences[sample.said]
        for name, values in seen.items():
            if len(values) > 1:
                self.get_buffer(f"{name}_mean").copy_(values.float().mean(0))
                self.get_buffer(f"{name}_std").copy_(values.float().std(0).clamp(min=1e-4))
        tokens = text_embeddings[:, None].expand(-1, len(self.output_mean), -1)
        if self.copies and len(seen["feature"]) > 1:
            tokens = seen["feature"].view(-1, *self.output_mean.shape)
        self.output_mean.copy_(tokens.mean(0))
        self.output_std.copy_((tokens - tokens.mean(0)).std())


def build_reader(
    language_model: LanguageModel, text_embeddings: Tensor, sample: Readings, *, soft_tokens: Count = 4,
    width: Count = 192, layers: Count = 3, dropout: Decay = 0.1, attributes: Attributes | None = None,
) -> PreferenceReader:  # fmt: skip
    """Returns an untrained `PreferenceReader` that fits a language model, a text encoder and pictures' vectors.

    Readings of some users and embeddings `(N, D)` of real tokens set the scales; it scores options of `attributes`.
    """
    encoder = PreferenceReader.sized(
        language_model, text_embeddings.shape[-1], sample, soft_tokens=soft_tokens, width=width, layers=layers,
        dropout=dropout, attributes=attributes,
    )  # fmt: skip
    encoder.fit_scales(sample, text_embeddings)
    return encoder.eval()
