"""A GGUF file is converted once, and again where the conversion was damaged or the file is another one."""

from __future__ import annotations

from types import SimpleNamespace

from pmg.models.loading import gguf


def test_a_damaged_conversion_and_another_file_are_converted_again(tmp_path, monkeypatch, caplog):
    converted = []

    def save(folder):
        converted.append(folder)
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(gguf, "_read_gguf", lambda file, dtype: [SimpleNamespace(save_pretrained=save)])
    (tmp_path / "model.gguf").write_bytes(b"packed")
    folder = gguf.unpack_gguf(tmp_path / "model.gguf", "float32", tmp_path / "cache")
    assert gguf.unpack_gguf(tmp_path / "model.gguf", "float32", tmp_path / "cache") == folder
    assert len(converted) == 1
    (folder / "model.safetensors").write_bytes(b"weighty")
    assert gguf.unpack_gguf(tmp_path / "model.gguf", "float32", tmp_path / "cache") == folder
    assert len(converted) == 2
    assert "is damaged: removed, to be converted again" in caplog.text
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    (tmp_path / "model.gguf").write_bytes(b"others")  # of the same name and size
    assert gguf.unpack_gguf(tmp_path / "model.gguf", "float32", tmp_path / "cache") != folder
