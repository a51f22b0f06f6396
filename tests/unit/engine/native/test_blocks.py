"""The block pool against a model that is nothing but sets."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from capyra.engine.native.blocks import BLOCK_TOKENS, BlockPool, blocks_for


def test_blocks_for_rounds_up() -> None:
    assert [blocks_for(tokens) for tokens in (0, 1, BLOCK_TOKENS, BLOCK_TOKENS + 1)] == [0, 1, 1, 2]


def test_the_block_idle_for_longest_is_forgotten_first() -> None:
    forgotten: list[int] = []
    pool = BlockPool(3, forgotten.append)
    blocks = [pool.allocate() for _ in range(3)]
    for block in blocks:
        pool.remember(block)
    for block in reversed(blocks):
        pool.release(block)
    pool.retain(blocks[2])
    pool.release(blocks[2])
    assert [pool.allocate() for _ in range(3)] == [blocks[1], blocks[0], blocks[2]]
    assert forgotten == [blocks[1], blocks[0], blocks[2]]


def test_what_was_never_remembered_is_given_before_what_was() -> None:
    forgotten: list[int] = []
    pool = BlockPool(2, forgotten.append)
    kept, lost = pool.allocate(), pool.allocate()
    pool.remember(kept)
    pool.release(kept)
    pool.release(lost)
    assert pool.allocate() == lost
    assert not forgotten


class PoolMachine(RuleBasedStateMachine):
    """Random use; at every moment each block is held, idle or free, and in one of them only."""

    @initialize(count=st.integers(1, 8))
    def begin(self, count: int) -> None:
        self.forgotten: list[int] = []
        self.pool = BlockPool(count, self.forgotten.append)
        self.references: dict[int, int] = {}
        self.remembered: set[int] = set()
        self.count = count

    @precondition(lambda self: self.pool.available)
    @rule()
    def allocate(self) -> None:
        block = self.pool.allocate()
        assert block not in self.references, "given twice"
        assert (self.forgotten == [block]) == (block in self.remembered)
        self.remembered.discard(block)
        self.forgotten.clear()
        self.references[block] = 1

    @precondition(lambda self: self.references)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.references)))
        self.pool.release(block)
        self.references[block] -= 1
        if not self.references[block]:
            del self.references[block]

    @rule(data=st.data())
    def retain(self, data: st.DataObject) -> None:
        known = sorted(self.references.keys() | self.remembered)
        if known:
            block = data.draw(st.sampled_from(known))
            self.pool.retain(block)
            self.references[block] = self.references.get(block, 0) + 1

    @precondition(lambda self: self.references)
    @rule(data=st.data())
    def remember(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.references)))
        self.pool.remember(block)
        self.remembered.add(block)

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            assert self.pool.held == len(self.references)
            assert self.pool.available == self.count - len(self.references)
            assert self.pool.idle == len(self.remembered - self.references.keys())


TestPool = PoolMachine.TestCase
