"""The Python face: the same results from compiled kernels, from torch and inside a compiled graph;
and what the kernels do not take goes to torch."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from capyra.kernels import fallback, library

if library.isa() is None:
    pytest.skip(library.describe(), allow_module_level=True)

from capyra.kernels import compiled

EXACT = {torch.float32: 1e-5, torch.bfloat16: 2**-7}


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def make() -> Callable[..., Tensor]:
    random = torch.Generator().manual_seed(1)
    return lambda *shape, dtype=torch.float32: torch.randn(shape, generator=random).to(dtype)


def assert_close(got: Tensor, want: Tensor) -> None:
    tolerance = EXACT.get(want.dtype, 1e-3)
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the fallback's functions that the compiled ones called."""
    names: list[str] = []

    def watched(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            names.append(name)
            return function(*args)

        return call

    torchs = SimpleNamespace(
        **{name: watched(name, getattr(fallback, name)) for name in ("rms_norm", "glu", "rope_")}
    )
    monkeypatch.setattr(compiled, "fallback", torchs)
    return names


@pytest.mark.parametrize("add_one", [False, True])
@pytest.mark.parametrize("shape", [(40,), (3, 40), (2, 3, 40), (2, 2, 3, 40), (0, 40)])
def test_rms_norm(
    make: Callable[..., Tensor],
    reached: list[str],
    dtype: torch.dtype,
    shape: tuple[int, ...],
    add_one: bool,
) -> None:
    x, weight, residual = (
        make(*shape, dtype=dtype),
        make(40, dtype=dtype),
        make(*shape, dtype=dtype),
    )
    theirs = residual.clone()
    got = compiled.rms_norm(x, weight, 1e-6, residual, add_one)
    assert not reached
    assert_close(got, fallback.rms_norm(x, weight, 1e-6, theirs, add_one))
    assert torch.equal(residual, theirs)
    assert_close(
        compiled.rms_norm(x, weight, 1e-6, add_one=add_one),
        fallback.rms_norm(x, weight, 1e-6, add_one=add_one),
    )


def test_rms_norm_of_heads_within_a_row(
    make: Callable[..., Tensor], reached: list[str], dtype: torch.dtype
) -> None:
    heads = make(5, 6 * 16, dtype=dtype)[:, 16 : 4 * 16].unflatten(1, (3, 16))
    weight = make(16, dtype=dtype)
    got = compiled.rms_norm(heads, weight, 1e-6)
    assert not reached
    assert got.is_contiguous()
    assert_close(got, fallback.rms_norm(heads, weight, 1e-6))


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "gelu"])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_glu(
    make: Callable[..., Tensor],
    reached: list[str],
    dtype: torch.dtype,
    rows: int,
    activation: fallback.Activation,
) -> None:
    gate_up = make(rows, 46, dtype=dtype)
    want = fallback.glu(gate_up, activation=activation)
    gate, up = gate_up.chunk(2, -1)
    assert_close(compiled.glu(gate_up, activation=activation), want)
    assert_close(compiled._glu(gate, up, activation), want)
    assert_close(compiled._glu(gate.contiguous(), up.contiguous(), activation), want)
    assert bool(reached) == (activation == "gelu")


def test_a_small_glu_is_left_to_torch(make: Callable[..., Tensor], reached: list[str]) -> None:
    compiled.glu(make(1, 8191), make(1, 8191))
    assert reached == ["glu"]
    compiled.glu(make(2, 4096), make(2, 4096))
    assert reached == ["glu"]


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("pairs", [3, 8])
def test_rope(
    make: Callable[..., Tensor],
    reached: list[str],
    dtype: torch.dtype,
    interleaved: bool,
    pairs: int,
) -> None:
    ours = make(5, 6, 16, dtype=dtype)
    theirs = ours.clone()
    cos, sin = make(5, 1, pairs), make(5, 1, pairs)
    compiled.rope_(ours[:, :4], ours[:, 4:5], cos, sin, interleaved)
    assert not reached
    fallback.rope_(theirs[:, :4], theirs[:, 4:5], cos, sin, interleaved)
    assert_close(ours, theirs)


