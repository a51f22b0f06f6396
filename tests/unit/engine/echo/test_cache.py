from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from capyra.engine.echo.cache import BLOCK, PrefixCache


def blocks(*names: int) -> list[int]:
    return [name for name in names for _ in range(BLOCK)]


def test_whole_blocks_of_the_longest_common_prefix() -> None:
    cache = PrefixCache(100 * BLOCK)
    assert cache.match("", blocks(1, 2)) == 0
    assert cache.insert("", blocks(1, 2) + [9] * (BLOCK - 1)) == 2 * BLOCK
    assert cache.match("", blocks(1, 2, 3)) == 2 * BLOCK
    assert cache.match("", blocks(1, 3)) == BLOCK
    assert cache.match("", blocks(2)) == 0
    assert cache.match("", blocks(1)[:-1]) == 0
    assert cache.match("other", blocks(1, 2)) == 0
    cache.clear()
    assert cache.match("", blocks(1, 2)) == 0


def test_the_end_that_was_not_used_for_longest_goes_first() -> None:
    cache = PrefixCache(4 * BLOCK)
    cache.insert("", blocks(1, 2))
    cache.insert("", blocks(1, 3))
    assert cache.match("", blocks(1, 2)) == 2 * BLOCK
    cache.insert("", blocks(4, 5))
    assert cache.match("", blocks(1, 2)) == 2 * BLOCK
    assert cache.match("", blocks(1, 3)) == BLOCK
    assert cache.used == 1


def test_what_is_kept_stays_until_its_time() -> None:
    cache = PrefixCache(2 * BLOCK)
    cache.insert("", blocks(1, 2), now=0, kept_until=10)
    assert cache.insert("", blocks(3), now=5) == 0
    assert cache.match("", blocks(1, 2)) == 2 * BLOCK
    assert cache.insert("", blocks(3, 4, 5), now=10) == 2 * BLOCK


def test_a_cache_of_nothing() -> None:
    cache = PrefixCache(0)
    assert cache.insert("", blocks(1)) == 0
    assert cache.used == 0


PATHS = st.lists(st.integers(0, 2), min_size=1, max_size=5)


@given(st.lists(st.tuples(st.sampled_from(["", "b"]), PATHS), max_size=25), st.integers(1, 12))
def test_it_never_overflows_nor_tells_of_what_it_never_saw(
    visits: list[tuple[str, list[int]]], size: int
) -> None:
    cache = PrefixCache(size * BLOCK)
    seen: set[tuple[str, tuple[int, ...]]] = set()
    for salt, path in visits:
        matched = cache.match(salt, blocks(*path)) // BLOCK
        assert matched == 0 or (salt, tuple(path[:matched])) in seen
        inserted = cache.insert(salt, blocks(*path)) // BLOCK
        assert inserted >= min(matched, size)
        assert cache.match(salt, blocks(*path)) == inserted * BLOCK
        assert inserted == min(len(path), size), "nothing is kept: there is always room"
        assert len(cache) <= size
        seen |= {(salt, tuple(path[:depth])) for depth in range(1, len(path) + 1)}
