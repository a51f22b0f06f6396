"""A host over real echo engines: admission, orders, change of settings."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from capyra.deployments.errors import NotReady
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
    Sampling,
    StreamItem,
    TextPart,
    TextPrompt,
)
from capyra.orchestrator.residency.effects import Load, Park
from capyra.orchestrator.residency.events import Epoch


class Makes:
    """Makes echo engines, and remembers them."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []

    def __call__(self, config: ExpertConfig) -> Engine:
        engine = create(EngineSpec("parrot", config))
        self.engines.append(engine)
        return engine


@pytest.fixture
def makes() -> Makes:
    return Makes()


@pytest.fixture
async def host(makes: Makes) -> AsyncIterator[Host]:
    made = Host("parrot", "r1", makes)
    await made.configure(settings())
    await load(made)
    yield made
    await made.close()


def order(host: Host, kind: type[Load | Park] = Load, **more: Any) -> None:
    """Control's next word to this host."""
    if kind is Load:
        more = {"bytes": 1}
    host.obey(kind("parrot", "r1", epoch=Epoch(1, host.epoch.number + 1), **more))


async def load(host: Host) -> None:
    order(host)
    await state_becomes(host, "ready")


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


def refusal(found: Sequence[StreamItem]) -> str:
    """The code of what came in the place of an answer."""
    (only,) = found
    assert isinstance(only, Failed)
    return only.failure.code


async def begin(host: Host, asked: GenerateRequest) -> AsyncGenerator[list[StreamItem]]:
    """A request that has begun: its first batch was read."""
    batches = host.generate(asked)
    first = await anext(batches)
    assert isinstance(first[0], Accepted)
    return batches


async def test_accepted_comes_first_then_the_answer(host: Host) -> None:
    found = await items(host.generate(request()))
    assert found[0] == Accepted("parrot", "r1", ready=True, waiting=0)
    assert text(found) == "Hello"
    assert isinstance(found[-1], Done)


async def test_without_an_order_nothing_is_loaded(makes: Makes) -> None:
    host = Host("parrot", "r1", makes)
    await host.configure(settings(pin=True))
    assert refusal(await items(host.generate(request()))) == "not_ready"
    with pytest.raises(NotReady):
        await host.embed(EmbedRequest(id="1", inputs=(TextPrompt("a"),)))
    assert (host.state(), host.in_flight) == ("parked", 0)
    await host.close()


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        (request(format=OutputFormat("json_object")), "unsupported", "response_format"),
        (request("x" * 40_000), "context_length_exceeded", None),
    ],
)
async def test_what_is_wrong_with_a_request_is_told_before_that_weights_are_missing(
    makes: Makes, asked: GenerateRequest, code: str, param: str | None
) -> None:
    host = Host("parrot", "r1", makes)
    await host.configure(settings())
    found = await items(host.generate(asked))
    assert len(found) == 1
    assert failure(found).code == code
    assert param is None or failure(found).param == param
    assert host.state() == "parked"
    await host.close()


async def test_over_the_waiting_room_is_refused_at_once(host: Host) -> None:
    await host.configure(settings(queue={"running": 1, "waiting": 1}))
    await load(host)
    held = [await begin(host, request(id_=str(number))) for number in range(2)]
    refused = failure(await items(host.generate(request(id_="3"))))
    assert refused.code == "queue_full"
    assert refused.retry_after_s
    for each in held:
        await each.aclose()
    assert host.in_flight == 0
    assert text(await items(host.generate(request()))) == "Hello"


async def test_a_load_tells_how_far_it_is(makes: Makes) -> None:
    host = Host("parrot", "r1", makes)
    await host.configure(settings(options={"load_seconds": 0.3}))
    assert host.progress is None
    order(host)
    assert (host.state(), host.epoch) == ("loading", Epoch(1, 1))
    host.changed.clear()
    async with asyncio.timeout(5):
        await host.changed.wait()
    assert host.progress is not None
    assert 0 < host.progress.fraction < 1
    await state_becomes(host, "ready")
    assert (host.progress, host.failure) == (None, None)
    await host.close()


async def test_an_order_to_load_what_is_loaded_changes_nothing_but_the_epoch(host: Host) -> None:
    order(host)
    assert (host.state(), host.epoch) == ("ready", Epoch(1, 2))


async def test_an_order_that_is_older_is_not_obeyed(host: Host) -> None:
    host.obey(Park("parrot", "r1", Epoch(1, 1)))
    host.obey(Park("parrot", "r1", Epoch(0, 9)))
    assert (host.state(), host.epoch) == ("ready", Epoch(1, 1))


