"""A model that is a hash: what it writes into a block names all tokens before it, so reading a
block that was given to somebody else, or not copied, or passed too soon, is seen at once."""

from __future__ import annotations

import pytest

from capyra.engine.native.blocks import BLOCK_TOKENS, NO_BLOCK
from capyra.engine.native.plan import StepPlan
from capyra.engine.native.scheduler import Scheduler
from capyra.engine.native.sequence import Sequence, State

VOCABULARY = 3


def content(sequence: Sequence, position: int) -> int:
    """What K and V of this position are: a function of all tokens up to it."""
    images = tuple(span for span in sequence.spans if span.start <= position)
    return hash((sequence.root, tuple(sequence.tokens[: position + 1]), images))


def next_token(sequence: Sequence) -> int:
    return hash((tuple(sequence.tokens), sequence.index)) % VOCABULARY


class Simulator:
    """Executes plans and checks them."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.blocks: list[dict[int, list[int]]] = [{} for _ in scheduler.cache.groups]

    def step(self) -> StepPlan:
        plan = self.scheduler.plan()
        self._check_budget(plan)
        for copy in plan.copies:
            store = self.blocks[copy.group]
            store[copy.target] = list(store[copy.source])
        for chunk in plan.chunks:
            self._write(chunk.sequence, chunk.start, chunk.end)
        for chunk in plan.chunks:
            self._read(chunk.sequence, chunk.start, chunk.end)
        for chunk in plan.chunks:
            last = chunk.last
            self.scheduler.computed(chunk)
            if last:
                chunk.sequence.tokens.append(next_token(chunk.sequence))
        self.check_blocks()
        return plan

    def _check_budget(self, plan: StepPlan) -> None:
        budget = self.scheduler.budget
        assert plan.tokens <= budget.tokens
        assert len(self.scheduler.running) <= budget.running
        assert len({id(chunk.sequence) for chunk in plan.chunks}) == len(plan.chunks)
        for chunk in plan.chunks:
            assert chunk.count > 0
            assert chunk.sequence.state in (State.RUNNING, State.WAITING)
            for position in (chunk.start, chunk.end):
                inside = [span for span in chunk.sequence.spans if span.start < position < span.end]
                assert not inside, "an image was cut"

    def _write(self, sequence: Sequence, start: int, end: int) -> None:
        for group, pool in enumerate(self.scheduler.cache.pools):
            for position in range(start, end):
                block = sequence.tables[group][position // BLOCK_TOKENS]
                assert block != NO_BLOCK
                assert pool.references(block) == 1, "written while others hold it"
                store = self.blocks[group].setdefault(block, [0] * BLOCK_TOKENS)
                store[position % BLOCK_TOKENS] = content(sequence, position)

    def _read(self, sequence: Sequence, start: int, end: int) -> None:
        for group, (window, store) in enumerate(
            (group.window, self.blocks[number])
            for number, group in enumerate(self.scheduler.cache.groups)
        ):
            first = 0 if window is None else max(0, start - window + 1)
            for position in range(first, end):
                block = sequence.tables[group][position // BLOCK_TOKENS]
                assert block != NO_BLOCK, "passed too soon"
                assert store[block][position % BLOCK_TOKENS] == content(sequence, position)

    def check_blocks(self) -> None:
        """Every block is held exactly as often as tables and pins name it."""
        scheduler = self.scheduler
        everyone = [*scheduler.running, *scheduler.waiting, *scheduler.paused]
        for group, pool in enumerate(scheduler.cache.pools):
            counts = [0] * pool.count
            for sequence in everyone:
                for block in sequence.tables[group] if sequence.tables else ():
                    if block != NO_BLOCK:
                        counts[block] += 1
            for pin in scheduler.cache.pins:
                for block in pin.tables[group]:
                    if block != NO_BLOCK:
                        counts[block] += 1
            assert [pool.references(block) for block in range(pool.count)] == counts
            assert pool.available == counts.count(0)


@pytest.fixture(scope="session")
def simulator() -> type[Simulator]:
    return Simulator
