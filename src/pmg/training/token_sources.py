"""Preference sources of trained encoders: soft tokens and keywords, see `pmg.preferences.sources`."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pmg.configuration.identity import Values
from pmg.configuration.instantiate import built_class, instantiate
from pmg.configuration.ranges import Fraction
from pmg.domain import Keywords, PmgError
from pmg.models.loading.weight_sources import load_frozen
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keywords import from_pairs
from pmg.preferences.scenarios import Scenario
from pmg.preferences.sources import KeywordSource, PreferenceSource, Requirements, SourceContext, TokenSource
from pmg.runs.finished_training import TrainingRun
from pmg.runs.run_folder import ENCODER, replace_folders
from pmg.training.encoder_inputs import EncoderInputs, UserInputs, needs_contexts

LEAST = 0.15
# the encoder itself may be any: it is read from its run
SAME = ("data", "scenario", "captioner", "text_encoder", "language_model", "generator")


class EncodedSource(PreferenceSource):
    """Base of sources of a trained encoder, which `load` returns with the inputs of all users."""

    @property
    def encoder_name(self) -> str:
        """Names the encoder in messages."""
        return "the pipeline"

    @abstractmethod
    def load(self, context: SourceContext) -> tuple[TokenEncoder, UserInputs]:
        """Returns the trained encoder and all users' inputs."""


class EncodedTokens(EncodedSource, TokenSource):
    """Soft tokens of a trained encoder."""

    def __call__(self, context: SourceContext) -> Tensor:
        """Encodes all users, `(U, n, D)`; errors as `load`."""
        encoder, inputs = self.load(context)
        return encoder.encode(context.extractor.language_model, inputs)


@dataclass(frozen=True, kw_only=True)
class EncodedKeywords(EncodedSource, KeywordSource):
    """Keywords that a trained encoder names: of each attribute its likeliest option, if it is likely enough."""

    least: Fraction = LEAST  # probability from which an option is named

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns the options of each user, see `name_keywords`; errors as there, and as `load`."""
        return name_keywords(*self.load(context), context.extractor, self.least, self.encoder_name)


@dataclass(frozen=True)
class LoadedSource(EncodedSource):
    """Base of sources of a pipeline's encoder, with what prepares its inputs; `PersonalizedPipeline` sets both."""

    encoder: TokenEncoder | None = None
    inputs: EncoderInputs | None = None

    @property
    def requires(self) -> Requirements:
        """The prefilled histories, where the encoder takes them."""
        return Requirements(contexts=getattr(self.inputs, "needs_contexts", True))

    def load(self, context: SourceContext) -> tuple[TokenEncoder, UserInputs]:
        """Returns the encoder and all users' inputs, which are prepared once for all its sources."""
        if self.encoder is None or self.inputs is None:
            raise PmgError("a source of a pipeline's encoder is read by the pipeline alone; name a run: TrainedTokens")
        if "loaded" not in context.prepared:
            context.prepared["loaded"] = self.inputs(context.extracted, context.examples, context.images)
        return self.encoder, context.prepared["loaded"]


class LoadedTokens(LoadedSource, EncodedTokens):
    """Soft tokens of an encoder in memory."""


@dataclass(frozen=True)
class LoadedKeywords(LoadedSource, EncodedKeywords):
    """Keywords that an encoder in memory names."""


@dataclass(frozen=True)
class TrainedSource(EncodedSource):
    """Base of sources of an encoder that ``pmg-train`` trained; its class and its inputs are those of the run."""

    run: str | None = None  # folder of the ``pmg-train`` run
    same_as_training: Sequence[str] = SAME  # config groups whose values have to be those of the training

    @property
    def encoder_name(self) -> str:
        """The folder of the run."""
        return f"{self.run}"

    @property
    def requires(self) -> Requirements:
        """The prefilled histories, where the run's encoder takes them."""
        return Requirements(contexts=needs_contexts(TrainingRun.open(str(self.run)).config["inputs"]))

    def check(self, key: str, config: Values) -> None:
        """Checks that a whole run of the same data and models is named, else raises PmgError."""
        if not self.run:
            raise PmgError(
                f"{key}.run is not set: name the folder of a pmg-train run, train_run=RUN for soft and read, else "
                f"{key}.run=RUN; pmg-train run_dir=RUN trains one"
            )
        try:
            TrainingRun.open(self.run).check_same(config, self.same_as_training)
        except PmgError as error:
            raise PmgError(f"{key}: {error}") from error

    @property
    def identity(self) -> str:
        """Checksum of the trained weights."""
        return TrainingRun.open(str(self.run)).weights

    def load(self, context: SourceContext) -> tuple[TokenEncoder, UserInputs]:
        """Returns the trained encoder and all users' inputs; PmgError if it is none that configs can build."""
        run = TrainingRun.open(str(self.run))
        node = replace_folders(run.config["inputs"], context.folders)
        if repr(node) not in context.prepared:
            context.prepared[repr(node)] = instantiate(node)(context.extracted, context.examples, context.images)
        encoder = load_frozen(encoder_class(run.config["preference_encoder"]), run.folder / ENCODER)
        return encoder, context.prepared[repr(node)]


class TrainedTokens(TrainedSource, EncodedTokens):
    """Soft tokens of an encoder that ``pmg-train`` trained."""


@dataclass(frozen=True)
class TrainedKeywords(TrainedSource, EncodedKeywords):
    """Keywords that an encoder names which ``pmg-train`` trained."""


def name_keywords(
    encoder: TokenEncoder, inputs: UserInputs, extractor: PreferenceExtractor, least: float = LEAST, whose: str = ""
) -> list[Keywords]:
    """Returns what an encoder names of the scenario's options for each user; PmgError if it scores others, or none."""
    answered = encoder.config.get("answered", ())
    if not scores_options(encoder, extractor.scenario):
        raise PmgError(
            f"{whose}: its encoder scores the options of {', '.join(name for name, _ in answered) or 'none'}, and not "
            f"those of the scenario '{extractor.scenario.name}'. Train with objective=align_answer and this scenario"
        )
    scores = [one.log_softmax(1) for one in encoder.answer(extractor.language_model, inputs)]
    named = name_options(scores, [words for _, words in answered], least)
    return [extractor.budget.fit(words) for words in named]


def scores_options(encoder: TokenEncoder, scenario: Scenario) -> bool:
    """Returns whether an encoder scores the options of all attributes of a scenario, and no others."""
    own = {name: list(one.options) for name, one in scenario.attributes.items() if one.options}
    return {name: list(words) for name, words in encoder.config.get("answered", ())} == own != {}


def name_options(scores: Sequence[Tensor], options: Sequence[Sequence[str]], least: float) -> list[Keywords]:
    """Returns each user's likeliest option of each attribute, the likeliest first, from a probability of `least` on.

    `scores` are log-probabilities of each attribute's options, `(U, K)`.
    """
    best = [part.max(1) for part in scores]
    rows = []
    for user in range(len(scores[0])):
        found = [(options[a][int(part.indices[user])], float(part.values[user])) for a, part in enumerate(best)]
        likely = sorted((one for one in found if math.exp(one[1]) >= least), key=lambda one: -one[1])
        rows.append(from_pairs(likely))
    return rows


def encoder_class(node: object) -> type[TokenEncoder]:
    """Returns the class that ``preference_encoder`` builds; PmgError if it is no `TokenEncoder`."""
    found = built_class(node)
    if not issubclass(found, TokenEncoder):
        raise PmgError(
            f"preference_encoder builds a {found.__name__}, which is no encoder of soft tokens. Derive it "
            "from pmg.models.preference.token_encoder.TokenEncoder"
        )
    return found
