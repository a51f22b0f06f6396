"""The proxy in front: it drops clients that are slow on purpose, so that nobody waits for them,
and speaks for a gateway that is lost."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from capyra.deployments.environment import MODE
from rawhttp import Answer, Wire, connect, post
from serving import Server, start
from vitals import await_quiet

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

CHAT = "/v1/chat/completions"
CLIENT_S = 3
"""The patience of the proxy, and of the gateway: short, or these tests would take minutes."""
BODY_S = 2
SLACK_S = 12
"""How much later things may happen on a busy machine."""
MANY = 200
EXPERTS = f"""
experts:
  alpha:
    engine: echo
    keep_alive: -1
  beta:
    engine: echo
    keep_alive: -1
    options: {{tokens_per_second: 40}}
server:
  body: {{timeout: {BODY_S}}}
"""


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    """A server that waits for nobody for long."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S", str(CLIENT_S))
    lines, count = re.subn(
        r"(timeout http-request) \d+s",
        rf"\1 {CLIENT_S}s",
        MODE["RAY_SERVE_HAPROXY_BALANCE_ALGORITHM"],
    )
    assert count == 1
    patch.setenv("RAY_SERVE_HAPROXY_BALANCE_ALGORITHM", lines)
    try:
        running = start(EXPERTS)
    finally:
        patch.undo()
    yield running
    left = running.stop()
    shutil.rmtree(running.directory, ignore_errors=True)
    assert not left, left


