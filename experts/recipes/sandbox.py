"""Runs Python that a model wrote, where it can do no harm: in a process of its own, bounded in
time, memory, files and processes, that sees no network and an empty disk.

That takes user namespaces, which some containers refuse. Then the bounds alone remain, and
`isolation()` says so.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from typing import Literal

from experts.recipes import confined

SECONDS = 10.0
"""By the wall clock; processor time is bounded in `confined`."""
_MOST_CODE = 16 * 1024

Isolation = Literal["namespaces", "bounds"]


@cache
def isolation() -> Isolation:
    return "namespaces" if _run("", "", "namespaces") else "bounds"


def passes(code: str, tests: str) -> bool:
    """Whether this code runs, and then the tests, to their end."""
    if len(code) + len(tests) > _MOST_CODE:
        return False
    return _run(code, tests, isolation())


def _run(code: str, tests: str, how: Isolation) -> bool:
    with tempfile.TemporaryDirectory() as empty:
        try:
            ended = subprocess.run(
                (sys.executable, "-I", "-S", "-B", confined.__file__, how, empty),
                input=f"{code}\0{tests}".encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS,
                cwd=empty,
                env={},
                check=False,
            )
        except (subprocess.TimeoutExpired, OSError):
            return False
    return ended.returncode == confined.PASSED
