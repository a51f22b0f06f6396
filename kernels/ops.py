"""What the model code calls. Compiled kernels where this machine has them, else torch.

- `rms_norm(x, weight, eps, residual=None, add_one=False)`: x / rms(x) · weight (or 1 + weight)
  over the last dimension. With a residual, x is first added into it, in place, and the sum is
  what is normed: one call does the end of one part of a layer and the start of the next.
- `glu(gate, up=None, activation="silu")`: activation(gate) · up. Without `up`, gate holds both,
  side by side.
- `rope_(q, k, cos, sin, interleaved=False)`: turns q and k, `[tokens, heads, head size]`, in
  place by float32 angles, `[tokens, 1, pairs]`; the dimensions after 2 · pairs stay.
- `linear(x, weight, bias=None)`: x · weightᵀ + bias, weights as they are stored. Compiled for
  bfloat16; there each row's result has the same bits whatever other rows there are.
- `attend(q, k, v, tables, seen, scale, softcap=0)`: queries `[rows, heads, size]` on paged K/V
  `[blocks, 16, kv_heads, size]`; each row has a line of blocks in `tables` and sees the tokens
  `seen[row, 0]` up to `seen[row, 1]` of them.

Sums and functions are computed in float32 and rounded once (in torch, `glu` rounds twice).
`capyra.kernels.describe()` says which of the two it is.
"""

from __future__ import annotations

from capyra.kernels.fallback import Activation
from capyra.kernels.library import KernelsUnavailable

try:
    from capyra.kernels.compiled import attend, glu, linear, rms_norm, rope_
except KernelsUnavailable:
    from capyra.kernels.fallback import attend, glu, linear, rms_norm, rope_

__all__ = ["Activation", "attend", "glu", "linear", "rms_norm", "rope_"]
