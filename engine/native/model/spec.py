"""What a model is, as data. Every family is a value of `DecoderSpec`; there are no classes of
models, and code asks for a property, never for a family."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from capyra.engine.native.blocks import BLOCK_TOKENS
from capyra.engine.native.kv import CacheGroup

NormKind = Literal["rms", "gemma", "layer"]
"""`rms`: x / rms(x) · w; `gemma`: x / rms(x) · (1 + w); `layer`: (x − mean) / deviation · w."""

Placement = Literal["pre", "sandwich", "parallel"]
"""Where norms stand: before attention and feed-forward; before and after both; or one norm before
both, which then run side by side."""

Activation = Literal["silu", "gelu_tanh", "gelu"]


@dataclass(frozen=True, slots=True)
class Rope:
    """One kind of rotation. All schemes of scaling come down to these numbers.

    The first `2 × len(frequencies)` dimensions of a head are rotated, the rest is left alone.
    """

    frequencies: tuple[float, ...]
    scale: float = 1.0
    """Cosine and sine are multiplied by it."""
    interleaved: bool = False
    """Pairs are neighbours (0, 1), (2, 3), …; else the halves (0, d/2), (1, d/2 + 1), …"""
    long_frequencies: tuple[float, ...] | None = None
    """What takes the place of `frequencies` in sequences longer than `DecoderSpec.long_after`."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What may differ from layer to layer. `rope` indexes `DecoderSpec.ropes`; None: positions
    are not marked at all."""

    window: int | None
    rope: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionSpec:
    """A SigLIP tower and the projector that turns one image into `tokens` rows."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    image_size: int
    patch_size: int
    channels: int
    norm_eps: float
    activation: Activation
    tokens: int
    image_token: int
    begin_token: int
    end_token: int

    @property
    def patches_per_side(self) -> int:
        return self.image_size // self.patch_size

    @property
    def tokens_per_side(self) -> int:
        return math.isqrt(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: tuple[LayerSpec, ...]
    ropes: tuple[Rope, ...]
    context: int
    norm: NormKind
    norm_eps: float
    activation: Activation
    placement: Placement = "pre"
    qk_norm: bool = False
    """Queries and keys are normed head by head before they are rotated."""
    qk_norm_per_head: bool = False
    """Every head has norm weights of its own."""
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    fused: bool = False
    """Stored as one matrix each: q, k and v; gate and up."""
    tied: bool = False
    """The embedding is the output matrix too."""
    attention_scale: float
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    logit_scale: float = 1.0
    embedding_scale: float = 1.0
    long_after: int | None = None
    vision: VisionSpec | None = None

    def groups(self, kv_dtype: torch.dtype) -> tuple[CacheGroup, ...]:
        """The cache groups: full attention first, then windows by their width."""
        windows = {layer.window for layer in self.layers}
        block = 2 * BLOCK_TOKENS * self.kv_heads * self.head_dim * kv_dtype.itemsize
        groups = []
        for window in sorted(windows, key=lambda width: width or 0):
            members = tuple(
                index for index, layer in enumerate(self.layers) if layer.window == window
            )
            groups.append(CacheGroup(window, members, len(members) * block))
        return tuple(groups)
