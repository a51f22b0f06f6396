from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from capyra.engine.errors import ModelError
from capyra.engine.native.model.families import parse_spec
from capyra.engine.native.model.layout import shapes
from capyra.engine.native.model.spec import DecoderSpec
from capyra.engine.native.model.weights import Weights, load_weights

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


@pytest.fixture
def spec() -> DecoderSpec:
    return parse_spec(CONFIG)


@pytest.fixture
def tensors(spec: DecoderSpec) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator).bfloat16()
        for name, shape in shapes(spec).items()
    }


def save(tensors: dict[str, Tensor], directory: Path) -> Path:
    save_file(tensors, directory / "model.safetensors")
    return directory / "model.safetensors"


def load(directory: Path, spec: DecoderSpec, dtype: torch.dtype | None = None) -> Weights:
    return load_weights(directory, spec, dtype, lambda _stage, _done: None)


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_weights_are_the_file_itself_until_the_last_one_goes(
    tmp_path: Path, spec: DecoderSpec, tensors: dict[str, Tensor]
) -> None:
    path = save(tensors, tmp_path)
    weights = load(tmp_path, spec)
    assert weights.dtype == torch.bfloat16
    assert weights.mapped_bytes == weights.nbytes == sum(t.nbytes for t in tensors.values())
    assert mapped(path)
    for name, tensor in tensors.items():
        assert torch.equal(weights.tensors[name], tensor)
    del weights
    assert not mapped(path)


def test_converted_weights_leave_the_file(
    tmp_path: Path, spec: DecoderSpec, tensors: dict[str, Tensor]
) -> None:
    path = save(tensors, tmp_path)
    weights = load(tmp_path, spec, torch.float32)
    assert {tensor.dtype for tensor in weights.tensors.values()} == {torch.float32}
    assert weights.mapped_bytes == 0
    assert not mapped(path)


def test_tensors_of_another_type_follow_the_embedding(
    tmp_path: Path, spec: DecoderSpec, tensors: dict[str, Tensor]
) -> None:
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    save(tensors, tmp_path)
    weights = load(tmp_path, spec)
    assert weights.tensors["model.norm.weight"].dtype == torch.bfloat16
    assert weights.nbytes - weights.mapped_bytes == 32 * 2


def test_a_write_never_reaches_the_file(
    tmp_path: Path, spec: DecoderSpec, tensors: dict[str, Tensor]
) -> None:
    path = save(tensors, tmp_path)
    load(tmp_path, spec).tensors["model.norm.weight"].zero_()
    assert torch.equal(load_file(path)["model.norm.weight"], tensors["model.norm.weight"])


def test_progress_goes_stage_by_stage_and_ends_at_one(
    tmp_path: Path, spec: DecoderSpec, tensors: dict[str, Tensor]
) -> None:
    save(tensors, tmp_path)
    seen: list[tuple[str, float]] = []
    load_weights(tmp_path, spec, None, lambda stage, done: seen.append((stage, done)))
    stages, parts = zip(*seen, strict=True)
    assert stages == ("embedding", "layer 0", "layer 1", "head")
    assert list(parts) == sorted(parts)
    assert parts[-1] == 1


def test_a_load_that_is_stopped_leaves_nothing(
    tmp_path: Path, spec: DecoderSpec, tensors: dict[str, Tensor]
) -> None:
    path = save(tensors, tmp_path)

    def stop(stage: str, _done: float) -> None:
        if stage == "layer 0":
            raise TimeoutError

    with pytest.raises(TimeoutError):
        load_weights(tmp_path, spec, None, stop)
    assert not mapped(path)


def split(tensors: dict[str, Tensor], directory: Path) -> dict[str, str]:
    names = sorted(tensors)
    places = {}
    for part, chosen in enumerate((names[::2], names[1::2])):
        file = f"model-{part}.safetensors"
        save_file({name: tensors[name] for name in chosen}, directory / file)
        places |= dict.fromkeys(chosen, file)
    index = {"weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return places


def test_shards(tmp_path: Path, spec: DecoderSpec, tensors: dict[str, Tensor]) -> None:
    split(tensors, tmp_path)
    weights = load(tmp_path, spec)
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in tensors.items())
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(ModelError, match=r"names model-1\.safetensors, which is missing"):
        load(tmp_path, spec)


@pytest.mark.parametrize("place", ["../model-0.safetensors", "model-0.bin"])
def test_an_index_points_nowhere_else(
    tmp_path: Path, spec: DecoderSpec, tensors: dict[str, Tensor], place: str
) -> None:
    places = split(tensors, tmp_path) | {"model.norm.weight": place}
    index = {"weight_map": places}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="no safetensors file beside it"):
        load(tmp_path, spec)


def test_missing_unexpected_and_misshapen_tensors_are_named(
    tmp_path: Path, spec: DecoderSpec, tensors: dict[str, Tensor]
) -> None:
    norm = tensors.pop("model.norm.weight")
    save(tensors, tmp_path)
    with pytest.raises(ModelError, match=r"the weights lack `model\.norm\.weight`"):
        load(tmp_path, spec)
    tensors |= {"model.norm.weight": norm, "model.layers.2.extra.weight": norm.clone()}
    save(tensors, tmp_path)
    with pytest.raises(ModelError, match=r"hold `model\.layers\.2\.extra\.weight`, for which"):
        load(tmp_path, spec)
    del tensors["model.layers.2.extra.weight"]
    save(tensors | {"model.norm.weight": norm[:8].clone()}, tmp_path)
    with pytest.raises(ModelError, match=r"has shape \[8\], but config\.json makes it \[32\]"):
        load(tmp_path, spec)
    save(tensors | {"model.norm.weight": norm.to(torch.int8)}, tmp_path)
    with pytest.raises(ModelError, match=r"is stored as I8; this engine reads F32, BF16, F16"):
        load(tmp_path, spec)


def test_what_nobody_computes_with_is_passed_over(
    tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    spec = parse_spec(CONFIG | {"tie_word_embeddings": True})
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save(tensors, tmp_path)
    assert "lm_head.weight" not in load(tmp_path, spec).tensors


@pytest.mark.parametrize("damage", ["header", "truncated", "length", "empty"])
def test_damaged_files_are_named(
    tmp_path: Path, spec: DecoderSpec, tensors: dict[str, Tensor], damage: str
) -> None:
    path = save(tensors, tmp_path)
    data = path.read_bytes()
    wrong = {
        "header": data[:20] + b"\xff" * 20 + data[40:],
        "truncated": data[:-100],
        "length": struct.pack("<Q", 2**60) + data[8:],
        "empty": b"",
    }
    path.write_bytes(wrong[damage])
    with pytest.raises(ModelError, match="damaged or incomplete"):
        load(tmp_path, spec)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pytorch_model.bin", "a pickle can run any code"),
        ("model.pt", "a pickle can run any code"),
        ("model.gguf", "another engine's layout"),
        ("notes.txt", r"holds neither model\.safetensors nor"),
    ],
)
def test_other_files_are_refused_unread(
    tmp_path: Path, spec: DecoderSpec, name: str, said: str
) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    with pytest.raises(ModelError, match=said):
        load(tmp_path, spec)


def test_no_directory(tmp_path: Path, spec: DecoderSpec) -> None:
    with pytest.raises(ModelError, match="is no directory"):
        load(tmp_path / "gone", spec)
