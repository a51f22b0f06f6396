"""Compiled kernels behind a C ABI, and their Python face. The engine runs without them.

`library` finds and loads the C library, `ops` is what the model code calls (compiled where it
can be, else `fallback`, the same in plain torch). Importing this package loads none of them.
"""

from __future__ import annotations


def isa() -> str | None:
    """The instruction set whose kernels are in use; None where torch does their work."""
    from capyra.kernels import library

    return library.isa()


def describe() -> str:
    """One sentence for logs and reports: which kernels are in use, or why none are."""
    from capyra.kernels import library

    return library.describe()
