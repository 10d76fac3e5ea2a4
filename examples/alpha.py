"""Alpha selects between accuracy and preference.

Each image is the best of several candidates by z, of the pipeline's `balance/combination`. A record has the scores of
all candidates, so that the selection of every alpha follows from one call, without drawing again.
"""

from __future__ import annotations

from pathlib import Path

import torch

from pmg import PersonalizedPipeline, compose, instantiate
from pmg.api.call_arguments import with_pictures


def main(folder: Path = Path("outputs/examples")) -> None:
    """Prints the candidates of an image, and which of them each alpha selects."""
    pipe = PersonalizedPipeline.from_pretrained("assets/pipeline")
    data = instantiate(compose("generate").data)
    (user,) = data.examples("test", users=1, targets=1)
    output = pipe(with_pictures(user.liked, data.images), "rocket", generator=torch.Generator().manual_seed(0))
    candidates = output.records[0]["candidates"]
    for each in candidates:
        print(f"w_p {each['w_p']}, w_t {each['w_t']}: d_p {each['preference']:.3f}, d_t {each['accuracy']:.3f}")
    d_p = torch.tensor([each["preference"] for each in candidates])
    d_t = torch.tensor([each["accuracy"] for each in candidates])
    for alpha in (0.0, 0.25, 0.5, 0.75, 1.0):
        print(f"alpha {alpha}: candidate {int(pipe.pipeline.combination(d_p, d_t, alpha).argmax())}")


if __name__ == "__main__":
    main()
