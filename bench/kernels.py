"""Each compiled kernel against torch, at the shapes of a 300 M model.

A figure is how many times faster ours is, call by call through the functions that the engine
calls. Rows are what a step holds: 1 and 16 for decode, 512 for prefill; each of those that attend
sees 256 tokens of its own. Products go through weights that no cache holds. `best_ratio` in the raw
numbers compares each side's least disturbed slice, for machines that others use too.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from bench.harness import Results, alternate, run
from capyra.engine.native.model.layout import Linear
from capyra.engine.native.model.ops import TORCH
from capyra.kernels import compiled, fallback, isa

HIDDEN, INNER, HEADS, HEAD = 1024, 2816, 16, 64
TOKENS, MATRICES = 256, 12
ROWS = (1, 16, 512)
DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
EPS = 1e-6
SLICE = 0.01
"""Seconds that one side runs before the other has its turn."""

Call = Callable[[], object]


def measure(quick: bool) -> Results:
    results = Results()
    results.raw["isa"] = isa()
    results.raw["threads"] = torch.get_num_threads()
    with torch.inference_mode():
        for rows in ROWS:
            for name, dtype in DTYPES.items():
                for op, (ours, theirs) in sides(rows, dtype).items():
                    pace = [rate(ours), rate(theirs)]
                    found = alternate(15 if quick else 61, *pace)
                    figure = f"{op}_{name}_{rows}_vs_torch"
                    results.ratio(figure, *found)
                    best = [max(side) for side in found]
                    results.raw[figure] |= {"best": best, "best_ratio": best[0] / best[1]}
    return results


def sides(rows: int, dtype: torch.dtype) -> dict[str, tuple[Call, Call]]:
    """Ours and torch's for each op: what the engine would call without the library, or torch's
    own operator where there is one, which is faster."""
    random = torch.Generator().manual_seed(1)

    def make(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(dtype)

    x, residual, weight = make(rows, HIDDEN), make(rows, HIDDEN), make(HIDDEN)
    gate, up = make(rows, 2 * INNER).chunk(2, -1)
    q, k = make(rows, HEADS, HEAD), make(rows, HEADS, HEAD)
    angles = torch.arange(rows * HEAD // 2).view(rows, 1, -1) / 100
    cos, sin = angles.cos(), angles.sin()

    def torch_norm() -> Tensor:
        return functional.rms_norm(x, (HIDDEN,), weight, EPS)

    def torch_add_norm() -> Tensor:
        return functional.rms_norm(residual.add_(x), (HIDDEN,), weight, EPS)

    found: dict[str, tuple[Call, Call]] = {}
    if dtype is torch.bfloat16:
        matrices = itertools.cycle([make(INNER, HIDDEN) for _ in range(MATRICES)])
        found["linear"] = (
            lambda: compiled.linear(x, next(matrices)),
            lambda: TORCH.linear(x, Linear(next(matrices), None)),
        )
    if rows < max(ROWS):
        lines = torch.arange(rows * TOKENS // 16).view(rows, -1)
        seen = torch.tensor([[0, TOKENS]] * rows)
        attended = q, *make(2, lines.numel(), 16, HEADS, HEAD), lines, seen, HEAD**-0.5
        found["attend"] = (
            lambda: compiled.attend(*attended),
            lambda: fallback.attend(*attended),
        )
    return found | {
        "rms_norm": (lambda: compiled.rms_norm(x, weight, EPS), torch_norm),
        "add_rms_norm": (lambda: compiled.rms_norm(x, weight, EPS, residual), torch_add_norm),
        "swiglu": (lambda: compiled.glu(gate, up), lambda: TORCH.glu(gate, up, "silu")),
        "rope": (
            lambda: compiled.rope_(q, k, cos, sin),
            lambda: TORCH.rotate(q, k, cos, sin, False),
        ),
    }


def rate(call: Call) -> Callable[[], float]:
    """Calls a second, over a slice of time."""
    call()
    start = time.perf_counter()
    call()
    count = max(1, int(SLICE / (time.perf_counter() - start)))

    def side() -> float:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return count / (time.perf_counter() - start)

    return side


if __name__ == "__main__":
    run(measure)
