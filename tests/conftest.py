"""Real servers, for the tests that need one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from hypothesis import settings

from serving import Server, start

# What lands is decided by the same cases every time; `make soak` looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", print_blob=True)

EXPERTS = """
experts:
  alpha:
    engine: echo
    keep_alive: -1
  beta:
    engine: echo
    keep_alive: -1
    queue: {running: 64}
    options: {tokens_per_second: 40}
  slow:
    engine: echo
    keep_alive: 0
    options: {load_seconds: 1.5}
  broken:
    engine: echo
    options: {fail_load: always}
  tiny:
    engine: echo
    keep_alive: -1
    queue: {running: 1, waiting: 1}
    options: {tokens_per_second: 20}
"""


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for all tests that leave it as they found it."""
    yield from _served()


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that the tests of one file may hurt."""
    yield from _served()


def _served() -> Iterator[Server]:
    running = start(EXPERTS)
    yield running
    left = running.stop()
    shutil.rmtree(running.directory, ignore_errors=True)
    assert not left, left
