"""The training objective: a weighted sum of terms, each of which maps the outputs of a training step to `(B,)` losses.

Shapes: `U` users a batch, `K` samples (target, noise, timestep) a user, `B = U * K` with a user's samples in a row,
`n` soft tokens, `D` width of the text encoder, `C, h, w` latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from pmg.configuration.ranges import NotNegative, Positive
from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Block, Condition
from pmg.models.diffusion.generator import DenoisingOutputs

ImageOwner = Literal["own", "other"]
"""Whose image and target words a preference is evaluated on: the same user's, or another user's."""


def undeclared(read: str, attribute: str) -> PmgError:
    """Returns what a term that reads something must declare."""
    return PmgError(f"an objective term reads {read} without declaring it. Set `{attribute} = True` in its class")


@dataclass(frozen=True)
class SampleOutputs:
    """The generator's outputs for one batch of samples."""

    condition: Condition  # what the generator was conditioned on, B rows
    loss: Tensor  # the generator's loss of each sample, `(B,)`
    # noisy latents, prediction and target; None unless a term declares `needs_prediction`
    details: DenoisingOutputs | None = None

    @property
    def denoising(self) -> DenoisingOutputs:
        """Noisy latents, prediction, target, `(B, C, h, w)` each; PmgError if no term declares that it needs them."""
        if self.details is None:
            raise undeclared("predictions", "needs_prediction")
        return self.details


@dataclass(frozen=True)
class AcceptedTokens:
    """What the generator itself says of images that users like, in tokens that condition it."""

    tokens: Tensor  # of each sample's image, `(B, n, D)`
    variance: Tensor  # their variance over all images of the training, a sum over n and D; the same number B times


@dataclass(frozen=True)
class Answers:
    """What an encoder says of the scenario's attributes, and what captions say of the images that users accepted."""

    scores: Sequence[Tensor]  # for each attribute its options', `(U, options)`, before a softmax, with gradients
    described: Tensor  # the option that describes each sample's image, int64 `(B, A)`; -1 where no option does


@dataclass(frozen=True)
class StepOutputs:
    """What objective terms can compute with: everything is computed once, when the first term reads it."""

    soft_tokens: Tensor  # of each user, `(U, n, D)`, with gradients
    keywords: Block  # encoded preference keywords of each user, U rows, none dropped
    samples_per_user: int  # K
    # runs the generator on the images of ``own`` or ``other`` users; the second argument selects the condition with
    # soft tokens (else without them and without gradients)
    evaluate: Callable[[ImageOwner, bool], SampleOutputs]
    accepted_tokens: AcceptedTokens | None = None  # see `accepted`; None: no term needs them
    answers: Answers | None = None  # what the encoder says of the scenario's attributes; None: no term needs it

    @property
    def samples(self) -> int:
        """B."""
        return len(self.soft_tokens) * self.samples_per_user

    @property
    def accepted(self) -> AcceptedTokens:
        """The generator's own tokens of each sample's image; PmgError if no term declares that it needs them."""
        if self.accepted_tokens is None:
            raise undeclared("tokens of accepted images", "needs_accepted")
        return self.accepted_tokens

    @cached_property
    def own(self) -> SampleOutputs:
        """Each preference on its own user's images."""
        return self.evaluate("own", True)

    @cached_property
    def other(self) -> SampleOutputs:
        """Each preference on the images and target words of a user of another taste in the batch, else on the own.

        Noise, times and dropped blocks are those of `own`. Costs one more pass of the generator.
        """
        return self.evaluate("other", True)

    @cached_property
    def own_reference(self) -> SampleOutputs:
        """As `own`, without soft tokens and without gradients: the reference of preference optimisation."""
        return self.evaluate("own", False)

    @cached_property
    def other_reference(self) -> SampleOutputs:
        """As `other`, without soft tokens and without gradients."""
        return self.evaluate("other", False)


class ObjectiveTerm(Protocol):
    """One term of the objective; a class that inherits from this one, or has the same attributes.

    Attributes:
        weight: its factor in the sum.
        needs_prediction: whether it reads `SampleOutputs.denoising`, which only generators that predict noise have.
        needs_generator: whether it reads outputs of the generator, or keywords. Where no term does, users' keywords
            aren't decoded.
        needs_accepted: whether it reads `StepOutputs.accepted`, for which the image encoder's vectors are soft tokens.
        needs_answers: whether it reads `StepOutputs.answers`, which needs an encoder that scores options.
    """

    weight: float
    needs_prediction: ClassVar[bool] = False
    needs_generator: ClassVar[bool] = True
    needs_accepted: ClassVar[bool] = False
    needs_answers: ClassVar[bool] = False

    def __call__(self, outputs: StepOutputs) -> Tensor:
        """Returns the term's value for each sample, `(B,)`, or for each user, `(U,)`; its mean is minimised."""


