"""Matrix products and attention of every instruction set, as `test_kernels` tests the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from exactness import (
    DTYPES,
    EXAMPLES,
    SPECIAL,
    Memory,
    assert_close,
    assert_same,
    dtypes,
    lengths,
    scales,
    seeds,
)

BLOCK = 16


@EXAMPLES
@given(
    seed=seeds,
    scale=scales,
    rows=st.one_of(st.integers(0, 14), st.just(100)),
    inputs=lengths,
    outputs=st.one_of(st.integers(1, 30), st.just(100)),
    gap=st.integers(0, 9),
    with_bias=st.booleans(),
)
def test_linear(
    twin: Any,
    seed: int,
    scale: float,
    rows: int,
    inputs: int,
    outputs: int,
    gap: int,
    with_bias: bool,
) -> None:
    memory = Memory(seed, "bf16")
    x, w = memory(rows, inputs, scale=scale, gap=gap), memory(outputs, inputs)
    y, bias = memory(rows, outputs), memory(outputs, scale=scale) if with_bias else None
    want = x.double() @ w.double().T
    terms = x.double().abs() @ w.double().abs().T
    if bias is not None:
        want, terms = want + bias.double(), terms + bias.double().abs()
    twin.run("linear_bf16", [y, x, w, bias, rows, inputs, outputs, x.stride(0), 2])
    memory.check_guards()
    assert_close(y, want, "bf16", terms)


@pytest.mark.parametrize("inputs", [1, 40, 1024, 2100])
def test_linear_gives_a_row_the_same_bits_in_any_company(twin: Any, inputs: int) -> None:
    random = torch.Generator().manual_seed(1)
    x, w = (torch.randn(n, inputs, generator=random).bfloat16() for n in (105, 203))

    def run(x: Tensor, w: Tensor, threads: int) -> Tensor:
        y = torch.empty(len(x), len(w), dtype=torch.bfloat16)
        sizes = [len(x), inputs, len(w), inputs]
        twin.run("linear_bf16", [y, x, w, None, *sizes, threads])
        return y

    together = run(x, w, 2)
    for rows in (1, 2, 3, 4, 5, 6, 7, 9, 97):
        assert torch.equal(run(x[:rows], w, 1), together[:rows])
    for outputs in (1, 2, 7, 64):
        assert torch.equal(run(x[:7], w[:outputs], 3), together[:7, :outputs])


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("place", [0, 17, 36])
def test_linear_of_special_numbers_is_its_twins(twin: Any, special: float, place: int) -> None:
    x = torch.linspace(-2, 2, 3 * 37).view(3, 37).bfloat16()
    w = torch.linspace(-1, 3, 5 * 37).view(5, 37).bfloat16()
    x[1, place] = special

    def run(call: Callable[..., None]) -> Tensor:
        y = torch.empty(3, 5, dtype=torch.bfloat16)
        call("linear_bf16", [y, x, w, None, 3, 37, 5, 37, 1])
        return y

    assert_same(run(twin.run), run(twin.scalar), "bf16")


@EXAMPLES
@given(
    seed=seeds,
    dtype=dtypes,
    rows=st.integers(0, 3),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 6),
    size=st.one_of(st.integers(1, 40), st.sampled_from([64, 80, 128, 256])),
    gap=st.integers(0, 9),
    sharpness=st.sampled_from([0.1, 1.0, 20.0]),
    softcap=st.sampled_from([0.0, 5.0]),
)
def test_attend(
    twin: Any,
    seed: int,
    dtype: str,
    rows: int,
    kv_heads: int,
    group: int,
    size: int,
    gap: int,
    sharpness: float,
    softcap: float,
) -> None:
    memory, random = Memory(seed, dtype), torch.Generator().manual_seed(seed)
    heads, width, blocks = kv_heads * group, 4, 9
    q, y = memory(rows, heads * size, gap=gap), memory(rows, heads, size)
    k, v = (memory(blocks, BLOCK, kv_heads, size) for _ in range(2))
    tables = torch.randint(0, blocks, (rows, width), generator=random)
    seen = torch.randint(0, width * BLOCK, (rows, 2), generator=random).sort(-1).values
    seen[:, 1] += 1
    scale = sharpness / size**0.5
    want, terms = torch.empty(2, rows, heads, size, dtype=torch.float64)
    for row, (first, end) in enumerate(seen.tolist()):
        keys, values = (
            x.double()[tables[row]].flatten(0, 1)[first:end].repeat_interleave(group, 1)
            for x in (k, v)
        )
        scores = torch.einsum("hd,thd->ht", q[row].double().view(heads, size), keys) * scale
        if softcap:
            scores = (scores / softcap).tanh() * softcap
        weights = scores.softmax(-1)
        want[row] = torch.einsum("ht,thd->hd", weights, values)
        # An error of a score is an error of its weight, so large scores count.
        terms[row] = torch.einsum("ht,thd->hd", weights * (4 + scores.abs()), values.abs())
    sizes = [rows, width, heads, kv_heads, size, q.stride(0)]
    twin.run(f"attend_{dtype}", [y, q, k, v, tables, seen, *sizes, scale, softcap, 2])
    memory.check_guards()
    assert_close(y, want, dtype, terms * 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("special", [torch.nan, torch.inf, -torch.inf, 1e-40])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_attend_of_special_numbers_is_its_twins(
    twin: Any, dtype: str, special: float, where: str
) -> None:
    random = torch.Generator().manual_seed(1)
    q, k, v = (
        torch.randn(shape, generator=random).to(DTYPES[dtype])
        for shape in ((2, 2, 9), (3, BLOCK, 1, 9), (3, BLOCK, 1, 9))
    )
    {"q": q[0, 1], "k": k[1, 3, 0], "v": v[1, 3, 0]}[where][4] = special
    tables, seen = torch.tensor([[0, 1], [2, 0]]), torch.tensor([[0, 25], [3, 30]])

    def run(call: Callable[..., None]) -> Tensor:
        y = torch.empty_like(q)
        sizes = [2, 2, 2, 1, 9, 18]
        call(f"attend_{dtype}", [y, q, k, v, tables, seen, *sizes, 0.3, 0.0, 1])
        return y

    ours, twins = run(twin.run), run(twin.scalar)
    if special != special or abs(special) == torch.inf:
        # Infinity less infinity: whether a NaN comes of it depends on the order of sums.
        clean = twins.isfinite().all(-1)
        assert clean.any()
        ours, twins = ours[clean], twins[clean]
    torch.testing.assert_close(ours.double(), twins.double(), rtol=0.01, atol=1e-4)
