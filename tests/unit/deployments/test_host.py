"""A host over real echo engines: admission, loads, idleness, change of settings."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from capyra.deployments.experts import Call
from capyra.deployments.host import Host
from capyra.engine.base import Engine
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import CapyraError, ConfigError, Unsupported
from capyra.engine.registry import EngineSpec, create
from capyra.engine.types import (
    Accepted,
    Capabilities,
    ChatPrompt,
    Delta,
    Done,
    EmbedRequest,
    Failed,
    GenerateRequest,
    Limits,
    Message,
    OutputFormat,
    Progress,
    Sampling,
    StreamItem,
    TextPart,
    TextPrompt,
)


class Clock:
    """A clock that stands until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Makes:
    """Makes echo engines, and remembers them."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []

    def __call__(self, config: ExpertConfig) -> Engine:
        engine = create(EngineSpec("parrot", config))
        self.engines.append(engine)
        return engine


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def makes() -> Makes:
    return Makes()


@pytest.fixture
async def host(makes: Makes, clock: Clock) -> AsyncIterator[Host]:
    made = Host("parrot", "r1", makes, clock)
    await made.configure(settings())
    yield made
    await made.close()


def settings(**changes: Any) -> ExpertConfig:
    return ExpertConfig.model_validate({"engine": "echo", "keep_alive": -1, **changes})


def request(text: str = "Hello", id_: str = "1", **changes: Any) -> GenerateRequest:
    prompt = ChatPrompt((Message("user", (TextPart(text),)),))
    return GenerateRequest(id=id_, prompt=prompt, sampling=Sampling(temperature=0), **changes)


async def items(batches: AsyncGenerator[Sequence[StreamItem]]) -> list[StreamItem]:
    return [item async for batch in batches for item in batch]


def text(found: Sequence[StreamItem]) -> str:
    return "".join(item.text for item in found if isinstance(item, Delta))


def failure(found: Sequence[StreamItem]) -> CapyraError:
    assert isinstance(found[-1], Failed), found
    return found[-1].failure.error()


async def begin(host: Host, asked: GenerateRequest) -> AsyncGenerator[list[StreamItem]]:
    """A request that has begun: its first batch was read."""
    batches = host.generate(asked, Call())
    first = await anext(batches)
    assert isinstance(first[0], Accepted)
    return batches


async def test_accepted_comes_first_then_progress_then_the_answer(host: Host) -> None:
    found = await items(host.generate(request(), Call()))
    assert found[0] == Accepted("parrot", "r1", ready=False, waiting=0)
    assert isinstance(found[1], Progress)
    assert text(found) == "Hello"
    assert isinstance(found[-1], Done)
    again = await items(host.generate(request(), Call()))
    assert again[0] == Accepted("parrot", "r1", ready=True, waiting=0)
    assert not any(isinstance(item, Progress) for item in again)


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        (request(format=OutputFormat("json_object")), "unsupported", "response_format"),
        (request("x" * 40_000), "context_length_exceeded", None),
    ],
)
async def test_refusals_come_before_accepted_and_before_a_load(
    host: Host, asked: GenerateRequest, code: str, param: str | None
) -> None:
    found = await items(host.generate(asked, Call()))
    assert len(found) == 1
    assert failure(found).code == code
    assert param is None or failure(found).param == param
    assert host.state() == "parked"


async def test_over_the_waiting_room_is_refused_at_once(host: Host) -> None:
    await host.configure(settings(queue={"running": 1, "waiting": 1}))
    held = [await begin(host, request(id_=str(number))) for number in range(2)]
    refused = failure(await items(host.generate(request(id_="3"), Call())))
    assert refused.code == "queue_full"
    assert refused.retry_after_s
    for each in held:
        await each.aclose()
    assert host.in_flight == 0
    assert text(await items(host.generate(request(), Call()))) == "Hello"


async def test_many_requests_share_one_load(host: Host) -> None:
    await host.configure(settings(options={"load_seconds": 0.05}))
    answers = [items(host.generate(request(id_=str(n)), Call())) for n in range(8)]
    found = await asyncio.gather(*answers)
    assert {text(each) for each in found} == {"Hello"}
    loads = host.stats().seconds["load"]
    assert 0.05 <= loads < 0.1, "one load, not eight"


async def test_a_failed_load_tells_everyone_why_and_is_not_tried_again_at_once(
    host: Host, clock: Clock
) -> None:
    await host.configure(settings(options={"fail_load": 1}))
    found = await asyncio.gather(
        *(items(host.generate(request(id_=str(n)), Call())) for n in range(3))
    )
    for each in found:
        assert failure(each).code == "load_failed"
        assert "fail_load" in failure(each).message
    assert failure(await items(host.generate(request(), Call()))).code == "load_failed"
    clock.now += 60
    assert text(await items(host.generate(request(), Call()))) == "Hello"


async def test_who_reads_slowly_hears_of_the_load_that_it_waited_for(
    host: Host, clock: Clock
) -> None:
    await host.configure(settings(options={"fail_load": 1, "load_seconds": 30}))
    slow = await begin(host, request(id_="slow"))
    assert isinstance((await anext(slow))[0], Progress)
    await state_becomes(host, "parked")
    clock.now += 60
    later = await begin(host, request(id_="later"))
    await anext(later)
    assert host.state() == "loading", "a load after the one that failed"
    assert failure(await items(slow)).code == "load_failed"
    await later.aclose()


async def test_who_waits_for_a_load_is_lost_when_the_replica_closes(
    makes: Makes, clock: Clock
) -> None:
    host = Host("parrot", "r1", makes, clock)
    await host.configure(settings(options={"load_seconds": 30}))
    waiting = asyncio.create_task(items(host.generate(request(), Call())))
    await state_becomes(host, "loading")
    await host.close()
    assert failure(await waiting).code == "expert_lost"


async def test_a_deadline_ends_the_wait_for_a_load_but_not_the_load(host: Host) -> None:
    await host.configure(settings(options={"load_seconds": 0.2}))
    late = await items(host.generate(request(deadline_s=0.01), Call()))
    assert failure(late).code == "deadline_exceeded"
    assert host.state() == "loading"
    assert text(await items(host.generate(request(), Call()))) == "Hello"


async def test_a_deadline_ends_an_answer(host: Host) -> None:
    await host.configure(settings(options={"tokens_per_second": 20}))
    found = await items(host.generate(request("x" * 1000, deadline_s=0.2), Call()))
    assert failure(found).code == "deadline_exceeded"
    assert text(found)
    assert host.stats().running == 0


async def test_leaving_frees_the_engine(host: Host) -> None:
    asked = request("x" * 30_000, limits=Limits(max_tokens=2000))
    async with aclosing(host.generate(asked, Call())) as batches:
        async for batch in batches:
            if any(isinstance(item, Delta) for item in batch):
                break
    assert host.in_flight == 0
    assert host.stats().running == 0


async def test_an_engine_that_breaks_answers_and_goes_on(host: Host) -> None:
    await host.configure(settings(options={"fail_after_tokens": 2}))
    broken = await items(host.generate(request(), Call()))
    assert failure(broken).code == "engine_fault"
    await host.configure(settings())
    assert text(await items(host.generate(request(), Call()))) == "Hello"


async def state_becomes(host: Host, wanted: str) -> None:
    async with asyncio.timeout(5):
        while host.state() != wanted:
            host.changed.clear()
            await host.changed.wait()


async def test_weights_leave_when_idle_and_come_back(host: Host) -> None:
    await host.configure(settings(keep_alive=0))
    assert text(await items(host.generate(request(), Call()))) == "Hello"
    await state_becomes(host, "parked")
    assert text(await items(host.generate(request(), Call()))) == "Hello"


async def test_a_refused_request_says_nothing_about_the_weights(host: Host) -> None:
    await items(host.generate(request(), Call()))
    await items(host.generate(request("x" * 40_000), Call(keep_alive_s=0)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert host.state() == "ready"


async def test_a_requests_keep_alive_holds_until_the_next_unload(host: Host) -> None:
    await items(host.generate(request(), Call(keep_alive_s=0)))
    await state_becomes(host, "parked")
    await items(host.generate(request(), Call()))
    assert host.state() == "ready", "the expert's own keep-alive holds again"


async def test_busy_weights_stay(host: Host) -> None:
    await host.configure(settings(keep_alive=0))
    first = await begin(host, request("x" * 2000, id_="long"))
    await items(host.generate(request(), Call()))
    assert host.state() == "ready"
    assert len(text(await items(first))) == 2000
    await state_becomes(host, "parked")


async def test_a_pinned_expert_loads_by_itself_and_stays(host: Host) -> None:
    await host.configure(settings(pin=True, keep_alive=0))
    await state_becomes(host, "ready")
    await items(host.generate(request(), Call()))
    assert host.state() == "ready"


async def test_a_pinned_expert_whose_load_failed_takes_settings(host: Host) -> None:
    failing = settings(pin=True, options={"fail_load": "always"})
    await host.configure(failing)
    await state_becomes(host, "parked")
    await host.configure(failing.model_copy(update={"description": "new"}))
    assert failure(await items(host.generate(request(), Call()))).code == "load_failed"


async def test_a_load_that_nobody_waits_for_costs_nothing_and_ends_parked(host: Host) -> None:
    await host.configure(settings(keep_alive=0, options={"load_seconds": 0.05}))
    left = await begin(host, request())
    await anext(left)
    await left.aclose()
    seen: set[asyncio.Task[Any]] = set()
    for _ in range(40):
        await asyncio.sleep(0)
        seen |= asyncio.all_tasks()
    assert len(seen) < 8, "a task that waits, not a timer that spins"
    await state_becomes(host, "ready")
    await state_becomes(host, "parked")


async def test_light_settings_keep_the_engine(host: Host, makes: Makes) -> None:
    await items(host.generate(request(), Call()))
    await host.configure(settings(description="new", keep_alive=60))
    assert len(makes.engines) == 1
    assert host.state() == "ready"


async def test_another_model_under_the_same_settings_is_another_engine(
    host: Host, makes: Makes
) -> None:
    await host.configure(settings(), moved=True)
    assert len(makes.engines) == 2


async def test_heavy_settings_change_engines_without_breaking_an_answer(
    host: Host, makes: Makes
) -> None:
    await items(host.generate(request(), Call()))
    old = host.generate(request("y" * 3000, id_="old"), Call())
    begun = text(await anext(old))
    await host.configure(settings(context=64))
    assert len(makes.engines) == 2
    refused = await items(host.generate(request("y" * 3000, id_="new"), Call()))
    assert failure(refused).code == "context_length_exceeded"
    assert makes.engines[0].stats().loaded
    assert begun + text(await items(old)) == "y" * 3000
    async with asyncio.timeout(5):
        while makes.engines[0].stats().loaded:
            host.changed.clear()
            await host.changed.wait()


async def test_settings_that_no_engine_takes_leave_the_one_that_serves(
    makes: Makes, clock: Clock
) -> None:
    def make(config: ExpertConfig) -> Engine:
        if config.context == 64:
            raise ConfigError("64 tokens are too few")
        return makes(config)

    host = Host("parrot", "r1", make, clock)
    with pytest.raises(ConfigError):
        await host.configure(settings(context=64))
    await host.configure(settings())
    await host.configure(settings(context=64))
    assert host.problem == "64 tokens are too few"
    assert text(await items(host.generate(request("y" * 100), Call()))) == "y" * 100
    await host.configure(settings())
    assert host.problem is None
    await host.close()


async def test_embeddings_load_too(host: Host) -> None:
    asked = EmbedRequest(id="1", inputs=(TextPrompt("a"), TextPrompt("b")))
    assert len((await host.embed(asked, Call())).vectors) == 2


async def test_an_expert_without_embeddings_refuses_them_before_a_load(clock: Clock) -> None:
    class Mute(Makes):
        """Makes engines that embed nothing."""

        def __call__(self, config: ExpertConfig) -> Engine:
            engine = super().__call__(config)
            can: Capabilities = dataclasses.replace(engine.capabilities(), embeddings=False)
            engine.capabilities = lambda: can  # type: ignore[method-assign]
            return engine

    host = Host("parrot", "r1", Mute(), clock)
    await host.configure(settings())
    with pytest.raises(Unsupported, match="embeddings"):
        await host.embed(EmbedRequest(id="1", inputs=(TextPrompt("a"),)), Call())
    assert host.state() == "parked"
    await host.close()


class Gated(Makes):
    """Makes an engine when it is told to, which takes a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.gate = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, config: ExpertConfig) -> Engine:
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self.gate.wait(10)
        return super().__call__(config)


