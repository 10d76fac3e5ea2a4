"""Converts GGUF files into folders of safetensors, which transformers loads faster."""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from pmg.domain import PmgError
from pmg.installation import install_weights
from pmg.models.loading.checkpoints import leaves_out_weights, load_checkpoint, load_tokenizer, quiet_libraries
from pmg.models.loading.device import torch_type
from pmg.runs.content import digest_file, digest_path

SEAL = "content.sha256"  # of the other files
log = logging.getLogger(__name__)


def unpack_gguf(file: Path, dtype: str, cache_dir: Path) -> Path:
    """Returns the folder in `cache_dir` with the safetensors of a quantised GGUF file, converted at the first call.

    Inside `without_weights` config and tokenizer alone are converted, where the whole file hasn't been. PmgError
    if the file doesn't exist.
    """
    if not file.is_file():
        raise PmgError(f"language model file {file} does not exist; run `{install_weights()}` or name another source")
    # the name and size of different files may be equal
    folder = cache_dir / f"{file.stem}-{dtype}-{digest_file(file)[:16]}"
    if leaves_out_weights() and not folder.is_dir():
        folder = folder.with_name(f"{folder.name}-config")
    if folder.is_dir():
        if leaves_out_weights() or _is_whole(folder):
            return folder
        log.warning("%s is damaged: removed, to be converted again", folder)
        shutil.rmtree(folder, ignore_errors=True)  # another process may do the same
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".unpacking-") as temporary:
        log.info("converting %s once, into %s", file.name, folder)
        with quiet_libraries():
            for part in _read_gguf(file, dtype):
                part.save_pretrained(Path(temporary, "model"))
        Path(temporary, "model", SEAL).write_text(digest_path(Path(temporary, "model")) or "")
        if not folder.is_dir():  # another process may have created it meanwhile
            shutil.move(Path(temporary, "model"), folder)
    return folder


def _is_whole(folder: Path) -> bool:
    """Returns whether a converted folder holds what was written."""
    try:
        return (folder / SEAL).read_text() == digest_path(folder)
    except OSError:
        return False


def _read_gguf(file: Path, dtype: str) -> Iterator[PreTrainedModel | PreTrainedConfig | PreTrainedTokenizerBase]:
    kind = getattr(transformers, "GgufConfig", None)  # transformers without it always dequantises
    dense = {"quantization_config": kind(dequantize=True)} if kind else {}
    with redirect_stderr(io.StringIO()):  # of a progress bar without a switch; errors are raised, logs have streams
        model = load_checkpoint(
            AutoModelForCausalLM, file.parent, gguf_file=file.name, **dense, dtype=torch_type(dtype)
        )
    yield model.config if leaves_out_weights() else model
    yield load_tokenizer(file.parent, model, gguf_file=file.name)