def test_what_the_kernels_do_not_take_goes_to_torch(
    make: Callable[..., Tensor], reached: list[str]
) -> None:
    x, weight = make(4, 4), make(4)
    compiled.rms_norm(x.T, weight, 1e-6)
    compiled.rms_norm(x.double(), weight.double(), 1e-6)
    compiled.rms_norm(x.bfloat16(), weight, 1e-6)
    compiled.rms_norm(x, weight, 1e-6, make(4, 8)[:, ::2])
    assert reached == ["rms_norm"] * 4
    reached.clear()
    compiled.glu(x.T)
    compiled.glu(x.half())
    compiled.glu(make(2, 3, 4))
    compiled._glu(x[:, :2], x[:, :2].contiguous())
    assert reached == ["glu"] * 4
    reached.clear()
    heads = make(4, 2, 4)
    angles = make(4, 1, 2)
    compiled.rope_(heads, heads.clone(), angles.double(), angles.double())
    compiled.rope_(heads, heads.clone(), angles.bfloat16(), angles.bfloat16())
    assert reached == ["rope_"] * 2


def test_wrong_shapes_are_torchs_errors_not_ours(make: Callable[..., Tensor]) -> None:
    with pytest.raises(RuntimeError, match="size"):
        compiled.rms_norm(make(3, 8), make(7), 1e-6)
    with pytest.raises(RuntimeError, match="size"):
        compiled.glu(make(3, 8), make(2, 8))
    with pytest.raises(RuntimeError, match="size"):
        compiled.rope_(make(3, 2, 8), make(3, 1, 8), make(2, 1, 4), make(2, 1, 4))
    with pytest.raises(RuntimeError, match="size"):
        compiled.rope_(make(3, 2, 8), make(3, 1, 8), make(3, 1, 5), make(3, 1, 5))


def layer(qkv: Tensor, weight: Tensor, residual: Tensor, angles: Tensor) -> Tensor:
    q, k = qkv[:, :32].unflatten(1, (2, 16)), qkv[:, 32:].unflatten(1, (1, 16))
    compiled.rope_(q, k, angles, angles)
    x = compiled.glu(qkv, activation="gelu_tanh")
    return compiled.rms_norm(x, weight, 1e-6, residual, add_one=True) + q.sum()


def test_tracing_leaves_our_ops_in_one_graph(make: Callable[..., Tensor]) -> None:
    found: list[str] = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., object]:
        found.extend(str(node.target) for node in graph.graph.nodes if "capyra" in str(node.target))
        return graph.forward

    arguments = make(3, 48), make(24), make(3, 24), make(3, 1, 4)
    ours, theirs = ([a.clone() for a in arguments] for _ in range(2))
    got = torch.compile(layer, backend=backend, fullgraph=True)(*ours)
    torch.testing.assert_close(got, layer(*theirs))
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right)
    assert found == ["capyra.rope_", "capyra.glu", "capyra.rms_norm"]


@pytest.mark.parametrize("keep", [True, False])
def test_ops_declare_what_they_do(make: Callable[..., Tensor], keep: bool) -> None:
    """Schema, shapes without data and mutation, checked by torch itself."""
    checks = ("test_schema", "test_faketensor")
    residual = make(3, 8) if keep else None
    torch.library.opcheck(
        torch.ops.capyra.rms_norm.default,
        (make(3, 8), make(8), 1e-6, residual, keep),
        test_utils=checks,
    )
    up = make(3, 8) if keep else None
    torch.library.opcheck(torch.ops.capyra.glu.default, (make(3, 8), up), test_utils=checks)
    torch.library.opcheck(
        torch.ops.capyra.rope_.default,
        (make(3, 2, 8), make(3, 1, 8), make(3, 1, 4), make(3, 1, 4), keep),
        test_utils=checks,
    )