async def test_closing_while_an_engine_is_made_leaves_nothing(clock: Clock) -> None:
    makes = Gated()
    host = Host("parrot", "r1", makes, clock)
    making = asyncio.create_task(host.configure(settings(pin=True)))
    await makes.begun.wait()
    await host.close()
    makes.gate.set()
    await making
    assert host.state() == "draining"
    assert not makes.engines[0].stats().loaded


async def test_settings_that_come_while_an_engine_is_made_follow_it(clock: Clock) -> None:
    makes = Gated()
    host = Host("parrot", "r1", makes, clock)
    first = asyncio.create_task(host.configure(settings(context=64)))
    await makes.begun.wait()
    second = asyncio.create_task(host.configure(settings(context=128)))
    makes.gate.set()
    await asyncio.gather(first, second)
    assert [engine.capabilities().context for engine in makes.engines] == [64, 128]
    assert host.capabilities().context == 128
    await host.close()


async def test_closing_leaves_nothing(makes: Makes, clock: Clock) -> None:
    before = asyncio.all_tasks()
    host = Host("parrot", "r1", makes, clock)
    await host.configure(settings(pin=True, options={"load_seconds": 30}))
    assert host.state() == "loading"
    await host.close()
    assert asyncio.all_tasks() == before
    gone = await items(host.generate(request(), Call()))
    assert failure(gone).code == "expert_lost"
