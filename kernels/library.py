"""The C library: where it is, what it offers on this machine, and its functions through ctypes.

The declarations repeat `include/capyra_kernels.h`, which says what each function does; a library
built from another version of that header is refused. CAPYRA_KERNELS_ISA names another
instruction set than the best one, for tests, or `torch` for none.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.resources
import os
from collections.abc import Callable
from ctypes import c_char_p, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import NamedTuple

ABI = 2
NAME = "libcapyra_kernels.so"
CHOICE = "CAPYRA_KERNELS_ISA"

_RMS_NORM = ctypes.CFUNCTYPE(None, *[c_void_p] * 4, *[c_int64] * 5, c_float, c_float, c_int32)
_GLU = ctypes.CFUNCTYPE(None, *[c_void_p] * 3, *[c_int64] * 4, c_int32, c_int32)
_ROPE = ctypes.CFUNCTYPE(None, *[c_void_p] * 4, *[c_int64] * 9, c_int32, c_int32)
_LINEAR = ctypes.CFUNCTYPE(None, *[c_void_p] * 4, *[c_int64] * 4, c_int32)
_ATTEND = ctypes.CFUNCTYPE(None, *[c_void_p] * 6, *[c_int64] * 6, c_float, c_float, c_int32)

SILU, GELU_TANH = 0, 1
BLOCK, PASS = 16, 4096


class KernelsUnavailable(Exception):
    """There are no compiled kernels to use; the message says why and what to do."""


class Kernels(NamedTuple):
    """One instruction set's functions, as in the header's table and in its order."""

    isa: str
    rms_norm_f32: Callable[..., None]
    rms_norm_bf16: Callable[..., None]
    glu_f32: Callable[..., None]
    glu_bf16: Callable[..., None]
    rope_f32: Callable[..., None]
    rope_bf16: Callable[..., None]
    linear_bf16: Callable[..., None]
    attend_f32: Callable[..., None]
    attend_bf16: Callable[..., None]


class _Table(ctypes.Structure):
    _fields_ = [
        ("isa", c_char_p),
        ("rms_norm_f32", _RMS_NORM),
        ("rms_norm_bf16", _RMS_NORM),
        ("glu_f32", _GLU),
        ("glu_bf16", _GLU),
        ("rope_f32", _ROPE),
        ("rope_bf16", _ROPE),
        ("linear_bf16", _LINEAR),
        ("attend_f32", _ATTEND),
        ("attend_bf16", _ATTEND),
    ]


def path() -> Path:
    """Where the installed library is. Beside this file, or, in an editable install, in the
    install tree that the build filled."""
    found = importlib.resources.files("capyra.kernels").joinpath(NAME)
    if not found.is_file():
        raise KernelsUnavailable(
            f"{NAME} is not installed: it was built without a C++ compiler, or not at all. "
            "Install g++ 12 or clang 15 and install capyra again."
        )
    return Path(str(found))


def load(file: Path) -> dict[str, Kernels]:
    """The library's kernels by instruction set, those that this machine can run, best first."""
    # torch first: it brings the libgomp that the library then shares. The other way round there
    # would be two pools of threads.
    import torch  # noqa: F401

    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        raise KernelsUnavailable(f"{file} does not load: {error}.") from error
    abi = library.capyra_kernels_abi()
    if abi != ABI:
        raise KernelsUnavailable(
            f"{file} has version {abi} of the kernels' interface and this code needs {ABI}: "
            "install capyra again to rebuild it."
        )
    library.capyra_kernels_at.restype = ctypes.POINTER(_Table)
    found: dict[str, Kernels] = {}
    while table := library.capyra_kernels_at(len(found)):
        values = [getattr(table.contents, name) for name, *_ in _Table._fields_]
        found[values[0].decode()] = Kernels(values[0].decode(), *values[1:])
    return found


def choose(kernels: dict[str, Kernels], choice: str | None) -> Kernels:
    """The kernels asked for, else the best. Scalar ones only when asked for: torch is faster."""
    if choice == "torch":
        raise KernelsUnavailable(f"{CHOICE} is set to torch.")
    if choice:
        if choice not in kernels:
            raise KernelsUnavailable(
                f"{CHOICE} asks for {choice!r}, which this machine cannot run: it has "
                f"{', '.join(kernels)}."
            )
        return kernels[choice]
    best = next(iter(kernels.values()))
    if best.isa == "scalar":
        raise KernelsUnavailable("This machine has none of the kernels' instruction sets.")
    return best


@functools.cache
def _chosen() -> Kernels | KernelsUnavailable:
    try:
        return choose(load(path()), os.environ.get(CHOICE))
    except KernelsUnavailable as why:
        return why


def kernels() -> Kernels:
    """The kernels that this process uses. Chosen at the first call and kept."""
    chosen = _chosen()
    if isinstance(chosen, KernelsUnavailable):
        raise chosen
    return chosen


def isa() -> str | None:
    chosen = _chosen()
    return chosen.isa if isinstance(chosen, Kernels) else None


def describe() -> str:
    chosen = _chosen()
    if isinstance(chosen, Kernels):
        return f"compiled kernels, {chosen.isa}"
    return f"torch in place of compiled kernels: {chosen}"
