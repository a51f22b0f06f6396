"""The ops in plain torch: any device, any dtype, any layout. What the compiled ones must match."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["silu", "gelu_tanh", "gelu"]


def rms_norm(
    x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None, add_one: bool = False
) -> Tensor:
    if residual is not None:
        x = residual.add_(x)
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    scale = weight.float() + 1 if add_one else weight.float()
    return (wide * scale).to(x.dtype)


def glu(gate: Tensor, up: Tensor | None = None, activation: Activation = "silu") -> Tensor:
    if up is None:
        gate, up = gate.chunk(2, -1)
    if activation == "silu":
        return functional.silu(gate) * up
    approximate = "tanh" if activation == "gelu_tanh" else "none"
    return functional.gelu(gate, approximate=approximate) * up


def rope_(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> None:
    for heads in (q, k):
        a, b = _pairs(heads, cos.shape[-1], interleaved)
        x, y = a.float(), b.float()
        turned = x * cos - y * sin, y * cos + x * sin
        a.copy_(turned[0])
        b.copy_(turned[1])


def _pairs(heads: Tensor, pairs: int, interleaved: bool) -> tuple[Tensor, Tensor]:
    if interleaved:
        return heads[..., 0 : 2 * pairs : 2], heads[..., 1 : 2 * pairs : 2]
    return heads[..., :pairs], heads[..., pairs : 2 * pairs]