@dataclass(frozen=True)
class Denoise(ObjectiveTerm):
    """The generator's loss (denoising error, or cross-entropy of image tokens) on images that the user likes."""

    weight: NotNegative

    def __call__(self, outputs: StepOutputs) -> Tensor:
        """Returns the loss of each sample, `(B,)`."""
        return outputs.own.loss


@dataclass(frozen=True)
class Contrast(ObjectiveTerm):
    """Hinge loss: with a user's soft tokens, another user's images should have a loss higher by a margin.

    The other user is one of the batch who has another taste, as far as the data has labels of tastes; the other image
    comes with its own target words, so that the preference alone contradicts it. The loss is at least 0, and its
    gradient 0 once the margin is reached: PMG's published benchmark subtracts half of the other loss instead, which
    has no lower bound. Costs one more pass of the generator. Where a batch holds no user of another taste, the term is
    the margin itself, and its gradient 0.
    """

    weight: NotNegative
    margin: NotNegative  # of the generator's loss, e.g. the (min-SNR weighted) denoising error

    def __call__(self, outputs: StepOutputs) -> Tensor:
        """Returns the hinge of each sample, `(B,)`."""
        return torch.relu(self.margin + outputs.own.loss - outputs.other.loss)


@dataclass(frozen=True)
class DiffusionDPO(ObjectiveTerm):
    """Preference optimisation (Wallace et al. 2024, equation 14): own images are preferred to another user's.

    The reference is the frozen generator without soft tokens, so that what is hard to denoise for anybody cancels out.
    Other images are those of `Contrast`. Costs three more passes of the generator, two of them without gradients.
    `beta` times the difference of losses is the log-odds of the preference.
    """

    weight: NotNegative
    beta: Positive

    def __call__(self, outputs: StepOutputs) -> Tensor:
        """Returns -log sigmoid(beta * margin) of each sample, `(B,)`; log 2 without soft tokens."""
        own = outputs.own.loss - outputs.own_reference.loss
        other = outputs.other.loss - outputs.other_reference.loss
        return -logsigmoid(self.beta * (other - own))


@dataclass(frozen=True)
class Align(ObjectiveTerm):
    """Squared distance of soft tokens to the generator's own tokens of images that the user likes.

    As a share of these tokens' variance: 0 where soft tokens equal them, 1 for the mean of all images, so that 1 less
    the value is the explained variance. It reads what users accepted, as `Denoise` does, and needs no pass of the
    generator; which of the two trains is a choice of the objective, and the sum of both is one, too.
    """

    weight: NotNegative
    needs_generator: ClassVar[bool] = False
    needs_accepted: ClassVar[bool] = True

    def __call__(self, outputs: StepOutputs) -> Tensor:
        """Returns the distance of each sample, `(B,)`; PmgError if an image has more or fewer tokens."""
        accepted = outputs.accepted
        soft = outputs.soft_tokens.repeat_interleave(outputs.samples_per_user, 0)
        if soft.shape != accepted.tokens.shape:
            raise PmgError(
                f"objective=align: preference_encoder.soft_tokens is {soft.shape[1]}, and the generator has "
                f"{accepted.tokens.shape[1]} tokens of an image"
            )
        return (soft - accepted.tokens.to(soft)).square().sum((1, 2)) / accepted.variance.to(soft)


@dataclass(frozen=True)
class Answer(ObjectiveTerm):
    """Cross-entropy of the options that describe images which the user accepts: the encoder learns to name a taste.

    The mean over attributes of the negative log-probability, so that a softmax of the scores is calibrated.
    """

    weight: NotNegative
    needs_generator: ClassVar[bool] = False
    needs_answers: ClassVar[bool] = True

    def __call__(self, outputs: StepOutputs) -> Tensor:
        """Returns each sample's cross-entropy, `(B,)`, 0 where no option describes it; PmgError if none is scored."""
        answers = outputs.answers
        if answers is None or not answers.scores:
            raise PmgError(
                "objective=align_answer needs an encoder that scores the options of scenario.attributes: "
                "preference_encoder=reader"
            )
        compare, samples = partial(cross_entropy, ignore_index=-1, reduction="none"), outputs.samples_per_user
        losses = [
            compare(scores.repeat_interleave(samples, 0).float(), answers.described[:, place].to(scores.device))
            for place, scores in enumerate(answers.scores)
        ]
        return torch.stack(losses).mean(0)
