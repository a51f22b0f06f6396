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


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.linear(x, weight, bias)


def attend(
    q: Tensor, k: Tensor, v: Tensor, tables: Tensor, seen: Tensor, scale: float, softcap: float = 0
) -> Tensor:
    """Row by row: no padding, no masks, and what is gathered stays in the cache. One padded batch
    was slower from 512 tokens on (docs/decisions/0010)."""
    kv_heads, size = k.shape[2:]
    # The heads that share K/V stand as that many queries: none of them needs a mask.
    queries = q.reshape(len(q), 1, kv_heads, -1, size)
    out = torch.empty_like(queries)
    for row, (first, end) in enumerate(seen.tolist()):
        blocks = tables[row, : -(-end // k.shape[1])]
        keys, values = (
            x.index_select(0, blocks).flatten(0, 1)[first:end].to(q.dtype).transpose(0, 1)[None]
            for x in (k, v)
        )
        if softcap:
            scores = queries[row] @ keys.transpose(-1, -2) * scale
            scores = torch.tanh(scores / softcap) * softcap
            out[row] = scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ values
        else:
            out[row] = functional.scaled_dot_product_attention(
                queries[row], keys, values, scale=scale
            )
    return out.view(q.shape)


def _pairs(heads: Tensor, pairs: int, interleaved: bool) -> tuple[Tensor, Tensor]:
    if interleaved:
        return heads[..., 0 : 2 * pairs : 2], heads[..., 1 : 2 * pairs : 2]
    return heads[..., :pairs], heads[..., pairs : 2 * pairs]
