"""Which tensors a spec takes, what they are called in a Hugging Face checkpoint, and how they are
arranged for computing.

Names within a layer are the same in all families but for the norms, whose names say where they
stand, and for what is stored fused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from capyra.engine.native.model.spec import DecoderSpec, VisionSpec

Shapes = dict[str, tuple[int, ...]]

_NORMS = {
    "pre": ("input_layernorm", None, "post_attention_layernorm", None),
    "sandwich": (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ),
    "parallel": ("input_layernorm", None, None, None),
}
"""Before and after attention, before and after the feed-forward part."""


@dataclass(frozen=True, slots=True)
class Linear:
    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """`qkv` and `gate_up` are one matrix or several, as they are stored."""

    attention_norm: Tensor
    attention_post_norm: Tensor | None
    mlp_norm: Tensor | None
    mlp_post_norm: Tensor | None
    qkv: tuple[Linear, ...]
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: Linear
    gate_up: tuple[Linear, ...]
    down: Linear


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Tensor


@dataclass(frozen=True, slots=True)
class VisionLayerWeights:
    norm1: Linear
    q: Linear
    k: Linear
    v: Linear
    out: Linear
    norm2: Linear
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class VisionWeights:
    patches: Linear
    positions: Tensor
    layers: tuple[VisionLayerWeights, ...]
    norm: Linear
    soft_norm: Tensor
    projection: Tensor


def stages(spec: DecoderSpec) -> Iterator[tuple[str, Shapes]]:
    """All tensors in the order in which they are computed with, in stages for a progress bar."""
    yield "embedding", {"model.embed_tokens.weight": (spec.vocab_size, spec.hidden_size)}
    if spec.vision is not None:
        yield "vision", _vision_shapes(spec.vision, spec.hidden_size)
    for index in range(len(spec.layers)):
        yield f"layer {index}", _layer_shapes(spec, f"model.layers.{index}.")
    last: Shapes = {"model.norm.weight": (spec.hidden_size,)}
    if not spec.tied:
        last["lm_head.weight"] = (spec.vocab_size, spec.hidden_size)
    yield "head", last


def shapes(spec: DecoderSpec) -> Shapes:
    """Every tensor's name and shape."""
    return {name: shape for _, stage in stages(spec) for name, shape in stage.items()}


def canonical(name: str) -> str | None:
    """A checkpoint's name of a tensor as `shapes` has it; None for what nobody computes with.

    Models with eyes have changed their prefixes over the years; all of them are out there.
    """
    if _UNUSED.search(name):
        return None
    for prefix, ours in _PREFIXES:
        if name.startswith(prefix):
            return ours + name.removeprefix(prefix)
    return name


def published(spec: DecoderSpec, name: str) -> str:
    """A name of `shapes` as it is written into a checkpoint that others will read."""
    if spec.vision is not None and name.startswith(("model.", "lm_head.")):
        return f"language_model.{name}"
    return name


def arrange(spec: DecoderSpec, tensors: Mapping[str, Tensor]) -> DecoderWeights:
    """The tensors of `shapes`, by name, ready for computing. Nothing is copied."""
    embedding = tensors["model.embed_tokens.weight"]
    return DecoderWeights(
        embedding=embedding,
        layers=tuple(
            _arrange_layer(spec, tensors, f"model.layers.{index}.")
            for index in range(len(spec.layers))
        ),
        norm=tensors["model.norm.weight"],
        head=embedding if spec.tied else tensors["lm_head.weight"],
    )


def arrange_vision(spec: VisionSpec, tensors: Mapping[str, Tensor]) -> VisionWeights:
    def linear(name: str) -> Linear:
        return Linear(tensors[f"{_TOWER}{name}.weight"], tensors[f"{_TOWER}{name}.bias"])

    return VisionWeights(
        patches=linear("embeddings.patch_embedding"),
        positions=tensors[f"{_TOWER}embeddings.position_embedding.weight"],
        layers=tuple(
            VisionLayerWeights(
                *(linear(f"encoder.layers.{index}.{name}") for name in _VISION_LAYER)
            )
            for index in range(spec.layers)
        ),
        norm=linear("post_layernorm"),
        soft_norm=tensors[f"{_PROJECTOR}mm_soft_emb_norm.weight"],
        projection=tensors[f"{_PROJECTOR}mm_input_projection_weight"],
    )