async def test_a_failed_load_leaves_it_parked_with_the_reason_until_the_next_order(
    host: Host,
) -> None:
    await host.configure(settings(options={"fail_load": 1}))
    order(host)
    await state_becomes(host, "parked")
    assert "fail_load" in (host.failure or "")
    order(host)
    assert (host.state(), host.failure) == ("loading", None)
    await state_becomes(host, "ready")


async def test_a_load_is_given_up(host: Host) -> None:
    await host.configure(settings(options={"load_seconds": 30}))
    order(host)
    assert host.state() == "loading"
    order(host, Park)
    await state_becomes(host, "parked")
    assert (host.failure, host.epoch) == (None, Epoch(1, 3))
    assert not host.stats().loaded


async def test_a_deadline_ends_an_answer(host: Host) -> None:
    await host.configure(settings(options={"tokens_per_second": 20}))
    await load(host)
    found = await items(host.generate(request("x" * 1000, deadline_s=0.2)))
    assert failure(found).code == "deadline_exceeded"
    assert text(found)
    assert host.stats().running == 0


async def test_leaving_frees_the_engine(host: Host) -> None:
    asked = request("x" * 30_000, limits=Limits(max_tokens=2000))
    async with aclosing(host.generate(asked)) as batches:
        async for batch in batches:
            if any(isinstance(item, Delta) for item in batch):
                break
    assert host.in_flight == 0
    assert host.stats().running == 0


async def test_an_engine_that_breaks_answers_and_goes_on(host: Host) -> None:
    await host.configure(settings(options={"fail_after_tokens": 2}))
    await load(host)
    broken = await items(host.generate(request()))
    assert failure(broken).code == "engine_fault"
    await host.configure(settings())
    await load(host)
    assert text(await items(host.generate(request()))) == "Hello"


async def state_becomes(host: Host, wanted: str) -> None:
    async with asyncio.timeout(5):
        while host.state() != wanted:
            host.changed.clear()
            await host.changed.wait()


async def test_weights_leave_and_come_back(host: Host) -> None:
    order(host, Park)
    assert host.state() == "draining", "parked would say that their memory is free"
    await state_becomes(host, "parked")
    assert not host.stats().loaded
    await load(host)
    assert text(await items(host.generate(request()))) == "Hello"


async def test_a_load_during_an_unload_follows_it(host: Host) -> None:
    order(host, Park)
    order(host)
    assert host.state() == "loading"
    await state_becomes(host, "ready")
    assert host.stats().loaded


async def test_busy_weights_stay_unless_told_to_drain(host: Host) -> None:
    first = host.generate(request("x" * 2000, id_="long"))
    begun = text(await anext(first))
    order(host, Park)
    assert (host.state(), host.epoch) == ("ready", Epoch(1, 2)), "declined"
    order(host, Park, drain=True)
    assert host.state() == "draining"
    assert refusal(await items(host.generate(request()))) == "not_ready"
    assert begun + text(await items(first)) == "x" * 2000
    await state_becomes(host, "parked")
    assert not host.stats().loaded


async def test_an_order_to_load_ends_a_drain(host: Host) -> None:
    first = await begin(host, request("x" * 2000, id_="long"))
    order(host, Park, drain=True)
    order(host)
    assert host.state() == "ready"
    await items(first)
    assert text(await items(host.generate(request()))) == "Hello"


async def test_requests_that_begin_and_end_are_told_before_long(host: Host) -> None:
    host.changed.clear()
    first = await begin(host, request("x" * 2000, id_="long"))
    async with asyncio.timeout(5):
        await host.changed.wait()
    assert host.in_flight == 1
    host.changed.clear()
    await first.aclose()
    async with asyncio.timeout(5):
        await host.changed.wait()
    assert host.in_flight == 0


async def test_light_settings_keep_the_engine(host: Host, makes: Makes) -> None:
    await items(host.generate(request()))
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
    await items(host.generate(request()))
    old = host.generate(request("y" * 3000, id_="old"))
    begun = text(await anext(old))
    await host.configure(settings(context=64))
    assert len(makes.engines) == 2
    refused = await items(host.generate(request("y" * 3000, id_="new")))
    assert failure(refused).code == "context_length_exceeded"
    assert makes.engines[0].stats().loaded
    assert begun + text(await items(old)) == "y" * 3000
    async with asyncio.timeout(5):
        while makes.engines[0].stats().loaded:
            host.changed.clear()
            await host.changed.wait()


