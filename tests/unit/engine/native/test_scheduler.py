"""The scheduler over random lives of random requests, and its rules one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capyra.engine.native.blocks import BLOCK_TOKENS
from capyra.engine.native.cache import Cache, Group
from capyra.engine.native.plan import Budget
from capyra.engine.native.prefix import Span, root_key
from capyra.engine.native.scheduler import Scheduler
from capyra.engine.native.sequence import Sequence, State


def make(
    *,
    blocks: int = 64,
    windows: tuple[int | None, ...] = (None,),
    reuse: bool = True,
    span: int = 0,
    **budget: int,
) -> Scheduler:
    bounds = Budget(**{"tokens": 40, "chunk": 24, "running": 4, **budget})
    cache = Cache([Group(blocks, window) for window in windows], chunk=bounds.tokens, reuse=reuse)
    return Scheduler(cache, bounds, span=span)


def sequence(name: str, tokens: list[int], **facts: Any) -> Sequence:
    tenant = facts.get("tenant", "")
    return Sequence(request=name, root=root_key("model", "", tenant), tokens=list(tokens), **facts)


@dataclass
class Life:
    """A request as the test sees it: when it comes, what it wants, what befalls it."""

    comes: int
    prompt: list[int]
    output: int
    answers: int = 1
    priority: int = 0
    tenant: str = ""
    background: bool = False
    image: tuple[int, int] | None = None
    logits_from: int | None = None
    abort_after: int | None = None
    pause: tuple[int, int] | None = None
    sequences: list[Sequence] = field(default_factory=list)
    steps: int = 0

    def begin(self, number: int) -> Sequence:
        spans: tuple[Span, ...] = ()
        if self.image is not None and self.image[0] + self.image[1] <= len(self.prompt):
            spans = (Span(*self.image, b"image"),)
        first = sequence(
            f"r{number}",
            self.prompt,
            priority=self.priority,
            tenant=self.tenant,
            background=self.background,
            spans=spans,
            logits_from=self.logits_from,
        )
        self.sequences = [first]
        return first

    @property
    def open(self) -> bool:
        return not self.sequences or any(one.state is not State.FINISHED for one in self.sequences)


prompts = st.tuples(st.sampled_from([0, 1, 16, 32, 40]), st.integers(1, 50), st.integers(0, 2)).map(
    lambda made: [7] * made[0] + [made[2]] * made[1]
)
lives = st.builds(
    Life,
    comes=st.integers(0, 30),
    prompt=prompts,
    output=st.integers(1, 40),
    answers=st.sampled_from([1, 1, 1, 2, 4]),
    priority=st.sampled_from([0, 0, 0, 1, -3]),
    tenant=st.sampled_from(["", "", "other"]),
    background=st.sampled_from([False, False, False, True]),
    image=st.sampled_from([None, None, (3, 20), (10, 30)]),
    logits_from=st.sampled_from([None, None, None, 0, 5]),
    abort_after=st.one_of(st.none(), st.none(), st.integers(0, 20)),
    pause=st.one_of(st.none(), st.none(), st.tuples(st.integers(0, 10), st.integers(1, 20))),
)
machines = st.fixed_dictionaries(
    {
        "windows": st.sampled_from([(None,), (None, 20), (20,), (5, None, 40)]),
        "blocks": st.sampled_from([9, 12, 20, 64]),
        "reuse": st.booleans(),
        "running": st.integers(1, 6),
        "chunk": st.integers(1, 32),
        "scored": st.sampled_from([4, 64]),
        "decode_steps_between_admissions": st.integers(0, 3),
        "patience": st.sampled_from([5, 10**9]),
    }
)


@given(machine=machines, plans=st.lists(lives, min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_random_lives(machine: dict[str, Any], plans: list[Life], simulator: type[Any]) -> None:
    """Everything that is not aborted ends, with the tokens that it would have had alone; every
    step keeps its budget; no block is lost, shared wrongly, or given away too soon."""
    scheduler = make(span=30, tokens=40, **machine)
    world = simulator(scheduler)
    for step in range(4000):
        for number, life in enumerate(plans):
            if life.comes == step:
                scheduler.add(life.begin(number))
            elif life.sequences and life.open:
                befall(scheduler, life)
        world.step()
        for life in plans:
            for one in life.sequences:
                answer(scheduler, life, one)
        if step > 30 and not any(life.open for life in plans):
            break
    else:
        raise AssertionError("somebody starved")
    assert not [*scheduler.running, *scheduler.waiting, *scheduler.paused]
    while scheduler.cache.yield_pin():
        pass
    world.check_blocks()
    assert scheduler.cache.used == 0
    for life in plans:
        assert len(life.sequences) == life.answers or life.abort_after is not None
        for one in life.sequences:
            assert life.abort_after is not None or one.tokens == alone(life, one.index)


def befall(scheduler: Scheduler, life: Life) -> None:
    life.steps += 1
    if life.abort_after is not None and life.steps > life.abort_after:
        for one in life.sequences:
            scheduler.finish(one)
    for one in life.sequences:
        if life.pause and life.steps == life.pause[0]:
            scheduler.pause(one)
        if life.pause and life.steps == sum(life.pause):
            scheduler.resume(one)


def answer(scheduler: Scheduler, life: Life, one: Sequence) -> None:
    """What the loop does after a step: fork when the prompt is done, finish, pin."""
    made = len(one.tokens) - len(life.prompt)
    if one.state is State.FINISHED:
        return
    if made == 1 and one.index == 0 and len(life.sequences) < life.answers:
        token = one.tokens.pop()
        for index in range(1, life.answers):
            child = scheduler.fork(one, index)
            child.tokens.append(hash((tuple(child.tokens), index)) % 3)
            life.sequences.append(child)
        one.tokens.append(token)
    if made >= life.output:
        if life.background:
            scheduler.cache.pin(one, until=float(life.comes))
        scheduler.finish(one)


def alone(life: Life, index: int) -> list[int]:
    tokens = list(life.prompt)
    while len(tokens) < len(life.prompt) + life.output:
        tokens.append(hash((tuple(tokens), index)) % 3)
    return tokens


def run(world: Any, *sequences: Sequence, output: int = 1, limit: int = 500) -> int:
    """Steps until all of them have so many tokens more; they are finished then."""
    ends = {one: len(one.tokens) + output for one in sequences}
    for step in range(limit):
        if not ends:
            return step
        world.step()
        for one in [one for one, end in ends.items() if len(one.tokens) >= end]:
            world.scheduler.finish(one)
            del ends[one]
    raise AssertionError(f"{len(ends)} sequences do not end")


def test_a_chunked_prompt_and_then_one_token_a_step(simulator: type[Any]) -> None:
    scheduler = make(tokens=24, chunk=20, running=4)
    one = sequence("a", [1] * 50)
    scheduler.add(one)
    world = simulator(scheduler)
    assert [world.step().tokens for _ in range(5)] == [20, 20, 10, 1, 1]


def test_decoding_is_not_held_up_by_prompts(simulator: type[Any]) -> None:
    scheduler = make(tokens=24, chunk=8, running=4, decode_steps_between_admissions=2)
    world = simulator(scheduler)
    first = sequence("a", [1] * 4)
    scheduler.add(first)
    for _ in range(4):
        world.step()
    scheduler.add(sequence("b", [2] * 30))
    made = [world.step() for _ in range(9)]
    assert [plan.prompt_tokens for plan in made] == [8, 0, 0, 8, 0, 0, 8, 0, 0]
    assert all(plan.has(first) for plan in made)


def test_a_prefix_that_was_computed_is_not_computed_again(simulator: type[Any]) -> None:
    scheduler = make(windows=(None, 20), blocks=40)
    world = simulator(scheduler)
    for name in "ab":
        one = sequence(name, [1] * 50 + [ord(name)])
        scheduler.add(one)
        run(world, one)
    assert one.cached == 48


def test_a_prefix_that_is_being_computed_is_waited_for(simulator: type[Any]) -> None:
    scheduler = make(tokens=200, chunk=100)
    world = simulator(scheduler)
    twins = [sequence(name, [1] * 64 + [ord(name)]) for name in "ab"]
    for one in twins:
        scheduler.add(one)
    assert world.step().tokens == 65
    assert world.step().tokens == 2
    assert twins[1].cached == 64


@pytest.mark.parametrize(("field", "value"), [("tenant", "other"), ("root", b"another model")])
def test_prefixes_of_strangers_never_meet(field: str, value: Any, simulator: type[Any]) -> None:
    scheduler = make()
    world = simulator(scheduler)
    first, second = sequence("a", [1] * 50), sequence("b", [1] * 50)
    if field == "tenant":
        second = sequence("b", [1] * 50, tenant=value)
    else:
        second.root = value
    for one in (first, second):
        scheduler.add(one)
        run(world, one)
    assert second.cached == 0


def test_no_hit_reaches_what_must_be_scored(simulator: type[Any]) -> None:
    scheduler = make()
    world = simulator(scheduler)
    first, second = sequence("a", [1] * 60), sequence("b", [1] * 60, logits_from=40)
    for one in (first, second):
        scheduler.add(one)
        run(world, one)
    assert second.cached == 32


def test_windows_give_back_what_they_passed(simulator: type[Any]) -> None:
    scheduler = make(windows=(32,), blocks=8, tokens=24, chunk=16, running=1, reuse=False)
    world = simulator(scheduler)
    one = sequence("a", [1] * 600)
    assert scheduler.cache.capacity > 10**6
    scheduler.add(one)
    most = 0
    while len(one.tokens) < 700:
        world.step()
        most = max(most, one.held(0))
    assert most <= 5


def test_forks_share_their_prompt_until_they_write(simulator: type[Any]) -> None:
    scheduler = make(blocks=64)
    world = simulator(scheduler)
    one = sequence("a", [1] * 40)
    scheduler.add(one)
    world.step()
    world.step()
    one.tokens.pop()
    child = scheduler.fork(one, 1)
    for each in (one, child):
        each.tokens.append(5)
    assert scheduler.cache.pools[0].held == 3
    plan = world.step()
    assert len(plan.copies) == 1
    assert scheduler.cache.pools[0].held == 4
    run(world, one, child, output=30)


def test_the_urgent_come_first_and_take_a_slot(simulator: type[Any]) -> None:
    scheduler = make(running=1)
    world = simulator(scheduler)
    low, high = sequence("low", [1] * 10), sequence("high", [2] * 10, priority=5)
    scheduler.add(low)
    world.step()
    scheduler.add(high)
    run(world, high, output=20)
    assert len(low.tokens) < 15
    run(world, low, output=10)


def test_a_preempted_sequence_resumes(simulator: type[Any]) -> None:
    scheduler = make(blocks=8, running=2)
    world = simulator(scheduler)
    both = [sequence(name, [ord(name)] * 40) for name in "ab"]
    for one in both:
        scheduler.add(one)
    run(world, *both, output=60)
    assert scheduler.preemptions > 0


def test_background_work_waits_for_everybody(simulator: type[Any]) -> None:
    scheduler = make(tokens=20, chunk=16, running=4)
    world = simulator(scheduler)
    prefill = sequence("prefill", [1] * 100, background=True)
    scheduler.add(prefill)
    world.step()
    others = [sequence(str(name), [name] * 40) for name in range(2, 5)]
    for one in others:
        scheduler.add(one)
    before = prefill.computed
    while any(one.missing > 1 for one in others):
        assert prefill.computed - before < BLOCK_TOKENS
        world.step()
    run(world, prefill)


def test_tenants_take_turns(simulator: type[Any]) -> None:
    scheduler = make(running=1)
    world = simulator(scheduler)
    greedy = [sequence(f"g{n}", [n] * 10, tenant="greedy") for n in range(6)]
    modest = [sequence(f"m{n}", [n] * 10, tenant="modest") for n in range(2)]
    for one in [*greedy, *modest]:
        scheduler.add(one)
    done: list[Sequence] = []
    while len(done) < 8:
        world.step()
        for one in [*greedy, *modest]:
            if len(one.tokens) > 12 and one not in done:
                scheduler.finish(one)
                done.append(one)
    assert [one.tenant for one in done[:4]].count("modest") == 2


def test_patience_ends_every_wait(simulator: type[Any]) -> None:
    """An endless stream of more urgent requests, and one that nobody hurries for."""
    scheduler = make(running=1, patience=50)
    world = simulator(scheduler)
    humble = sequence("humble", [0] * 30, priority=-1)
    scheduler.add(humble)
    live: list[Sequence] = []
    for step in range(400):
        if len(live) < 3:
            live.append(sequence(f"s{step}", [step] * 10, priority=9))
            scheduler.add(live[-1])
        world.step()
        for one in [one for one in live if len(one.tokens) > 15]:
            scheduler.finish(one)
            live.remove(one)
        if len(humble.tokens) >= 35:
            return
    raise AssertionError("it starved")


def test_a_paused_sequence_hinders_nobody(simulator: type[Any]) -> None:
    scheduler = make(blocks=5, running=1)
    world = simulator(scheduler)
    slow, other = sequence("slow", [1] * 40), sequence("other", [2] * 60)
    scheduler.add(slow)
    world.step()
    scheduler.pause(slow)
    scheduler.add(other)
    run(world, other, output=5)
    assert not slow.holds
    scheduler.resume(slow)
    run(world, slow, output=20)


def test_pins_hold_until_somebody_needs_the_blocks(simulator: type[Any]) -> None:
    scheduler = make(blocks=6)
    world = simulator(scheduler)
    warm = sequence("warm", [1] * 40, background=True)
    scheduler.add(warm)
    while warm.missing == len(warm.tokens) or warm.computed < 40:
        world.step()
    assert scheduler.cache.pin(warm, until=10.0) == 32
    scheduler.finish(warm)
    scheduler.cache.unpin_until(9.0)
    assert scheduler.cache.pools[0].held == 2
    big = sequence("big", [2] * 80)
    scheduler.add(big)
    run(world, big)
    assert scheduler.cache.used == 0


def test_pins_expire(simulator: type[Any]) -> None:
    scheduler = make()
    world = simulator(scheduler)
    warm = sequence("warm", [1] * 40)
    scheduler.add(warm)
    while warm.computed < 40:
        world.step()
    for until in (10.0, 20.0):
        scheduler.cache.pin(warm, until=until)
    scheduler.finish(warm)
    scheduler.cache.unpin_until(15.0)
    assert scheduler.cache.pools[0].held == 2
    scheduler.cache.unpin_until(20.0)
    assert scheduler.cache.used == 0


def test_the_same_facts_give_the_same_decisions(simulator: type[Any]) -> None:
    def life() -> list[list[tuple[str, int, int]]]:
        scheduler = make(blocks=12)
        world = simulator(scheduler)
        for number in range(6):
            scheduler.add(
                sequence(str(number), [number] * (5 + 7 * number), tenant=str(number % 2))
            )
        return [
            [(chunk.sequence.request, chunk.start, chunk.count) for chunk in world.step().chunks]
            for _ in range(60)
        ]

    assert life() == life()


def test_restarting_in_another_namespace_forgets_the_first(simulator: type[Any]) -> None:
    scheduler = make()
    world = simulator(scheduler)
    one = sequence("a", [1] * 40)
    scheduler.add(one)
    world.step()
    world.step()
    scheduler.restart(one, root_key("model", "long"))
    assert one.computed == 0
    run(world, one, output=3)
