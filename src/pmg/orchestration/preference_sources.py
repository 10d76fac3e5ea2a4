"""What is known of each user, by the names that methods ask for (`words` and `tokens` in conf/method)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from pmg.cache import Cache
from pmg.configuration.instantiate import hash_groups, instantiate, nearest
from pmg.domain import Example, Item, Keywords, PmgError
from pmg.orchestration.builders import IMAGE_KEYS, SOFT_KEYS, check_trained_for

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

    from pmg.data.dataset import ImageStore
    from pmg.generation.requests import Method, Preference
    from pmg.models.diffusion.generator import Generator
    from pmg.preferences.reader import Reader, Readings

Value = TypeVar("Value")


@dataclass(frozen=True)
class Sources:
    """What preferences are made from.

    Attributes:
        cfg: of the command.
        catalogue: holds the history's drawings.
        examples: of all users.
        reader: of histories, with its language model.
        readings: what it read.
        generator: frozen.
    """

    cfg: DictConfig
    catalogue: ImageStore
    examples: Sequence[Example]
    reader: Reader
    readings: Readings
    generator: Generator

    @cached_property
    def by_profile(self) -> list[Example]:
        """One example of each profile, in the readings' order: they share their history."""
        first = {example.profile: example for example in reversed(self.examples)}
        return [first[profile] for profile in self.readings.profiles]

    @property
    def liked(self) -> list[Sequence[Item]]:
        """Each user's liked items."""
        return [example.liked for example in self.by_profile]


def read_keywords(sources: Sources) -> list[Keywords]:
    """The language model's keywords."""
    return sources.readings.keywords


def count_words(sources: Sources) -> list[Keywords]:
    """What a history has most often, counted without a language model."""
    from pmg.preferences.keyword_counting import count_keywords

    scenario, budget = sources.reader.scenario, sources.reader.budget
    return [budget.fit(count_keywords(example, scenario)) for example in sources.by_profile]


def true_words(sources: Sources) -> list[Keywords]:
    """The taste itself in words, which only a simulation knows.

    Raises:
        PmgError: nobody knows it.
    """
    if any("words" not in example.labels for example in sources.examples):
        raise PmgError(
            "a method asks for the words 'truth', the true taste, which nobody knows of real users: use method=real, "
            "or leave that method out, e.g. ~method.oracle"
        )
    return [Keywords(tuple(example.labels["words"].split(", "))) for example in sources.by_profile]


def soft_tokens(sources: Sources) -> Tensor:
    """Tokens of PMG's preference encoder `(U, n, D)`."""
    from pmg.models.loading.weight_sources import load_frozen
    from pmg.models.preference.preference_encoder import PreferenceEncoder

    encoder = load_frozen(PreferenceEncoder, f"{sources.cfg.train_run}/encoder")
    return encoder.encode(sources.reader.language_model, sources.readings.context)


def image_prompt_tokens(sources: Sources) -> Tensor:
    """Tokens of the history's images, by a map trained as PMG's encoder is (`encoder=image_prompt`)."""
    from pmg.models.loading.weight_sources import load_frozen
    from pmg.models.preference.image_prompt import ImagePromptEncoder
    from pmg.training.encoder_inputs import ImageEvidence

    encoder = load_frozen(ImagePromptEncoder, f"{sources.cfg.image_prompt_run}/encoder")
    evidence = ImageEvidence(instantiate(sources.cfg.scorer))
    features = evidence(sources.readings, sources.examples, sources.catalogue)
    return encoder.encode(sources.reader.language_model, features)


def inverted_tokens(sources: Sources) -> Tensor:
    """Tokens learned from each user's history images alone; kept in the cache, since they take minutes."""
    from pmg.training.inversion import invert_histories

    cfg = sources.cfg
    cache = Cache(f"{cfg.paths.cache_dir}/inversion")
    identity = hash_groups(cfg, "data", "generator", "text_encoder", "inversion", "seed")
    inversion = instantiate(cfg.inversion, generator=sources.generator)
    return invert_histories(
        inversion, sources.by_profile, sources.catalogue, sources.reader.scenario.scene_words, cache, identity,
        cfg.seed or 0,
    )  # fmt: skip


WORDS: dict[str, Callable[[Sources], Sequence[Keywords]]] = {
    "keywords": read_keywords,
    "counting": count_words,
    "truth": true_words,
}
TOKENS: dict[str, Callable[[Sources], Tensor]] = {
    "soft": soft_tokens,
    "image_prompt": image_prompt_tokens,
    "inversion": inverted_tokens,
}


def check_known(cfg: DictConfig, methods: Mapping[str, Method]) -> dict[str, str]:
    """Checks, before anything is loaded, that all that methods ask for can be had.

    Returns:
        Hashes of what makes the methods' tokens, by name.

    Raises:
        PmgError: a method asks for something unknown, or a training that it needs is missing.
    """
    for name, method in methods.items():
        for kind, asked, known in (("words", method.words, WORDS), ("tokens", method.tokens, TOKENS)):
            if asked and asked not in known:
                listed = ", ".join(known)
                raise PmgError(f"method.{name}.{kind}: no {kind} '{asked}'{nearest(asked, known)} (known: {listed})")
    tokens = {method.tokens for method in methods.values()}
    runs = {"soft": ("train_run", SOFT_KEYS), "image_prompt": ("image_prompt_run", IMAGE_KEYS)}
    found = {name: check_trained_for(cfg, *needed) for name, needed in runs.items() if name in tokens}
    return found | ({"inversion": hash_groups(cfg, "inversion")} if "inversion" in tokens else {})


def build_preferences(
    sources: Sources, methods: Mapping[str, Method], negative: Sequence[Keywords]
) -> dict[str, Preference]:
    """What is known of each user, by profile: only what `methods` ask for is made."""
    from pmg.generation.requests import Preference

    words = _make(WORDS, {method.words for method in methods.values()}, sources)
    tokens = _make(TOKENS, {method.tokens for method in methods.values()}, sources)
    return {
        example.profile: Preference(
            example.user,
            {name: values[row] for name, values in words.items()},
            {name: values[row] for name, values in tokens.items()},
            negative[row],
            len(example.history),
        )
        for row, example in enumerate(sources.by_profile)
    }


def _make(known: Mapping[str, Callable[[Sources], Value]], asked: set[str], sources: Sources) -> dict[str, Value]:
    """Values by name, of the names asked for."""
    return {name: make(sources) for name, make in known.items() if name in asked}
