"""Many requests on one engine: order, fairness, the prefix cache, and the books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from capyra.engine.base import Engine
from capyra.engine.types import Event, TokenPrompt
from engines import PROMPT, ask, chat, idle, ignore, reading, request, until

Build = Callable[..., Engine]

ENDLESS = {"ignore_eos": True}
LONG = " ".join([PROMPT] * 4)
OTHER = " ".join(["Something else entirely, and much of it."] * 8)


async def test_more_requests_than_the_batch_holds(build: Build) -> None:
    engine = build(queue={"running": 2})
    await engine.load(ignore)
    assert engine.capabilities().max_batch == 2
    asked = [request(PROMPT[place:], id=str(place)) for place in range(7)]
    alone = [(await ask(engine, each)).tokens for each in asked]
    together = await asyncio.gather(*(ask(engine, each) for each in asked))
    assert [answers.tokens for answers in together] == alone


async def test_higher_priority_is_sooner_then_first_come(build: Build) -> None:
    engine = build(slow=True, queue={"running": 1})
    await engine.load(ignore)
    order: list[str] = []

    async def wait_for(name: str, priority: int) -> None:
        await ask(engine, request(id=name, priority=priority, max_tokens=1))
        order.append(name)

    async with reading(engine, request(id="first", limits=ENDLESS)) as first:
        await until(lambda: len(first.events) > 0)
        ranks = {"low": -1, "one": 0, "two": 0, "high": 5}
        waiting = []
        for place, (name, priority) in enumerate(ranks.items(), start=1):
            waiting.append(asyncio.create_task(wait_for(name, priority)))
            await until(lambda place=place: engine.stats().waiting == place)
        engine.abort("first")
        await asyncio.gather(*waiting)
    assert order == ["high", "one", "two", "low"]


async def test_a_slow_reader_slows_nobody_else(build: Build) -> None:
    engine = build(queue={"running": 1})
    await engine.load(ignore)
    long = request(id="slow", max_tokens=1500, limits=ENDLESS)
    whole = await ask(engine, long)
    stream = engine.generate(long)
    events = [await anext(stream)]
    for place in range(3):
        other = request(id=f"quick-{place}", max_tokens=4, limits=ENDLESS)
        assert (await ask(engine, other)).usage.completion_tokens == 4
    events += [event async for event in stream]
    assert _tokens(events) == whole.tokens


def _tokens(events: list[Event]) -> list[int]:
    return [token for event in events for token in getattr(event, "token_ids", ())]


async def test_a_prompt_that_was_seen_is_cached(engine: Engine) -> None:
    first = await ask(engine, request(LONG))
    second = await ask(engine, request(LONG))
    assert first.usage.cached_tokens == 0
    assert 0 < second.usage.cached_tokens < second.usage.prompt_tokens
    assert second.tokens == first.tokens
    longer = await ask(engine, request(LONG + " And then?"))
    assert longer.usage.cached_tokens > 0


async def test_a_conversation_goes_on_where_it_was(engine: Engine) -> None:
    rendered = engine.render(chat(LONG)).token_ids
    first = await ask(engine, request(LONG, limits=ENDLESS, max_tokens=64))

    going_on = TokenPrompt((*rendered, *first.tokens, *engine.tokenize("And then?")))
    second = await ask(engine, request(prompt=going_on))
    assert second.usage.cached_tokens > len(rendered), "what was written is cached too"


async def test_tenants_never_share(engine: Engine) -> None:
    await ask(engine, request(LONG, cache_salt="one"))
    assert (await ask(engine, request(LONG, cache_salt="two"))).usage.cached_tokens == 0
    assert (await ask(engine, request(LONG))).usage.cached_tokens == 0
    assert (await ask(engine, request(LONG, cache_salt="one"))).usage.cached_tokens > 0


async def test_unloading_forgets_what_was_cached_or_finds_it_again(engine: Engine) -> None:
    first = await ask(engine, request(LONG))
    await engine.unload()
    await engine.load(ignore)
    assert (await ask(engine, request(LONG))).tokens == first.tokens


async def test_a_prefix_can_be_read_ahead(engine: Engine) -> None:
    if not engine.capabilities().prefill:
        pytest.skip("the engine does not prefill")
    prefilled = await engine.prefill(chat(LONG), ttl_s=60, cache_salt="one")
    assert 0 < prefilled.tokens <= len(engine.render(chat(LONG)).token_ids)
    assert (prefilled.cached_tokens, prefilled.ttl_s) == (0, 60)
    other = await ask(engine, request(LONG, cache_salt="two"))
    assert other.usage.cached_tokens == 0
    answers = await ask(engine, request(LONG, cache_salt="one"))
    assert answers.usage.cached_tokens >= min(prefilled.tokens, answers.usage.prompt_tokens - 17)
    assert (await engine.prefill(chat(LONG), ttl_s=1, cache_salt="one")).cached_tokens > 0
    assert answers.tokens == other.tokens


async def test_a_prefill_comes_after_those_who_wait(build: Build) -> None:
    engine = build(slow=True, queue={"running": 1})
    if not engine.capabilities().prefill:
        pytest.skip("the engine does not prefill")
    await engine.load(ignore)
    async with (
        reading(engine, request(id="first", limits=ENDLESS)) as first,
        asyncio.TaskGroup() as group,
    ):
        await until(lambda: len(first.events) > 0)
        prefill = group.create_task(engine.prefill(chat(OTHER), ttl_s=60))
        await until(lambda: engine.stats().waiting == 1)
        later = group.create_task(ask(engine, request(OTHER, id="later", max_tokens=1)))
        await until(lambda: engine.stats().waiting == 2)
        engine.abort("first")
        assert (await later).usage.cached_tokens == 0, "it came first"
        await prefill


async def test_the_books_add_up(engine: Engine) -> None:
    before = engine.stats()
    assert before.loaded
    assert (before.prompt_tokens, before.completion_tokens) == (0, 0)
    asked = [request(PROMPT[place:], id=str(place), n=2) for place in range(6)]
    answers = await asyncio.gather(*(ask(engine, each) for each in asked))
    await until(lambda: idle(engine))
    after = engine.stats()
    usages = [each.usage for each in answers]
    assert after.prompt_tokens == sum(usage.prompt_tokens for usage in usages)
    assert after.cached_tokens == sum(usage.cached_tokens for usage in usages)
    assert after.completion_tokens == sum(usage.completion_tokens for usage in usages)
    assert after.seconds.keys() >= {"load", "prefill", "decode"}
    assert 0 <= after.kv_used <= 1


async def test_stats_show_who_runs_and_who_waits(build: Build) -> None:
    engine = build(slow=True, queue={"running": 1})
    await engine.load(ignore)
    async with (
        reading(engine, request(id="one", limits=ENDLESS)),
        reading(engine, request(id="two", limits=ENDLESS)),
    ):
        await until(lambda: engine.stats().running + engine.stats().waiting == 2)
        await until(lambda: (engine.stats().running, engine.stats().waiting) == (1, 1))
