"""Full-sized twins: a model of some hundred million parameters that computes what a demo expert
computes, for benchmarks that need real answers at real cost.

The residual stream is the original's, written several times side by side: means and variances of
copies are those of the original, so every kind of norm stays as it is. What reads the stream
reads the first copy, what writes to it writes all. More heads and inner rows are zeros, more
layers write nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from capyra.engine.native.model.families import parse_spec, read_spec
from capyra.engine.native.model.layout import shapes
from capyra.engine.native.model.spec import DecoderSpec
from capyra.engine.native.model.training import save_parameters
from capyra.engine.native.model.weights import load_weights

_SMALL_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "preprocessor_config.json",
)
_NOISE = 0.02
"""Deviation of matrices whose products nobody reads: as large as real ones, for who compresses."""


@dataclass(frozen=True, slots=True)
class Size:
    """`copies` of the stream; inner rows for each of its columns; layers in all."""

    copies: int = 8
    inner: float = 2.75
    layers: int = 23


LARGE = Size()
"""About 300 million parameters from a width of 128."""
LARGE_SCALED = Size(copies=16, inner=2.75, layers=6)
"""For models that scale embeddings by the root of their width: a square number of copies keeps
that scale exact."""


def expand(original: Path, folder: Path, size: Size | None = None) -> None:
    """Write the twin of the model in `original` to `folder`."""
    spec = read_spec(original)
    size = size or (LARGE if spec.embedding_scale == 1.0 else LARGE_SCALED)
    config = wide_config(json.loads((original / "config.json").read_text()), size)
    wide = parse_spec(config)
    weights = load_weights(original, spec, None, lambda _stage, _done: None)
    tensors = expand_tensors(spec, wide, weights.tensors, size.copies)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for name in _SMALL_FILES:
        if (original / name).is_file():
            shutil.copyfile(original / name, folder / name)
    save_parameters(wide, tensors, folder, weights.dtype)


def wide_config(config: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """The twin's `config.json`. Its output matrix is its own: that one reads a single copy."""
    wide = {**config, "tie_word_embeddings": False}
    if "text_config" in config:
        return {**wide, "text_config": wide_config(config["text_config"], size)}
    hidden = size.copies * config["hidden_size"]
    wide |= {
        "hidden_size": hidden,
        "intermediate_size": int(size.inner * hidden),
        "num_attention_heads": size.copies * config["num_attention_heads"],
        "num_key_value_heads": size.copies * config["num_key_value_heads"],
        "num_hidden_layers": size.layers,
    }
    if "layer_types" in config:
        kinds = config["layer_types"]
        wide["layer_types"] = [kinds[index % len(kinds)] for index in range(size.layers)]
    return wide


def expand_tensors(
    spec: DecoderSpec, wide: DecoderSpec, tensors: Mapping[str, Tensor], copies: int
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(len(wide.layers))
    found = {}
    for name, shape in shapes(wide).items():
        if name == "lm_head.weight":
            head = tensors["model.embed_tokens.weight" if spec.tied else name]
            found[name] = _fit(head, shape)
        elif name in tensors:
            found[name] = _expand(spec, wide, name, tensors[name], copies)
        else:
            found[name] = _idle(spec, name, shape, generator)
    return found


def _expand(spec: DecoderSpec, wide: DecoderSpec, name: str, tensor: Tensor, copies: int) -> Tensor:
    kind = name.split(".")[-2]
    if name.startswith("vision_tower.") or name.endswith("mm_soft_emb_norm.weight"):
        return tensor
    if name == "model.embed_tokens.weight":
        # As much as the wider model's own scale is larger.
        return tensor.repeat(1, copies) * (spec.embedding_scale / wide.embedding_scale)
    if name.endswith("mm_input_projection_weight"):
        return tensor.repeat(1, copies)
    if kind in ("q_norm", "k_norm"):
        return tensor if tensor.dim() == 1 else tensor.repeat(copies, 1)
    if "norm" in kind:
        return tensor.repeat(copies)
    if kind in ("o_proj", "down_proj"):
        inputs = wide.heads * wide.head_dim if kind == "o_proj" else wide.intermediate_size
        return _fit(tensor.repeat(copies, *[1] * (tensor.dim() - 1)), _inputs(wide, tensor, inputs))
    parts = torch.split(tensor, _outputs(spec, kind))
    return torch.cat(
        [
            _fit(part, (rows, wide.hidden_size)[: part.dim()])
            for part, rows in zip(parts, _outputs(wide, kind), strict=True)
        ]
    )


def _inputs(wide: DecoderSpec, tensor: Tensor, inputs: int) -> tuple[int, ...]:
    return (wide.hidden_size, inputs)[: tensor.dim()]


def _outputs(spec: DecoderSpec, kind: str) -> list[int]:
    """Rows of what is stored as one matrix, part by part."""
    q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    return {
        "qkv_proj": [q, kv, kv],
        "q_proj": [q],
        "k_proj": [kv],
        "v_proj": [kv],
        "gate_up_proj": [spec.intermediate_size] * 2,
        "gate_proj": [spec.intermediate_size],
        "up_proj": [spec.intermediate_size],
    }[kind]


def _fit(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """In the first corner of zeros of that shape."""
    fitted = tensor.new_zeros(shape)
    fitted[tuple(slice(side) for side in tensor.shape)] = tensor
    return fitted


def _idle(
    spec: DecoderSpec, name: str, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Of a layer that computes like any other and writes nothing."""
    kind = name.split(".")[-2]
    if "norm" in kind:
        return torch.zeros(shape) if spec.norm == "gemma" else torch.ones(shape)
    if kind in ("o_proj", "down_proj") or name.endswith(".bias"):
        return torch.zeros(shape)
    return torch.randn(shape, generator=generator) * _NOISE
