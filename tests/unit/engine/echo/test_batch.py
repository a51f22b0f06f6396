"""The batch with a clock in hand."""

from __future__ import annotations

import math

import pytest

from capyra.engine.config import ExpertConfig
from capyra.engine.echo import requests
from capyra.engine.echo.batch import LAG, SHARE, Batch, Job
from capyra.engine.echo.cache import PrefixCache
from capyra.engine.echo.engine import EchoEngine
from capyra.engine.echo.options import EchoOptions
from capyra.engine.errors import EngineFault
from capyra.engine.registry import EngineSpec
from capyra.engine.types import Delta, Done, Finished, GenerateRequest, Limits, Sampling, TextPrompt

CAPABILITIES = EchoEngine(EngineSpec("echo", ExpertConfig(engine="echo"))).capabilities()


def job(
    name: str, text: str = "x" * 64, *, n: int = 1, max_tokens: int = 10_000, **options: object
) -> Job:
    """An endless greedy answer."""
    request = GenerateRequest(
        id=name,
        prompt=TextPrompt(text),
        sampling=Sampling(temperature=0),
        limits=Limits(max_tokens=max_tokens, ignore_eos=True),
        n=n,
    )
    return requests.job(request, CAPABILITIES, EchoOptions.model_validate(options))


def batch(size: int = 4, **speeds: float) -> Batch:
    return Batch(size, PrefixCache(2**16), **speeds)


def test_all_get_on_by_the_same_share() -> None:
    running = batch(3)
    jobs = [job(name) for name in "abcd"]
    for each in jobs:
        running.submit(each, 0)
    assert (running.running, running.waiting) == (0, 4)
    assert running.turn(0) == 0, "there is more to do at once"
    assert [each.completion_tokens for each in jobs] == [SHARE, SHARE, SHARE, 0]
    assert (running.running, running.waiting) == (3, 1)


def test_many_get_on_by_less_so_that_a_turn_stays_short() -> None:
    running = batch(4096)
    jobs = [job(str(place)) for place in range(1000)]
    for each in jobs:
        running.submit(each, 0)
    running.turn(0)
    assert {each.completion_tokens for each in jobs} == {1}


def test_a_job_that_nobody_reads_steps_aside_and_comes_back_first() -> None:
    running = batch(1)
    slow, other, late = job("slow"), job("other"), job("late")
    running.submit(slow, 0)
    for _ in range(LAG // SHARE):
        running.turn(0)
    assert len(slow.events) <= LAG + SHARE + 1
    running.submit(other, 0)
    running.submit(late, 0)
    for _ in range(3):
        running.turn(0)
    assert other.started
    held = len(slow.events)
    assert (running.running, running.waiting) == (2, 1)
    slow.events.clear()
    running.resume(slow, 0)
    running.resume(slow, 0)
    while not other.over and len(other.events) < LAG:
        running.turn(0)
    running.turn(0)
    assert 0 < len(slow.events) <= held
    assert not late.started, "who came first is first again"


def test_answers_come_at_their_speed() -> None:
    running = batch(decode_speed=10)
    each = job("a", n=2, max_tokens=5)
    running.submit(each, 100)
    due = [running.turn(100)]
    counts = [each.completion_tokens]
    while not each.over:
        due.append(running.turn(due[-1]))
        counts.append(each.completion_tokens)
    assert counts == [2, 4, 6, 8, 10]
    assert due == pytest.approx([100.1, 100.2, 100.3, 100.4, math.inf])
    done = each.events[-1]
    assert isinstance(done, Done)
    assert done.usage.timing == pytest.approx({"queue": 0, "prefill": 0, "decode": 0.4})


def test_a_turn_without_news_wakes_nobody() -> None:
    running = batch(decode_speed=10)
    each = job("a")
    woken = []
    each.notify = lambda: woken.append(each.completion_tokens)
    running.submit(each, 0)
    for now in (0, 0.05, 0.09, 0.1):
        running.turn(now)
        each.events.clear()
    assert woken == [1, 2]


def test_who_turns_late_catches_up() -> None:
    running = batch(decode_speed=10)
    each = job("a")
    running.submit(each, 0)
    running.turn(0)
    running.turn(1.0)
    assert each.completion_tokens == 11


def test_prompts_are_read_one_after_the_other_and_not_again() -> None:
    running = batch(prefill_speed=100)
    first, second = job("a", "x" * 98, max_tokens=1), job("b", "y" * 48, max_tokens=1)
    running.submit(first, 0)
    running.submit(second, 0)
    assert running.turn(0) == pytest.approx(1.0)
    assert not first.events
    assert running.turn(1.0) == pytest.approx(1.5)
    assert (first.over, second.started) == (True, False)
    running.turn(1.5)
    assert second.over
    again = job("a", "x" * 98, max_tokens=1)
    running.submit(again, 2.0)
    assert running.turn(2.0) == pytest.approx(2.0 + (100 - 96) / 100)
    assert again.cached == 96


def test_one_that_breaks_is_alone_with_it() -> None:
    running = batch()
    breaking, whole = job("a", fail_after_tokens=5), job("b", max_tokens=8)
    running.submit(breaking, 0)
    running.submit(whole, 0)
    running.turn(0)
    assert breaking.error is None, "what was written before is delivered first"
    running.turn(0)
    assert isinstance(breaking.error, EngineFault)
    assert "fail_after_tokens" in breaking.error.message
    assert breaking.completion_tokens == 5
    assert whole.over
    assert whole.error is None
    assert not running.busy


def test_an_unforeseen_exception_is_an_engine_fault() -> None:
    running = batch()
    each = job("a")
    each.prompt_logprobs = lambda: 1 / 0  # type: ignore[assignment, return-value]
    running.submit(each, 0)
    running.turn(0)
    assert isinstance(each.error, EngineFault)
    assert isinstance(each.error.__cause__, ZeroDivisionError)


def test_leaving_at_any_point_leaves_nothing() -> None:
    for turns in range(4):
        running = batch(1)
        jobs = [job("a"), job("b")]
        for each in jobs:
            running.submit(each, 0)
        for _ in range(turns):
            running.turn(0)
        for each in jobs:
            running.drop(each)
            running.drop(each)
        assert (running.busy, running.running, running.waiting) == (False, 0, 0)


def test_an_abort_ends_each_answer_once() -> None:
    running = batch()
    each = job("a", n=3, max_tokens=SHARE * 2)
    running.submit(each, 0)
    running.turn(0)
    assert running.abort("a", 1)
    assert not running.abort("a", 1)
    ends = [event for event in each.events if isinstance(event, Finished)]
    assert [(end.index, end.reason) for end in ends] == [(n, "cancelled") for n in range(3)]
    assert isinstance(each.events[-1], Done)
    assert sum(isinstance(event, Delta) for event in each.events) == 3 * SHARE
