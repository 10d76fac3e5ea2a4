"""A metric: how colourful an image is (Hasler and Suesstrunk 2003), compared with what the user liked."""

from torch import Tensor

from pmg.evaluation.metric_interface import Input, MetricInfo, References


class Colourfulness:
    """Distance between the colourfulness of an image and the mean over the user's history, in levels of 255."""

    outputs = (MetricInfo("colourfulness", "distance in colourfulness", higher_is_better=False, range=(0.0, None)),)
    inputs = (Input.HISTORIES,)

    def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
        """Returns the distance of each of the B images `(B, 3, H, W)` in [-1, 1]."""
        histories = references.histories
        liked = references.once("liked colourfulness", lambda: [colourfulness(each).mean() for each in histories])
        return {"colourfulness": (colourfulness(images) - images.new_tensor(liked)).abs()}


def colourfulness(images: Tensor) -> Tensor:
    """Returns the colourfulness of each image, 0 for greys, about 100 for very colourful ones, `(B,)`."""
    red, green, blue = images.add(1).mul(127.5).flatten(2).unbind(1)
    opponents = (red - green, (red + green) / 2 - blue)
    deviation = sum(each.var(1) for each in opponents) ** 0.5
    mean = sum(each.mean(1) ** 2 for each in opponents) ** 0.5
    return deviation + 0.3 * mean
