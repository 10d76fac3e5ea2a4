"""Guidance scales of keywords and soft tokens.

Target, keywords and soft tokens have a guidance scale each. From left to right the scale of both preference blocks
rises; 0 removes the preference.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from pmg import PersonalizedPipeline, compose, instantiate
from pmg.api.call_arguments import with_pictures

SCALES = (0.0, 1.5, 3.0, 5.0, 8.0)


def main(folder: Path = Path("outputs/examples")) -> None:
    """Draws one target under five guidance scales and writes ``guidance.png``."""
    pipe = PersonalizedPipeline.from_pretrained("assets/pipeline")
    data = instantiate(compose("generate").data)
    (user,) = data.examples("test", users=1, targets=1)
    request = pipe.read(with_pictures(user.liked, data.images), "penguin")
    sheet = Image.new("RGB", (128 * len(SCALES), 128), "white")
    for column, scale in enumerate(SCALES):
        output = pipe.draw([request], guidance_scale={"keywords": scale, "soft": scale})  # the request has the seed
        sheet.paste(output.images[0].resize((128, 128)), (128 * column, 0))
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / "guidance.png")


if __name__ == "__main__":
    main()
