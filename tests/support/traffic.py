"""Streams that run in the background while a test does something to the server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx


@dataclass
class Stream:
    """One streamed answer, as its client saw it."""

    expert: str
    text: str = ""
    finish: str | None = None
    status: int = 0
    error: str | None = None
    broken: str | None = None
    """How the connection failed; None if it ended as it should."""

    @property
    def whole(self) -> bool:
        return self.finish == "stop" and self.error is None and self.broken is None


async def stream(client: httpx.AsyncClient, expert: str, prompt: str) -> Stream:
    """Ask for an answer and read it to its end, however it ends."""
    seen = Stream(expert)
    body = {
        "model": expert,
        "stream": True,
        "temperature": 0,
        "messages": [{"role": "user", "content": prompt}],
    }
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            seen.status = response.status_code
            if response.status_code != 200:
                seen.error = _code(await response.aread())
                return seen
            async for line in response.aiter_lines():
                _read(seen, line)
    except httpx.HTTPError as error:
        seen.broken = repr(error)
    return seen


def _code(body: bytes) -> str:
    try:
        found: str = json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return f"not ours: {body[:80]!r}"
    return found


def _read(seen: Stream, line: str) -> None:
    if not line.startswith("data: ") or line == "data: [DONE]":
        return
    event = json.loads(line.removeprefix("data: "))
    if "error" in event:
        seen.error = event["error"]["code"]
        return
    for choice in event["choices"]:
        seen.text += choice["delta"].get("content") or ""
        seen.finish = choice["finish_reason"] or seen.finish


@dataclass
class Traffic:
    """What the background streams came to."""

    streams: list[Stream] = field(default_factory=list)

    @property
    def failures(self) -> Counter[str]:
        return Counter(s.error or s.broken or "cut" for s in self.streams if not s.whole)


@contextmanager
def traffic(url: str, experts: Sequence[str], count: int, prompt: str) -> Iterator[Traffic]:
    """`count` streams at any time, over the experts in turn; at the end all are read out."""
    found = Traffic()
    stop = threading.Event()
    started = threading.Semaphore(0)

    async def keep_asking(client: httpx.AsyncClient, number: int) -> None:
        expert = experts[number % len(experts)]
        started.release()
        while not stop.is_set():
            found.streams.append(await stream(client, expert, prompt))

    async def main() -> None:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
            await asyncio.gather(*(keep_asking(client, number) for number in range(count)))

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        for _ in range(count):
            started.acquire()
        yield found
    finally:
        stop.set()
        thread.join()