_TOWER = "vision_tower."
_PREFIXES = (
    ("language_model.model.", "model."),
    ("model.language_model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.vision_model.", _TOWER),
    ("model.vision_tower.vision_model.", _TOWER),
    ("model.vision_tower.", _TOWER),
    ("model.multi_modal_projector.", "multi_modal_projector."),
)
_UNUSED = re.compile(r"rotary_emb\.inv_freq$|^(model\.)?vision_tower\.(vision_model\.)?head\.")
_PROJECTOR = "multi_modal_projector."
_VISION_LAYER = (
    "layer_norm1",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.out_proj",
    "layer_norm2",
    "mlp.fc1",
    "mlp.fc2",
)


def _projections(spec: DecoderSpec) -> dict[str, tuple[str, int, int, bool]]:
    """Field and place → name, outputs, inputs, bias."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    bias = spec.qkv_bias
    found = {
        "out": ("self_attn.o_proj", hidden, q, spec.out_bias),
        "down": ("mlp.down_proj", hidden, inner, spec.mlp_bias),
    }
    if spec.fused:
        found["qkv 0"] = ("self_attn.qkv_proj", q + 2 * kv, hidden, bias)
        found["gate_up 0"] = ("mlp.gate_up_proj", 2 * inner, hidden, spec.mlp_bias)
        return found
    for place, (name, size) in enumerate((("q", q), ("k", kv), ("v", kv))):
        found[f"qkv {place}"] = (f"self_attn.{name}_proj", size, hidden, bias)
    for place, name in enumerate(("gate", "up")):
        found[f"gate_up {place}"] = (f"mlp.{name}_proj", inner, hidden, spec.mlp_bias)
    return found


def _layer_shapes(spec: DecoderSpec, prefix: str) -> Shapes:
    found: Shapes = {}
    for name in _NORMS[spec.placement]:
        if name is not None:
            found[f"{prefix}{name}.weight"] = (spec.hidden_size,)
    if spec.qk_norm:
        for name, heads in (("q_norm", spec.heads), ("k_norm", spec.kv_heads)):
            shape = (heads, spec.head_dim) if spec.qk_norm_per_head else (spec.head_dim,)
            found[f"{prefix}self_attn.{name}.weight"] = shape
    for name, outputs, inputs, bias in _projections(spec).values():
        found[f"{prefix}{name}.weight"] = (outputs, inputs)
        if bias:
            found[f"{prefix}{name}.bias"] = (outputs,)
    return found


def _arrange_layer(spec: DecoderSpec, tensors: Mapping[str, Tensor], prefix: str) -> LayerWeights:
    linears = {
        key: Linear(
            tensors[f"{prefix}{name}.weight"], tensors[f"{prefix}{name}.bias"] if bias else None
        )
        for key, (name, _, _, bias) in _projections(spec).items()
    }
    norms = (
        None if name is None else tensors[f"{prefix}{name}.weight"]
        for name in _NORMS[spec.placement]
    )
    attention_norm, attention_post_norm, mlp_norm, mlp_post_norm = norms
    assert attention_norm is not None
    return LayerWeights(
        attention_norm=attention_norm,
        attention_post_norm=attention_post_norm,
        mlp_norm=mlp_norm,
        mlp_post_norm=mlp_post_norm,
        qkv=tuple(linear for key, linear in linears.items() if key.startswith("qkv")),
        q_norm=tensors[f"{prefix}self_attn.q_norm.weight"] if spec.qk_norm else None,
        k_norm=tensors[f"{prefix}self_attn.k_norm.weight"] if spec.qk_norm else None,
        out=linears["out"],
        gate_up=tuple(linear for key, linear in linears.items() if key.startswith("gate_up")),
        down=linears["down"],
    )


def _vision_shapes(spec: VisionSpec, hidden_size: int) -> Shapes:
    width, inner = spec.hidden_size, spec.intermediate_size
    patch = (width, spec.channels, spec.patch_size, spec.patch_size)
    found: Shapes = {
        f"{_TOWER}embeddings.patch_embedding.weight": patch,
        f"{_TOWER}embeddings.patch_embedding.bias": (width,),
        f"{_TOWER}embeddings.position_embedding.weight": (spec.patches_per_side**2, width),
    }
    for index in range(spec.layers):
        for name in _VISION_LAYER:
            outputs = inner if name == "mlp.fc1" else width
            inputs = inner if name == "mlp.fc2" else width
            where = f"{_TOWER}encoder.layers.{index}.{name}"
            norm = "norm" in name
            found[f"{where}.weight"] = (width,) if norm else (outputs, inputs)
            found[f"{where}.bias"] = (width,) if norm else (outputs,)
    for kind in ("weight", "bias"):
        found[f"{_TOWER}post_layernorm.{kind}"] = (width,)
    found[f"{_PROJECTOR}mm_soft_emb_norm.weight"] = (width,)
    found[f"{_PROJECTOR}mm_input_projection_weight"] = (width, hidden_size)
    return found
