"""Blocks: enough by default, what fits if memory is given."""

from __future__ import annotations

import pytest

from capyra.engine.errors import ConfigError
from capyra.engine.native.cache import Cache
from capyra.engine.native.kv import CacheGroup
from capyra.engine.native.sizing import size_blocks

FULL = CacheGroup(None, (0,), 1000)
SLIDING = CacheGroup(64, (1, 2, 3), 3000)


def test_by_default_a_full_context_fits() -> None:
    groups = size_blocks([FULL, SLIDING], context=4096, running=4, chunk=128)
    assert groups[0].blocks == 260
    assert 4 * 12 < groups[1].blocks < 260
    assert Cache(groups, chunk=128).capacity >= 4096


@pytest.mark.parametrize("memory", [10_000, 123_456, 10**6, 10**8])
def test_memory_is_used_and_not_exceeded(memory: int) -> None:
    groups = size_blocks([FULL, SLIDING], context=4096, running=4, chunk=128, memory=memory)
    used = groups[0].blocks * 1000 + groups[1].blocks * 3000
    assert memory - 4000 < used <= memory


def test_blocks_are_those_of_full_attention() -> None:
    groups = size_blocks([FULL, SLIDING], context=4096, running=4, chunk=128, blocks=20)
    assert [group.blocks for group in groups] == [20, 20]


def test_windows_alone_need_little() -> None:
    (group,) = size_blocks([SLIDING], context=2**20, running=1, chunk=64, blocks=40)
    assert Cache([group], chunk=64).capacity > 2**20


def test_too_little_is_said() -> None:
    with pytest.raises(ConfigError, match=r"kv\.memory"):
        size_blocks([FULL], context=4096, running=4, chunk=128, memory=1999)
