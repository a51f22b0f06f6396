"""What a process really holds, and what a model is likely to."""

from __future__ import annotations

import os
from pathlib import Path

GUESS = 2**30
"""The weights of a model that does not lie here."""
WEIGHTS = frozenset({".safetensors", ".gguf", ".bin", ".pt"})


def resident_bytes() -> int:
    """This process's resident memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def weight_bytes(model: Path | None) -> int:
    """What a model's weights take, before a first load has measured it; nothing for engines
    without a model."""
    if model is None:
        return 0
    try:
        sizes = [each.stat().st_size for each in model.iterdir() if each.suffix in WEIGHTS]
    except OSError:
        return GUESS
    return sum(sizes) or GUESS
