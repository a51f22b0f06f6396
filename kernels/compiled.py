"""The compiled kernels on tensors, and as `torch.ops.capyra.*` for `torch.compile`.

Each function takes what its kernel takes (CPU, float32 or bfloat16, rows dense in themselves) and
hands everything else to `fallback`. Called eagerly it goes straight to the kernel, which saves
the 2 µs that the dispatcher costs; while tracing it leaves one op in the graph. For inference:
no gradient passes. Importing this raises KernelsUnavailable where there are none.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.compiler import is_compiling

from capyra.kernels import fallback, library
from capyra.kernels.fallback import Activation

_kernels = library.kernels()
_rms_norm_kernels = {torch.float32: _kernels.rms_norm_f32, torch.bfloat16: _kernels.rms_norm_bf16}
_glu_kernels = {torch.float32: _kernels.glu_f32, torch.bfloat16: _kernels.glu_bf16}
_rope_kernels = {torch.float32: _kernels.rope_f32, torch.bfloat16: _kernels.rope_bf16}
_attend_kernels = {torch.float32: _kernels.attend_f32, torch.bfloat16: _kernels.attend_bf16}
_SMALL_GLU = 8192
"""Elements below which torch's two calls cost less than checking and making ours (measured: at
5632 ours takes 1.1 times as long, at 11264 0.9)."""
_activations = {"silu": library.SILU, "gelu_tanh": library.GELU_TANH}


def rms_norm(
    x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None, add_one: bool = False
) -> Tensor:
    if is_compiling():
        y: Tensor = torch.ops.capyra.rms_norm(x, weight, eps, residual, add_one)
        return y
    return _rms_norm(x, weight, eps, residual, add_one)


def glu(gate: Tensor, up: Tensor | None = None, activation: Activation = "silu") -> Tensor:
    if is_compiling():
        y: Tensor = torch.ops.capyra.glu(gate, up, activation)
        return y
    if up is not None and gate.numel() < _SMALL_GLU:
        return fallback.glu(gate, up, activation)
    return _glu(gate, up, activation)


def rope_(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> None:
    if is_compiling():
        torch.ops.capyra.rope_(q, k, cos, sin, interleaved)
    else:
        _rope_(q, k, cos, sin, interleaved)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if is_compiling():
        y: Tensor = torch.ops.capyra.linear(x, weight, bias)
        return y
    return _linear(x, weight, bias)


def attend(
    q: Tensor, k: Tensor, v: Tensor, tables: Tensor, seen: Tensor, scale: float, softcap: float = 0
) -> Tensor:
    if is_compiling():
        y: Tensor = torch.ops.capyra.attend(q, k, v, tables, seen, scale, softcap)
        return y
    return _attend(q, k, v, tables, seen, scale, softcap)


def _rms_norm(
    x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None, add_one: bool = False
) -> Tensor:
    dtype = x.dtype
    kernel = _rms_norm_kernels.get(dtype)
    rows = _rows(x)
    if (
        kernel is None
        or rows is None
        or not _dense(weight, dtype)
        or weight.numel() != rows[2]
        or (residual is not None and not (_dense(residual, dtype) and residual.shape == x.shape))
    ):
        return fallback.rms_norm(x, weight, eps, residual, add_one)
    y = torch.empty_like(x) if x.is_contiguous() else torch.empty(x.shape, dtype=dtype)
    sums = None if residual is None else residual.data_ptr()
    kernel(
        y.data_ptr(),
        x.data_ptr(),
        sums,
        weight.data_ptr(),
        *rows,
        eps,
        1.0 if add_one else 0.0,
        torch.get_num_threads(),
    )
    return y


def _glu(gate: Tensor, up: Tensor | None = None, activation: Activation = "silu") -> Tensor:
    if up is None:
        gate, up = gate.chunk(2, -1)
    dtype, shape, stride = gate.dtype, gate.shape, gate.stride()
    kernel = _glu_kernels.get(dtype)
    code = _activations.get(activation)
    if (
        kernel is None
        or code is None
        or len(shape) != 2
        or stride[1] != 1
        or up.shape != shape
        or up.stride() != stride
        or up.dtype is not dtype
        or not (gate.is_cpu and up.is_cpu)
    ):
        return fallback.glu(gate, up, activation)
    y = torch.empty_like(gate) if gate.is_contiguous() else torch.empty(shape, dtype=dtype)
    kernel(
        y.data_ptr(),
        gate.data_ptr(),
        up.data_ptr(),
        *shape,
        stride[0],
        stride[0],
        code,
        torch.get_num_threads(),
    )
    return y


def _rope_(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> None:
    kernel = _rope_kernels.get(q.dtype)
    if kernel is None or not _rotates(q, k, cos, sin):
        fallback.rope_(q, k, cos, sin, interleaved)
        return
    q_token, q_head, _ = q.stride()
    k_token, k_head, _ = k.stride()
    kernel(
        q.data_ptr(),
        k.data_ptr(),
        cos.data_ptr(),
        sin.data_ptr(),
        q.shape[0],
        q.shape[1],
        k.shape[1],
        cos.shape[2],
        q_token,
        q_head,
        k_token,
        k_head,
        cos.stride(0),
        interleaved,
        torch.get_num_threads(),
    )


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    inputs = x.shape[-1]
    rows = _rows(x)
    if (
        rows is None
        or rows[1] != 1
        or x.dtype is not torch.bfloat16
        or not _dense(weight, torch.bfloat16)
        or weight.dim() != 2
        or weight.shape[1] != inputs
        or (bias is not None and not (_dense(bias, torch.bfloat16) and len(bias) == len(weight)))
    ):
        return fallback.linear(x, weight, bias)
    outputs = weight.shape[0]
    y = torch.empty((*x.shape[:-1], outputs), dtype=torch.bfloat16)
    _kernels.linear_bf16(
        y.data_ptr(),
        x.data_ptr(),
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        rows[0],
        inputs,
        outputs,
        rows[3],
        torch.get_num_threads(),
    )
    return y


def _attend(
    q: Tensor, k: Tensor, v: Tensor, tables: Tensor, seen: Tensor, scale: float, softcap: float = 0
) -> Tensor:
    kernel = _attend_kernels.get(q.dtype)
    if kernel is None or not _attends(q, k, v, tables, seen):
        return fallback.attend(q, k, v, tables, seen, scale, softcap)
    rows, heads, size = q.shape
    y = torch.empty(q.shape, dtype=q.dtype)
    kernel(
        y.data_ptr(),
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        tables.data_ptr(),
        seen.data_ptr(),
        rows,
        tables.shape[1],
        heads,
        k.shape[2],
        size,
        q.stride(0),
        scale,
        softcap,
        torch.get_num_threads(),
    )
    return y


def _attends(q: Tensor, k: Tensor, v: Tensor, tables: Tensor, seen: Tensor) -> bool:
    """Whether the kernel takes these: it checks nothing itself."""
    if q.dim() != 3 or k.dim() != 4:
        return False
    rows, heads, size = q.shape
    kv_heads = k.shape[2]
    return (
        q.stride()[1:] == (size, 1)
        and q.is_cpu
        and _dense(k, q.dtype)
        and _dense(v, q.dtype)
        and k.shape == v.shape
        and k.shape[1] == library.BLOCK
        and k.shape[3] == size
        and heads % kv_heads == 0
        and heads // kv_heads * size <= library.PASS
        and tables.shape[0] == rows
        and seen.shape == (rows, 2)
        and _dense(tables, torch.int64)
        and _dense(seen, torch.int64)
    )


def _rotates(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """Whether the kernel takes these: it checks nothing itself."""
    if q.dim() != 3 or k.dim() != 3 or cos.dim() != 3:
        return False
    tokens, _, size = q.shape
    return (
        cos.shape[:2] == (tokens, 1)
        and k.shape[0] == tokens
        and k.shape[2] == size >= 2 * cos.shape[2]
        and q.stride(2) == k.stride(2) == cos.stride(2) == 1
        and sin.shape == cos.shape
        and sin.stride() == cos.stride()
        and k.dtype is q.dtype
        and sin.dtype is cos.dtype is torch.float32
        and q.is_cpu
        and cos.is_cpu
    )


def _dense(tensor: Tensor, dtype: torch.dtype) -> bool:
    return tensor.dtype is dtype and tensor.is_contiguous() and tensor.is_cpu


def _rows(x: Tensor) -> tuple[int, int, int, int, int] | None:
    """Outer and inner count, size, outer and inner stride of the rows of x, where they are
    regular and in memory that the processor can read."""
    size = x.shape[-1]
    if not x.is_cpu or not size:
        return None
    if x.is_contiguous():
        return x.numel() // size, 1, size, size, 0
    if x.stride(-1) != 1:
        return None
    if x.dim() == 2:
        return x.shape[0], 1, size, x.stride(0), 0
    if x.dim() == 3:
        return x.shape[0], x.shape[1], size, x.stride(0), x.stride(1)
    return None


def _meta_rms_norm(x: Tensor, *_: object) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _meta_glu(gate: Tensor, up: Tensor | None = None, *_: object) -> Tensor:
    size = gate.shape[-1] // 2 if up is None else gate.shape[-1]
    return torch.empty((*gate.shape[:-1], size), dtype=gate.dtype, device=gate.device)


def _meta_rope_(*_: object) -> None:
    return None


def _meta_linear(x: Tensor, weight: Tensor, *_: object) -> Tensor:
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device=x.device)


def _meta_attend(q: Tensor, *_: object) -> Tensor:
    return torch.empty(q.shape, dtype=q.dtype, device=q.device)


_ops: Any = cast("Any", torch.library.Library)("capyra", "DEF")  # torch does not annotate it
for _schema, _cpu, _other, _meta in (
    (
        "rms_norm(Tensor x, Tensor weight, float eps, Tensor(a!)? residual=None,"
        " bool add_one=False) -> Tensor",
        _rms_norm,
        fallback.rms_norm,
        _meta_rms_norm,
    ),
    (
        "glu(Tensor gate, Tensor? up=None, str activation='silu') -> Tensor",
        _glu,
        fallback.glu,
        _meta_glu,
    ),
    (
        "rope_(Tensor(a!) q, Tensor(b!) k, Tensor cos, Tensor sin, bool interleaved=False) -> ()",
        _rope_,
        fallback.rope_,
        _meta_rope_,
    ),
    (
        "linear(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor",
        _linear,
        fallback.linear,
        _meta_linear,
    ),
    (
        "attend(Tensor q, Tensor k, Tensor v, Tensor tables, Tensor seen, float scale,"
        " float softcap=0.) -> Tensor",
        _attend,
        fallback.attend,
        _meta_attend,
    ),
):
    _name = _ops.define(_schema)
    _ops.impl(_name, _cpu, "CPU")
    _ops.impl(_name, _other, "CompositeExplicitAutograd")
    _ops.impl(_name, _meta, "Meta")
