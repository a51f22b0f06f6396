"""Vectors of texts from their byte n-grams, hashed: texts that share pieces lie near."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GRAMS = (2, 3, 4, 5)
_PRIME = np.uint64(0x9E3779B97F4A7C15)


def embed(data: bytes, size: int, *, normalize: bool = True) -> tuple[float, ...]:
    """Letters of either case count as the same; nothing embeds as the first axis."""
    codes = np.frombuffer(b" " + data.lower() + b" ", np.uint8).astype(np.uint64)
    vector = np.zeros(size)
    for length in _GRAMS:
        hashes = _hashes(codes, length)
        # One bit decides the sign, so that collisions cancel instead of adding up.
        signs = np.where(hashes >> np.uint64(63), 1.0, -1.0)
        vector += np.bincount((hashes % np.uint64(size)).astype(np.intp), signs, size)
    norm = float(np.linalg.norm(vector))
    if norm == 0:
        vector[0] = norm = 1.0
    return tuple((vector / norm if normalize else vector).tolist())


def _hashes(codes: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    places = max(len(codes) - length + 1, 0)
    hashes = np.full(places, length, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(length):
            hashes = (hashes ^ codes[offset : offset + places]) * _PRIME
            hashes ^= hashes >> np.uint64(29)
        return hashes * _PRIME
