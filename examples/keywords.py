"""Keywords of a history, without images.

The language model alone: which words does it extract from a history, and from its dislikes?
"""

from __future__ import annotations

import math
from pathlib import Path

from pmg import PersonalizedPipeline, compose, instantiate
from pmg.api.call_arguments import with_pictures


def main(folder: Path = Path("outputs/examples")) -> None:
    """Prints keywords with their probabilities, and the negative ones of a user who dislikes another look."""
    pipe = PersonalizedPipeline.from_pretrained("assets/pipeline")
    data = instantiate(compose("generate").data)
    users = data.examples("test", users=3, targets=1)
    histories = [with_pictures(user.liked, data.images) for user in users]
    for user, history in zip(users, histories, strict=True):
        request = pipe.read(history, "rocket")
        scores = zip(request.keywords.words, request.keywords.scores, strict=True)
        print(f"{user.labels['look']}:", ", ".join(f"{word} {math.exp(score):.2f}" for word, score in scores))
    request = pipe.read(histories[0], "rocket", dislikes=histories[1])
    print("the first, who dislikes the second's:", ", ".join(request.negative.words) or "no negative keywords")


if __name__ == "__main__":
    main()
