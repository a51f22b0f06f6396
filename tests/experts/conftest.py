"""The demo experts as they stand in the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

DEMO = Path(__file__).parents[2] / "experts" / "demo"
STANDING = sorted(path.parent for path in DEMO.glob("*/config.json"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=STANDING, ids=lambda path: path.name)
def expert(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path
