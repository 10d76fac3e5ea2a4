"""Tasks of people who write wishes: for each message a scene, its kind, a language and a voice.

``python -m experiments.wishes.tasks WRITER`` prints the hundred tasks of a writer, one JSON object a line.
"""

from __future__ import annotations

import json
import random
import sys

KINDS = {"one_line": 34, "free": 33, "none": 17, "back": 16}  # messages of each in a hundred
OTHER = 12  # messages in a hundred that are in another language
LANGUAGES = ("de", "es", "fr", "it", "nl", "pl", "pt", "tr")
VOICES = (
    "plain", "terse, lower case", "hasty, typos", "polite, long", "chatty, off topic", "emoji", "excited, capitals",
    "sarcastic", "a child", "an elderly person", "a designer", "not a native speaker",
)  # fmt: skip
TEST_WRITERS = 4  # writers of messages that are tested on; the next writes what is tuned on
A_SCENE = 4  # messages about one scene


def write_tasks(writer: int) -> list[dict[str, str]]:
    """Returns a writer's hundred tasks."""
    rng = random.Random(f"wishes {writer}")
    kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
    languages = ["en"] * (len(kinds) - OTHER) + [rng.choice(LANGUAGES) for _ in range(OTHER)]
    rng.shuffle(kinds)
    rng.shuffle(languages)
    tested = writer < TEST_WRITERS
    split, first = ("test", len(kinds) // A_SCENE * writer) if tested else ("validation", 0)
    return [
        {
            "id": f"{writer}-{number:03d}", "scene": f"{split}-{first + number // A_SCENE:03d}",
            "kind": kind, "language": language, "voice": rng.choice(VOICES),
        }
        for number, (kind, language) in enumerate(zip(kinds, languages, strict=True))
    ]  # fmt: skip


if __name__ == "__main__":
    print("\n".join(map(json.dumps, write_tasks(int(sys.argv[1])))))
