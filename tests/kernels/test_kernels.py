"""Every kernel of every instruction set, against float64 arithmetic in torch and against its
scalar twin, at odd sizes, strides and alignments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from exactness import (
    DTYPES,
    EXAMPLES,
    SPECIAL,
    TINY,
    Memory,
    assert_close,
    assert_same,
    dtypes,
    lengths,
    scales,
    seeds,
)


@EXAMPLES
@given(
    seed=seeds,
    dtype=dtypes,
    scale=scales,
    outer=st.integers(0, 4),
    inner=st.integers(1, 3),
    size=lengths,
    gap=st.integers(0, 9),
    with_residual=st.booleans(),
    shift=st.sampled_from([0.0, 1.0]),
)
def test_rms_norm(
    twin: Any,
    seed: int,
    dtype: str,
    scale: float,
    outer: int,
    inner: int,
    size: int,
    gap: int,
    with_residual: bool,
    shift: float,
) -> None:
    memory = Memory(seed, dtype)
    x = memory(outer, inner, size, scale=scale, gap=gap)
    weight, y = memory(size), memory(outer, inner, size)
    residual = memory(outer, inner, size, scale=scale) if with_residual else None
    eps = 1e-5
    summed = x if residual is None else x + residual
    wide = summed.double()
    normed = wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt()
    want, terms = normed * (weight.double() + shift), normed.abs() * (weight.double().abs() + shift)
    strides = x.stride(0), x.stride(1)
    twin.run(
        f"rms_norm_{dtype}",
        [y, x, residual, weight, outer, inner, size, *strides, eps, shift, 2],
    )
    memory.check_guards()
    assert_close(y, want, dtype, terms)
    if residual is not None:
        torch.testing.assert_close(residual, summed, rtol=0, atol=TINY)


@EXAMPLES
@given(
    seed=seeds,
    dtype=dtypes,
    scale=scales,
    rows=st.integers(0, 4),
    size=lengths,
    gaps=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    activation=st.sampled_from([0, 1]),
)
def test_glu(
    twin: Any,
    seed: int,
    dtype: str,
    scale: float,
    rows: int,
    size: int,
    gaps: tuple[int, int],
    activation: int,
) -> None:
    memory = Memory(seed, dtype)
    gate = memory(rows, size, scale=min(scale, 30.0), gap=gaps[0])
    up, y = memory(rows, size, scale=scale, gap=gaps[1]), memory(rows, size)
    wide = gate.double()
    s = (wide + 0.044715 * wide**3) * 2 * (2 / math.pi) ** 0.5 if activation else wide
    want = wide * s.sigmoid() * up.double()
    strides = gate.stride(0), up.stride(0)
    twin.run(f"glu_{dtype}", [y, gate, up, rows, size, *strides, activation, 2])
    memory.check_guards()
    # Where the sigmoid is below float32's smallest numbers it is taken as zero.
    terms = want.abs() * (1 + s.abs()) + up.double().abs() * 1e-30
    assert_close(y, want, dtype, terms)


@EXAMPLES
@given(
    seed=seeds,
    dtype=dtypes,
    scale=scales,
    tokens=st.integers(0, 4),
    heads=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    pairs=st.one_of(st.integers(1, 40), st.just(64)),
    rest=st.integers(0, 9),
    gap=st.integers(0, 5),
    interleaved=st.booleans(),
)
def test_rope(
    twin: Any,
    seed: int,
    dtype: str,
    scale: float,
    tokens: int,
    heads: tuple[int, int],
    pairs: int,
    rest: int,
    gap: int,
    interleaved: bool,
) -> None:
    memory = Memory(seed, dtype)
    size = 2 * pairs + rest
    # q and k as they come out of one matrix: side by side in the token's row.
    row = memory(tokens, sum(heads) * size, scale=scale)
    q, k = (part.unflatten(1, (-1, size)) for part in row.split([h * size for h in heads], dim=1))
    cos, sin = (memory(tokens, pairs, gap=gap, dtype=torch.float32) for _ in range(2))
    want, terms = turned(row.unflatten(1, (-1, size)), cos, sin, interleaved)
    strides = *q.stride()[:2], *k.stride()[:2], cos.stride(0)
    sizes = tokens, *heads, pairs
    twin.run(f"rope_{dtype}", [q, k, cos, sin, *sizes, *strides, interleaved, 2])
    memory.check_guards()
    assert_close(row.unflatten(1, (-1, size)), want, dtype, terms)


def turned(heads: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """Rotation as multiplication of complex numbers; and the size of the terms."""
    pairs = cos.shape[-1]
    wide = heads.double()
    pair = (-1, 2) if interleaved else (2, -1)
    dim = -1 if interleaved else -2
    x = wide[..., : 2 * pairs].unflatten(-1, pair)
    a, b = x.unbind(dim)
    angle = torch.complex(cos.double(), sin.double()).unsqueeze(1)
    y = torch.complex(a, b) * angle
    terms = (a.abs() + b.abs()) * (angle.real.abs() + angle.imag.abs())
    rest = wide[..., 2 * pairs :]
    return (
        torch.cat([torch.stack([y.real, y.imag], dim).flatten(-2), rest], -1),
        torch.cat([torch.stack([terms, terms], dim).flatten(-2), rest.abs()], -1),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [0, 1])
def test_glu_of_special_numbers_is_its_twins(twin: Any, dtype: str, activation: int) -> None:
    special = torch.cartesian_prod(*[torch.tensor(SPECIAL)] * 2)
    # The sigmoid of -88.5 is zero here and 1e-39 there, and their products with infinity differ.
    special = special[~((special[:, 0] < -80) & special[:, 1].isinf())]
    gate, up = special.to(DTYPES[dtype]).T.contiguous()

    def run(call: Callable[..., None]) -> Tensor:
        y = torch.empty_like(gate)
        call(f"glu_{dtype}", [y, gate, up, 1, len(gate), 0, 0, activation, 1])
        return y

    assert_same(run(twin.run), run(twin.scalar), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("place", [0, 7, 36])
def test_rms_norm_of_special_numbers_is_its_twins(
    twin: Any, dtype: str, special: float, place: int
) -> None:
    x = torch.linspace(-2, 2, 2 * 37).view(2, 37).to(DTYPES[dtype])
    x[1, place] = special
    weight = torch.linspace(-1, 3, 37).to(DTYPES[dtype])

    def run(call: Callable[..., None]) -> Tensor:
        y, residual = torch.empty_like(x), x.flip(0).contiguous()
        sizes = [2, 1, 37, 37, 0]
        call(f"rms_norm_{dtype}", [y, x, residual, weight, *sizes, 1e-6, 0.0, 1])
        return torch.stack([y, residual])

    assert_same(run(twin.run), run(twin.scalar), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interleaved", [False, True])
def test_rope_of_special_numbers_is_its_twins(twin: Any, dtype: str, interleaved: bool) -> None:
    start = torch.cartesian_prod(*[torch.tensor(SPECIAL)] * 2).to(DTYPES[dtype])
    pairs = len(start)
    angles = torch.linspace(0, 6, pairs)
    cos, sin = angles.cos(), angles.sin()

    def run(call: Callable[..., None]) -> Tensor:
        q = (start if interleaved else start.T).contiguous().flatten()
        k = q.clone()
        call(f"rope_{dtype}", [q, k, cos, sin, 1, 1, 1, pairs, 0, 0, 0, 0, 0, interleaved, 1])
        assert torch.equal(q.view(torch.uint8), k.view(torch.uint8))
        return q

    assert_same(run(twin.run), run(twin.scalar), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_change_nothing(twin: Any, dtype: str) -> None:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(135, 1024, generator=random).to(DTYPES[dtype])
    weight = torch.randn(1024, generator=random).to(DTYPES[dtype])
    angles = torch.randn(2, 135, 32, generator=random)

    def run(threads: int) -> Tensor:
        norm, glu, q, k = torch.empty_like(x), torch.empty_like(x), x.clone(), x.clone()
        sizes = [135, 1, 1024, 1024, 0]
        twin.run(f"rms_norm_{dtype}", [norm, x, None, weight, *sizes, 1e-6, 0.0, threads])
        twin.run(f"glu_{dtype}", [glu, x, x, 135, 1024, 1024, 1024, 0, threads])
        sizes = [135, 16, 16, 32, 1024, 64, 1024, 64, 32]
        twin.run(f"rope_{dtype}", [q, k, *angles, *sizes, 0, threads])
        return torch.stack([norm, glu, q, k])

    alone = run(1)
    for threads in (2, 3, 8):
        assert torch.equal(run(threads), alone)


def test_rms_norm_in_place(twin: Any) -> None:
    x = torch.randn(3, 45, generator=torch.Generator().manual_seed(1))
    want = functional.rms_norm(x, (45,), eps=1e-6)
    twin.run("rms_norm_f32", [x, x, None, torch.ones(45), 3, 1, 45, 45, 0, 1e-6, 0.0, 1])
    torch.testing.assert_close(x, want)
