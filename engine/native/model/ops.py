"""The small operations between the matrix products, and the one place where compiled kernels
take over from torch.

Everything that computes takes an `Ops` and calls through it. `TORCH` is right everywhere, and the
only one with gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from capyra.engine.native.model.spec import Activation, NormKind


@dataclass(frozen=True, slots=True)
class Ops:
    """Every operation works on the last dimension, whatever is before it, and returns new
    tensors of its input's type; inside it computes in float32 where rounding would tell."""

    norm: Callable[[Tensor, Tensor, float, NormKind], Tensor]
    """x, weight, epsilon, kind."""
    add_norm: Callable[[Tensor, Tensor, Tensor, float, NormKind], tuple[Tensor, Tensor]]
    """x, what is added to it, weight, epsilon, kind → the sum, and the sum normed."""
    glu: Callable[[Tensor, Tensor, Activation], Tensor]
    """gate, up → activation(gate) · up."""
    rotate: Callable[[Tensor, Tensor, Tensor, bool], Tensor]
    """`[…, heads, head_dim]`, float32 cosine and sine `[…, 1, rotated / 2]`, interleaved."""


def norm(x: Tensor, weight: Tensor, eps: float, kind: NormKind) -> Tensor:
    wide = x.float()
    if kind == "layer":
        wide = wide - wide.mean(-1, keepdim=True)
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    if kind == "rms":
        return weight * wide.to(x.dtype)
    scale = weight.float() + 1.0 if kind == "gemma" else weight.float()
    return (wide * scale).to(x.dtype)


def add_norm(
    x: Tensor, delta: Tensor, weight: Tensor, eps: float, kind: NormKind
) -> tuple[Tensor, Tensor]:
    total = x + delta
    return total, norm(total, weight, eps, kind)


def activate(x: Tensor, activation: Activation) -> Tensor:
    if activation == "silu":
        return functional.silu(x)
    return functional.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def glu(gate: Tensor, up: Tensor, activation: Activation) -> Tensor:
    return activate(gate, activation) * up


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    half = cos.shape[-1]
    wide = x[..., : 2 * half].float()
    if interleaved:
        first, second = wide[..., ::2], wide[..., 1::2]
    else:
        first, second = wide[..., :half], wide[..., half:]
    turned = first * cos - second * sin, second * cos + first * sin
    joined = torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)
    joined = joined.to(x.dtype)
    if 2 * half == x.shape[-1]:
        return joined
    return torch.cat((joined, x[..., 2 * half :]), -1)


TORCH = Ops(norm, add_norm, glu, rotate)
