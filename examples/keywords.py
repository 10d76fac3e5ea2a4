"""Keywords of a history, without images.

The language model alone: which words does it extract from a history, and from its dislikes?
"""

from __future__ import annotations

import math
from pathlib import Path

from pmg import PersonalizedPipeline

TITLES = ("dog face", "red apple", "sailboat", "guitar", "rose")
STYLES = {
    "OpenMoji": {"colour": "full colour", "outline": "thick black outline", "shading": "flat"},
    "Stencil": {"colour": "black and white", "outline": "no outline", "shading": "flat"},
    "Noto": {"colour": "full colour", "outline": "no outline", "shading": "soft gradients"},
}


def main(folder: Path = Path("outputs/examples")) -> None:
    """Prints keywords with their probabilities, and the negative ones of a user who dislikes another style."""
    pipe = PersonalizedPipeline.from_pretrained("assets/pipeline")
    histories = {
        pack: [{"title": t, "facts": {"pack": pack, **facts}} for t in TITLES] for pack, facts in STYLES.items()
    }
    for pack, history in histories.items():
        request = pipe.read(history, "rocket")
        scores = zip(request.keywords.words, request.keywords.scores, strict=True)
        print(f"{pack}:", ", ".join(f"{word} {math.exp(score):.2f}" for word, score in scores))
    request = pipe.read(histories["OpenMoji"], "rocket", dislikes=histories["Stencil"])
    print("OpenMoji, dislikes Stencil:", ", ".join(request.negative.words) or "no negative keywords")


if __name__ == "__main__":
    main()
