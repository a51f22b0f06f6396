"""What every benchmark shares: its arguments, its figures, alternation, the JSON it leaves.

A figure is a ratio or has its unit in its name. Two things that are compared run alternately,
A B A B, because the machine is shared: the ratio of each pair is taken, then the median.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Results:
    """Figures, and the raw numbers that they came from."""

    figures: dict[str, float] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)

    def ratio(self, name: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
        """The median of the pairs' ratios; the pairs and their spread go to `raw`."""
        pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
        self.figures[name] = statistics.median(pairs)
        self.raw[name] = {
            "ours": list(ours),
            "theirs": list(theirs),
            "pairs": pairs,
            "lowest": min(pairs),
            "highest": max(pairs),
        }

    def median(self, name: str, values: Sequence[float]) -> None:
        self.figures[name] = statistics.median(values)
        self.raw[name] = list(values)


class PeerMissing(Exception):
    """A benchmark needs a peer that `make peers` has not installed."""


def alternate(rounds: int, *sides: Callable[[], T]) -> list[list[T]]:
    """Each side's values over so many rounds, the sides taking turns."""
    values: list[list[T]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, found in zip(sides, values, strict=True):
            found.append(side())
    return values


def machine() -> dict[str, Any]:
    """Where the figures were measured, as far as it matters for them."""
    cpu = platform.processor() or platform.machine()
    flags: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            cpu = value.strip()
        if key.strip() in {"flags", "Features"}:
            flags = set(value.split())
    wanted = (
        "avx2",
        "avx512f",
        "avx512_vnni",
        "avx512_bf16",
        "amx_bf16",
        "asimddp",
        "i8mm",
        "sve2",
    )
    return {
        "cpu": cpu,
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "features": [flag for flag in wanted if flag in flags],
        "python": platform.python_version(),
    }


def parser(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="end within five minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


def run(measure: Callable[[bool], Results]) -> None:
    """A benchmark's main: parse, measure, print, write."""
    arguments = parser(sys.modules[measure.__module__].__doc__).parse_args()
    report(lambda: measure(arguments.quick), arguments.json)


def report(measure: Callable[[], Results], file: Path | None) -> None:
    """Measure, print, write."""
    try:
        results = measure()
    except PeerMissing as error:
        sys.exit(f"{error}; run `make peers` first")
    width = max(map(len, results.figures), default=0)
    for name, value in results.figures.items():
        found = results.raw.get(name)
        spread = (
            f"   {found['lowest']:.3g} to {found['highest']:.3g}" if isinstance(found, dict) else ""
        )
        print(f"{name:<{width}}  {value:8.3g}{spread}")
    if file:
        content = {"figures": results.figures, "machine": machine(), "raw": results.raw}
        file.write_text(json.dumps(content, indent=1) + "\n")
