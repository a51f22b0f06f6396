"""What a layer is made of, and the one place where compiled kernels take over from torch.

Everything that computes takes an `Ops` and calls through it. `TORCH` is right everywhere, and the
only one with gradients; `serving` is what this machine has best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from capyra.engine.native.model.layout import Linear
from capyra.engine.native.model.spec import Activation, NormKind
from capyra.kernels import fallback


@dataclass(frozen=True, slots=True)
class Ops:
    """Every operation works on the last dimension, whatever is before it, and gives tensors of
    its input's type; inside it computes in float32 where rounding would tell.

    `add_norm` may write the sum into its first argument, `rotate` turn its first two in place:
    the caller uses what they return, and those arguments no more.
    """

    linear: Callable[[Tensor, Linear], Tensor]
    norm: Callable[[Tensor, Tensor, float, NormKind], Tensor]
    """x, weight, epsilon, kind."""
    add_norm: Callable[[Tensor, Tensor, Tensor, float, NormKind], tuple[Tensor, Tensor]]
    """x, what is added to it, weight, epsilon, kind → the sum, and the sum normed."""
    glu: Callable[[Tensor, Tensor, Activation], Tensor]
    """gate, up → activation(gate) · up."""
    rotate: Callable[[Tensor, Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor]]
    """q and k `[…, heads, head_dim]`, float32 cosine and sine `[…, 1, rotated / 2]`, interleaved
    → q and k, turned."""
    attend: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float, float], Tensor]
    """Queries `[rows, heads, head_dim]`, a layer's blocks of K and of V, each row's line of
    blocks, what it sees of them, scale, soft cap or 0 → `[rows, heads, head_dim]`."""
    few: int
    """Rows of a prompt up to which `attend` is faster than one masked product."""


def linear(x: Tensor, weights: Linear) -> Tensor:
    rows = x.numel() // x.shape[-1]
    if rows < _WIDEN_FROM or not widened(x.dtype):
        return functional.linear(x, weights.weight, weights.bias)
    wide = x.float()
    step = max(1, _WIDE_ELEMENTS // x.shape[-1])
    parts = [
        functional.linear(wide, part.float()).to(x.dtype)
        for part in torch.split(weights.weight, step)
    ]
    out = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
    return out if weights.bias is None else out + weights.bias


_WIDEN_FROM = 6
"""Rows from which products are computed in float32 where the processor has none in half precision:
there torch computes them row by row, 7 times slower at 512 rows (docs/decisions/0010)."""
_FEW = 16
"""One product of all rows wins from some 24 on (docs/decisions/0016)."""
_OWN_ROWS = 2**40
_OWN_ROWS_BESIDE_TORCH = 32
"""Rows up to which our products in bfloat16 are used: all where torch has to widen; where the
processor multiplies bfloat16, decode, because ours read weights faster (docs/decisions/0016)."""
_WIDE_ELEMENTS = 2**22
"""How much of a matrix is widened at once: it has to stay in the cache, and out of memory."""


@cache
def widened(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies matrices of that type faster in float32."""
    if dtype == torch.bfloat16:
        return not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if dtype == torch.float16:
        return not torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return False


def norm(x: Tensor, weight: Tensor, eps: float, kind: NormKind) -> Tensor:
    if kind == "rms":
        return functional.rms_norm(x, weight.shape, weight, eps)
    wide = x.float()
    if kind == "layer":
        wide = wide - wide.mean(-1, keepdim=True)
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
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


def rotate(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, interleaved: bool
) -> tuple[Tensor, Tensor]:
    return _turned(q, cos, sin, interleaved), _turned(k, cos, sin, interleaved)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
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


TORCH = Ops(linear, norm, add_norm, glu, rotate, fallback.attend, few=0)


@cache
def serving() -> Ops:
    """With this machine's compiled kernels, if it has any; for inference."""
    from capyra import kernels

    if kernels.isa() is None:
        return TORCH
    from capyra.kernels import ops as compiled

    def compiled_norm(x: Tensor, weight: Tensor, eps: float, kind: NormKind) -> Tensor:
        if kind == "layer" or weight.dim() > 1:
            return norm(x, weight, eps, kind)
        return compiled.rms_norm(x, weight, eps, add_one=kind == "gemma")

    def compiled_add_norm(
        x: Tensor, delta: Tensor, weight: Tensor, eps: float, kind: NormKind
    ) -> tuple[Tensor, Tensor]:
        if kind == "layer":
            return add_norm(x, delta, weight, eps, kind)
        return x, compiled.rms_norm(delta, weight, eps, residual=x, add_one=kind == "gemma")

    def compiled_rotate(
        q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, interleaved: bool
    ) -> tuple[Tensor, Tensor]:
        compiled.rope_(q, k, cos, sin, interleaved)
        return q, k

    own_rows = _OWN_ROWS if widened(torch.bfloat16) else _OWN_ROWS_BESIDE_TORCH

    def compiled_linear(x: Tensor, weights: Linear) -> Tensor:
        if x.dtype is torch.bfloat16 and x.numel() <= own_rows * x.shape[-1]:
            return compiled.linear(x, weights.weight, weights.bias)
        return linear(x, weights)

    return Ops(
        compiled_linear,
        compiled_norm,
        compiled_add_norm,
        compiled.glu,
        compiled_rotate,
        compiled.attend,
        few=_FEW,
    )
