"""Giving memory back to the system, and not only to the allocator."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Free what nobody refers to, and return free pages. glibc keeps them otherwise."""
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        # Not glibc: its allocator returns pages by itself, or never.
        return
    trim(0)