def chat(expert: str, text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": expert, "messages": messages, "temperature": 0, **more}


# --- what the slow do ---------------------------------------------------------------------------

Slow = Callable[[Wire], Coroutine[Any, Any, None]]


async def headers_by_the_byte(wire: Wire) -> None:
    await wire.trickle(b"POST / HTTP/1.1\r\nhost: capyra\r\nx-slow: " + b"a" * 1000, gap_s=0.5)


async def headers_and_silence(wire: Wire) -> None:
    await wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: cap")
    await asyncio.Event().wait()


async def nothing(wire: Wire) -> None:
    await asyncio.Event().wait()


async def body_by_the_byte(wire: Wire) -> None:
    request = post(CHAT, chat("alpha", "x" * 1000))
    await wire.send(request.head)
    await wire.trickle(request.body, gap_s=0.5)


async def body_and_silence(wire: Wire) -> None:
    request = post(CHAT, chat("alpha", "x" * 1000))
    await wire.send(request.head + request.body[:-1])
    await asyncio.Event().wait()


async def endure(url: str, slow: Slow) -> tuple[Answer | None, float]:
    """What one of them is told, and how long its connection lives."""
    began = time.monotonic()
    async with asyncio.timeout(CLIENT_S + SLACK_S), connect(url) as wire:
        sending = asyncio.create_task(slow(wire))
        try:
            answer = await wire.answer()
            await wire.ended()
            return answer, time.monotonic() - began
        finally:
            sending.cancel()
            await asyncio.wait((sending,))


@pytest.mark.parametrize("slow", [headers_by_the_byte, headers_and_silence, nothing])
def test_slow_headers_are_dropped(hasty: Server, slow: Slow) -> None:
    answer, after = asyncio.run(endure(hasty.url, slow))
    # HAProxy's own page: the request never became one.
    assert answer is None or answer.status == 408
    assert CLIENT_S - 1 < after < CLIENT_S + SLACK_S


@pytest.mark.parametrize("slow", [body_by_the_byte, body_and_silence])
def test_a_slow_body_is_told_so(hasty: Server, slow: Slow) -> None:
    answer, after = asyncio.run(endure(hasty.url, slow))
    assert answer is not None
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    assert BODY_S - 1 < after < BODY_S + SLACK_S
    await_quiet(hasty)


# --- and what becomes of the others -------------------------------------------------------------


@asynccontextmanager
async def crowd(url: str) -> AsyncIterator[Counter[str]]:
    """Many slow clients of both kinds; whoever is dropped comes again. Counts the dropped."""
    dropped: Counter[str] = Counter()

    async def insist(slow: Slow) -> None:
        while True:
            answer, _ = await endure(url, slow)
            dropped[f"{slow.__name__} {answer and answer.status}"] += 1

    kinds = (headers_by_the_byte, body_by_the_byte)
    tasks = [asyncio.create_task(insist(kinds[n % 2])) for n in range(MANY)]
    try:
        yield dropped
    finally:
        failed = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in failed:
            task.result()


def test_many_slow_clients_starve_nobody(hasty: Server) -> None:
    async def ask() -> tuple[list[float], Counter[str]]:
        times = []
        async with crowd(hasty.url) as dropped, httpx.AsyncClient(base_url=hasty.url) as client:
            give_up = time.monotonic() + CLIENT_S + SLACK_S
            while dropped.total() < 2 * MANY and time.monotonic() < give_up:
                began = time.monotonic()
                answer = await client.post(CHAT, json=chat("alpha", "Hi"), timeout=30)
                times.append(time.monotonic() - began)
                assert answer.json()["choices"][0]["message"]["content"] == "Hi"
        return times, dropped

    times, dropped = asyncio.run(ask())
    times.sort()
    assert dropped.total() >= MANY
    assert len(times) >= 20
    assert times[len(times) // 2] < 1
    await_quiet(hasty)


def test_patience_with_clients_does_not_cut_answers(hasty: Server) -> None:
    text = "x" * (CLIENT_S + 3) * 40
    with hasty.client() as client:
        whole = client.post(CHAT, json=chat("beta", text))
        streamed = client.post(CHAT, json=chat("beta", text, stream=True))
    assert whole.json()["choices"][0]["message"]["content"] == text
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert min(whole.elapsed.total_seconds(), streamed.elapsed.total_seconds()) > CLIENT_S


def test_who_takes_nothing_is_dropped(hasty: Server) -> None:
    async def ask() -> None:
        request = post(CHAT, chat("alpha", "x" * 30_000, stream=True, n=16, logprobs=True))
        async with connect(hasty.url, receive_buffer=4096) as wire:
            await wire.send(request.head + request.body)
            await wire.reader.readline()
            wire.stop_reading()
            await asyncio.to_thread(await_quiet, hasty, CLIENT_S + 20 + SLACK_S)

    asyncio.run(ask())


# --- the gateway is lost ------------------------------------------------------------------------


def test_what_a_lost_gateway_had_is_asked_again_or_told_as_an_error(hasty: Server) -> None:
    """Where no byte of the answer was sent, HAProxy gives the request to the next gateway, if it
    still has all of it: 16 KiB. Else it tells the loss; or closes without a word where it had used
    the connection to the gateway before, because clients then try again by themselves.
    """
    (victim,) = hasty.pids()["gateway"]

    async def ask() -> tuple[list[Answer | None], list[Answer | None], Answer | None]:
        texts = ["x" * 400] * 8 + ["x" * 20_000] * 4
        lost = [asyncio.create_task(one(chat("beta", text, max_tokens=400))) for text in texts]
        await asyncio.sleep(2)
        os.kill(victim, signal.SIGKILL)
        answers = await asyncio.gather(*lost)
        return answers[:8], answers[8:], await one(chat("alpha", "Hi"))

    async def one(body: dict[str, Any]) -> Answer | None:
        request = post(CHAT, body, connection="close")
        async with asyncio.timeout(90), connect(hasty.url) as wire:
            await wire.send(request.head + request.body)
            return await wire.answer()

    small, large, later = asyncio.run(ask())
    told = [answer for answer in (*small, *large) if answer is not None and answer.status != 200]
    for answer in told:
        assert (answer.status, answer.error["code"]) == (502, "unavailable")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["retry-after"] == "1"
    assert any(answer is not None and answer.status == 200 for answer in small)
    assert not any(answer is not None and answer.status == 200 for answer in large)
    assert later is not None
    assert later.status == 200, later.body
