"""What a model is likely to weigh."""

from __future__ import annotations

from pathlib import Path

from capyra.deployments.memory import GUESS, resident_bytes, weight_bytes


def test_weights_weigh_what_their_files_do(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "b.safetensors").write_bytes(b"x" * 50)
    (tmp_path / "tokenizer.json").write_bytes(b"x" * 1000)
    assert weight_bytes(tmp_path) == 150


def test_what_lies_elsewhere_is_guessed(tmp_path: Path) -> None:
    assert weight_bytes(tmp_path) == GUESS, "without weights"
    assert weight_bytes(tmp_path / "nowhere") == GUESS
    assert weight_bytes(None) == 0


def test_this_process_has_memory() -> None:
    assert resident_bytes() > 2**20
