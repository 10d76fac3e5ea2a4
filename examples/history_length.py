"""How many interactions does a preference need?

The same user with the first one, two, four and eight stickers of the history, as in the study
[ablations](../experiments/ablations/README.md). The noise is the same in all images.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from pmg import PersonalizedPipeline, compose, instantiate
from pmg.api.call_arguments import with_pictures

LENGTHS = (1, 2, 4, 8)


def main(folder: Path = Path("outputs/examples")) -> None:
    """Draws one target for histories of four lengths and writes ``history_length.png``."""
    pipe = PersonalizedPipeline.from_pretrained("assets/pipeline")
    data = instantiate(compose("generate").data)
    users = data.examples("test", users=20, targets=1)
    liked = next(user.liked for user in users if len(user.liked) >= LENGTHS[-1])
    history = with_pictures(liked, data.images)
    noise = [torch.Generator().manual_seed(4) for _ in LENGTHS]
    output = pipe([history[:length] for length in LENGTHS], "rocket", generator=noise)
    sheet = Image.new("RGB", (128 * len(LENGTHS), 128), "white")
    for column, (length, record) in enumerate(zip(LENGTHS, output.records, strict=True)):
        print(length, "interactions:", ", ".join(record["preference_keywords"]))
        sheet.paste(output.images[column].resize((128, 128)), (128 * column, 0))
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / "history_length.png")


if __name__ == "__main__":
    main()
