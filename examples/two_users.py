"""Two users, the same targets.

The history of each user shows the look that they like. All images of a column start from the same noise: what differs
between the rows is the user.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from pmg import PersonalizedPipeline, compose, instantiate
from pmg.api.call_arguments import with_pictures

TARGETS = ("rocket", "cat face", "delivery truck", "cherry blossom")


def main(folder: Path = Path("outputs/examples")) -> None:
    """Draws the targets for both users and writes ``two_users.png``: a row for each user."""
    pipe = PersonalizedPipeline.from_pretrained("assets/pipeline")
    sheet = Image.new("RGB", (128 * len(TARGETS), 256), "white")
    data = instantiate(compose("generate").data)
    for row, user in enumerate(data.examples("test", users=2, targets=1)):
        history = with_pictures(user.liked, data.images)
        noise = [torch.Generator().manual_seed(seed) for seed in range(len(TARGETS))]
        output = pipe(history, list(TARGETS), generator=noise)
        print(user.labels["look"], "->", ", ".join(output.records[0]["preference_keywords"]))
        for column, image in enumerate(output.images):
            sheet.paste(image.resize((128, 128)), (128 * column, 128 * row))
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / "two_users.png")


if __name__ == "__main__":
    main()
