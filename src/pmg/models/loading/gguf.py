"""GGUF files, unpacked once into folders that transformers reads fast."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from pmg.domain import PmgError
from pmg.models.loading.checkpoints import load_checkpoint, load_tokenizer
from pmg.models.loading.device import torch_type


def unpack_gguf(file: Path, dtype: str, cache_dir: Path) -> Path:
    """Turns a quantised GGUF file into a folder of safetensors, once; returns the folder.

    Args:
        file: the GGUF file, of a language model.
        dtype: name of the floating point type that the weights get.
        cache_dir: where the folder lies.

    Raises:
        PmgError: there is no such file.
    """
    if not file.is_file():
        raise PmgError(f"language model file {file} does not exist; run `make setup` or name another source")
    with file.open("rb") as content:  # another file of that name and size would else be taken for this one
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:16]
    folder = cache_dir / f"{file.stem}-{dtype}-{digest}"
    if folder.is_dir():
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".unpacking-") as temporary:
        for part in _read_gguf(file, dtype):
            part.save_pretrained(Path(temporary, "model"))
        if not folder.is_dir():  # another process may have been faster
            shutil.move(Path(temporary, "model"), folder)
    return folder


def _read_gguf(file: Path, dtype: str) -> Iterator[PreTrainedModel | PreTrainedTokenizerBase]:
    try:
        from transformers import GgufConfig
    except ImportError:  # before GgufConfig, transformers always unpacked
        dense = {}
    else:
        dense = {"quantization_config": GgufConfig(dequantize=True)}
    model = load_checkpoint(AutoModelForCausalLM, file.parent, gguf_file=file.name, **dense, dtype=torch_type(dtype))
    yield model
    yield load_tokenizer(file.parent, model, gguf_file=file.name)
