"""What counts as a reusable prefix."""

from __future__ import annotations

import pytest

from capyra.engine.native.blocks import BLOCK_TOKENS, NO_BLOCK
from capyra.engine.native.prefix import PrefixIndex, Span, block_key, first_needed, root_key

TOKENS = list(range(BLOCK_TOKENS))


def path(length: int, root: bytes = b"root") -> list[bytes]:
    keys = [block_key(root, TOKENS, 0, ())]
    while len(keys) < length:
        keys.append(block_key(keys[-1], TOKENS, len(keys) * BLOCK_TOKENS, ()))
    return keys


def test_keys_tell_apart_what_must_not_meet() -> None:
    image = Span(4, 8, b"one image")
    other = Span(4, 8, b"another")
    moved = Span(5, 8, b"one image")
    root = root_key("model", "", "salt")
    keys = {
        block_key(root, TOKENS, 0, ()),
        block_key(root_key("model", "salt", ""), TOKENS, 0, ()),
        block_key(root_key("models", "", "alt"), TOKENS, 0, ()),
        block_key(root, TOKENS[::-1], 0, ()),
        block_key(root, TOKENS, 0, (image,)),
        block_key(root, TOKENS, 0, (other,)),
        block_key(root, TOKENS, 0, (moved,)),
        block_key(block_key(root, TOKENS, 0, ()), TOKENS, BLOCK_TOKENS, ()),
    }
    assert len(keys) == 8
    assert block_key(root, TOKENS, 0, (Span(16, 4, b"later"),)) == block_key(root, TOKENS, 0, ())


def test_every_block_of_a_long_image_depends_on_all_of_it() -> None:
    first = block_key(b"root", TOKENS, 16, (Span(10, 40, b"one"),))
    second = block_key(b"root", TOKENS, 16, (Span(10, 40, b"two"),))
    assert first != second


def test_full_attention_needs_every_block() -> None:
    index = PrefixIndex([None])
    keys = path(4)
    for place in (0, 1, 3):
        assert index.insert(0, keys[place], place + 10)
    assert index.match(keys).tables == ((10, 11),)
    index.forget(0, 10)
    assert index.match(keys).length == 0


def test_a_key_has_one_block() -> None:
    index = PrefixIndex([None])
    assert index.insert(0, b"key", 1)
    assert not index.insert(0, b"key", 2)
    index.forget(0, 1)
    assert len(index) == 0
    assert index.insert(0, b"key", 2)


@pytest.mark.parametrize(
    ("window", "needed"), [(1, 0), (2, 1), (17, 1), (18, 2), (33, 2), (34, 3), (1000, 8)]
)
def test_a_sliding_group_needs_only_its_window(window: int, needed: int) -> None:
    keys = path(8)
    full = PrefixIndex([None, window])
    for place, key in enumerate(keys):
        full.insert(0, key, place)
        if place >= 8 - needed:
            full.insert(1, key, place + 100)
    hit = full.match(keys)
    assert hit.length == 8
    assert hit.tables[1] == (NO_BLOCK,) * (8 - needed) + tuple(range(108 - needed, 108))
    if needed:
        full.forget(1, 108 - needed)
        shorter = full.match(keys)
        assert shorter.length == 0


def test_a_shorter_prefix_is_found_where_its_window_is_left() -> None:
    keys = path(6)
    index = PrefixIndex([None, 20])
    for place, key in enumerate(keys):
        index.insert(0, key, place)
    for place in (1, 2, 5):
        index.insert(1, keys[place], place)
    hit = index.match(keys)
    assert hit.length == 3
    assert hit.tables == ((0, 1, 2), (NO_BLOCK, 1, 2))


def test_windows_alone_do_not_need_the_beginning() -> None:
    keys = path(5)
    index = PrefixIndex([16])
    index.insert(0, keys[4], 4)
    assert index.match(keys).tables == ((NO_BLOCK,) * 4 + (4,),)


def test_first_needed_is_the_block_of_the_oldest_key() -> None:
    assert first_needed(100, None) == 0
    assert first_needed(10, 64) == 0
    assert first_needed(47, 32) == 1
    assert first_needed(46, 32) == 0
