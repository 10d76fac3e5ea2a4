"""Preference sources of trained soft tokens, see `pmg.preferences.sources`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pmg.configuration.identity import Values
from pmg.configuration.instantiate import built_class, instantiate
from pmg.domain import PmgError
from pmg.models.loading.weight_sources import load_frozen
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.preferences.sources import Requirements, SourceContext, TokenSource
from pmg.runs.finished_training import TrainingRun
from pmg.runs.run_folder import ENCODER, replace_folders
from pmg.training.encoder_inputs import needs_contexts

# the encoder itself may be any: it is read from its run
SAME = ("data", "scenario", "captioner", "text_encoder", "language_model", "generator")


@dataclass(frozen=True)
class TrainedTokens(TokenSource):
    """Soft tokens of an encoder that ``pmg-train`` trained; its class and its inputs are those of the run.

    Attributes:
        run: folder of the ``pmg-train`` run.
        same_as_training: config groups whose values have to be those of the training.
    """

    run: str | None = None
    same_as_training: Sequence[str] = SAME

    @property
    def requires(self) -> Requirements:
        """The prefilled histories, where the run's encoder takes them."""
        return Requirements(contexts=needs_contexts(TrainingRun.open(str(self.run)).config["inputs"]))

    def check(self, key: str, config: Values) -> None:
        """Checks the run.

        Raises:
            PmgError: no run is named, it did not complete, is damaged, or was trained with other data or models.
        """
        if not self.run:
            raise PmgError(
                f"{key}.run is not set: name the folder of a pmg-train run, e.g. {key}.run=outputs/demo/train"
            )
        try:
            TrainingRun.open(self.run).check_same(config, self.same_as_training)
        except PmgError as error:
            raise PmgError(f"{key}: {error}") from error

    @property
    def identity(self) -> str:
        """Checksum of the trained weights."""
        return TrainingRun.open(str(self.run)).weights

    def __call__(self, context: SourceContext) -> Tensor:
        """Loads the encoder and encodes all users, `(U, n, D)`.

        Raises:
            PmgError: the run's encoder is no `TokenEncoder`, or of a module that configs can't build.
        """
        run = TrainingRun.open(str(self.run))
        node = replace_folders(run.config["inputs"], context.folders)
        inputs = instantiate(node)(context.extracted, context.examples, context.images)
        encoder = load_frozen(encoder_class(run.config["preference_encoder"]), run.folder / ENCODER)
        return encoder.encode(context.extractor.language_model, inputs)


def encoder_class(node: object) -> type[TokenEncoder]:
    """Returns the class that ``preference_encoder`` builds.

    Raises:
        PmgError: it is no `TokenEncoder`.
    """
    found = built_class(node)
    if not issubclass(found, TokenEncoder):
        raise PmgError(
            f"preference_encoder builds a {found.__name__}, which is no encoder of soft tokens. Derive it "
            "from pmg.models.preference.token_encoder.TokenEncoder"
        )
    return found
