"""A tiny pipeline that sees pictures, and pictures to upload."""

from __future__ import annotations

import io

from PIL import Image

from pipelines import write_pipeline
from pmg import PersonalizedPipeline
from pmg.preferences.target_names import TargetNames


def load_tiny(folder, scenario=None, names=None):
    """Writes and loads a pipeline with random weights that sees pictures, with its own scenario or another one.

    `names` are of all that its generator was trained to draw; None: whatever is asked for.
    """
    write_pipeline(folder, seeing=True)
    pipe = PersonalizedPipeline.from_pretrained(folder, "cpu", scenario=scenario)
    pipe.set_progress_bar_config(disable=True)
    if names:
        pipe.pipeline.generator.denoiser.names = names
        pipe.extractor.names = TargetNames.of(pipe.pipeline.generator)
    return pipe


def encode(kind="PNG", size=(20, 10), mode="RGB", frames=1, **options):
    """Returns a picture as the bytes of a file."""
    file = io.BytesIO()
    pictures = [Image.new(mode, size, number * 40) for number in range(frames)]
    more = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    pictures[0].save(file, kind, **more, **options)
    return file.getvalue()