async def test_what_still_runs_on_a_retired_engine_counts(host: Host) -> None:
    memory = {"options": {"memory": 1000}}
    await host.configure(settings(**memory))
    await load(host)
    old = await begin(host, request("y" * 3000, id_="old"))
    await host.configure(settings(context=64, **memory))
    assert (host.state(), host.in_flight) == ("parked", 1)
    assert (host.bytes, host.retired_bytes) == (1000, 1000)
    await load(host)
    assert (host.bytes, host.retired_bytes) == (2000, 1000)
    assert text(await items(host.generate(request()))) == "Hello"
    await items(old)
    assert host.in_flight == 0
    async with asyncio.timeout(5):
        while host.retired_bytes:
            host.changed.clear()
            await host.changed.wait()
    assert host.bytes == 1000


async def test_settings_that_change_while_it_loads_load_anew(host: Host, makes: Makes) -> None:
    await host.configure(settings(options={"load_seconds": 30}))
    order(host)
    for context in (64, 128):
        await host.configure(settings(context=context, options={"load_seconds": 0.01}))
        assert (host.state(), host.failure) == ("loading", None)
    await state_becomes(host, "ready")
    assert [each.stats().loaded for each in makes.engines[1:]] == [False, False, True]


async def test_settings_that_change_when_a_load_was_given_up_load_nothing(host: Host) -> None:
    await host.configure(settings(options={"load_seconds": 30}))
    order(host)
    order(host, Park)
    await host.configure(settings(context=64))
    assert host.state() == "parked"


async def test_settings_that_no_engine_takes_leave_the_one_that_serves(makes: Makes) -> None:
    def make(config: ExpertConfig) -> Engine:
        if config.context == 64:
            raise ConfigError("64 tokens are too few")
        return makes(config)

    host = Host("parrot", "r1", make)
    with pytest.raises(ConfigError):
        await host.configure(settings(context=64))
    await host.configure(settings())
    await load(host)
    await host.configure(settings(context=64))
    assert host.problem == "64 tokens are too few"
    assert text(await items(host.generate(request("y" * 100)))) == "y" * 100
    await host.configure(settings())
    assert host.problem is None
    await host.close()


async def test_embeddings(host: Host) -> None:
    asked = EmbedRequest(id="1", inputs=(TextPrompt("a"), TextPrompt("b")))
    assert len((await host.embed(asked)).vectors) == 2


async def test_an_expert_without_embeddings_refuses_them_before_a_load() -> None:
    class Mute(Makes):
        """Makes engines that embed nothing."""

        def __call__(self, config: ExpertConfig) -> Engine:
            engine = super().__call__(config)
            can: Capabilities = dataclasses.replace(engine.capabilities(), embeddings=False)
            engine.capabilities = lambda: can  # type: ignore[method-assign]
            return engine

    host = Host("parrot", "r1", Mute())
    await host.configure(settings())
    with pytest.raises(Unsupported, match="embeddings"):
        await host.embed(EmbedRequest(id="1", inputs=(TextPrompt("a"),)))
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


async def test_closing_while_an_engine_is_made_leaves_nothing() -> None:
    makes = Gated()
    host = Host("parrot", "r1", makes)
    making = asyncio.create_task(host.configure(settings(pin=True)))
    await makes.begun.wait()
    await host.close()
    makes.gate.set()
    await making
    assert host.state() == "draining"
    assert not makes.engines[0].stats().loaded


async def test_settings_that_come_while_an_engine_is_made_follow_it() -> None:
    makes = Gated()
    host = Host("parrot", "r1", makes)
    first = asyncio.create_task(host.configure(settings(context=64)))
    await makes.begun.wait()
    second = asyncio.create_task(host.configure(settings(context=128)))
    makes.gate.set()
    await asyncio.gather(first, second)
    assert [engine.capabilities().context for engine in makes.engines] == [64, 128]
    assert host.capabilities().context == 128
    await host.close()


async def test_closing_leaves_nothing(makes: Makes) -> None:
    before = asyncio.all_tasks()
    host = Host("parrot", "r1", makes)
    await host.configure(settings(options={"load_seconds": 30}))
    order(host)
    assert host.state() == "loading"
    await host.close()
    assert asyncio.all_tasks() == before
    gone = await items(host.generate(request()))
    assert failure(gone).code == "expert_lost"
