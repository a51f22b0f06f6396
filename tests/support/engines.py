"""The engines that pass the contract suite: how each is made, and words to speak with it."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from capyra.engine.base import Engine
from capyra.engine.config import ExpertConfig
from capyra.engine.registry import EngineSpec, create
from capyra.engine.types import (
    ChatPrompt,
    Delta,
    Done,
    Event,
    Finished,
    GenerateRequest,
    Limits,
    Message,
    Progress,
    Sampling,
    Started,
    TextPart,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

PROMPT = "The quick brown fox jumps over the lazy dog, and nobody knows why it does so again."
GREEDY = Sampling(temperature=0)
PATIENCE_S = 30.0


class Maker(ABC):
    """How one engine is made for the suite. What an engine has no way to do stays None, and the
    tests that need it are skipped."""

    name: str
    package: str
    tolerance: float = 1e-4
    """How far log-probabilities of the same thing, computed another way, may lie apart."""
    slow: ClassVar[Mapping[str, Any] | None] = None
    """Options with which an answer takes many seconds."""

    @property
    def missing(self) -> bool:
        # A folder of that name anywhere on the path is found too, without an origin.
        found = importlib.util.find_spec(self.package)
        return found is None or found.origin is None

    @abstractmethod
    def build(self, folder: Path, options: Mapping[str, Any], **config: Any) -> Engine:
        """The engine, parked; `folder` is empty and its own, `config` is of `ExpertConfig`."""

    def heavy(self, folder: Path) -> tuple[Engine, int] | None:
        """An engine, and the bytes that a load takes at least."""
        return None

    def failing(self, folder: Path) -> tuple[Engine, Callable[[], object]] | None:
        """An engine whose load fails, and what mends it."""
        return None

    def loading(self, folder: Path) -> Engine | None:
        """An engine that takes many seconds to load."""
        return None


class EchoMaker(Maker):
    name = "echo"
    package = "capyra.engine.echo"
    slow: ClassVar[Mapping[str, Any]] = {"tokens_per_second": 10}

    def build(self, folder: Path, options: Mapping[str, Any], **config: Any) -> Engine:
        settings = {"context": 2048, **config}
        return create(
            EngineSpec("echo", ExpertConfig(engine="echo", options=dict(options), **settings))
        )

    def heavy(self, folder: Path) -> tuple[Engine, int]:
        size = 32 * 2**20
        return self.build(folder, {"memory": size}), size

    def failing(self, folder: Path) -> tuple[Engine, Callable[[], object]]:
        return self.build(folder, {"fail_load": 1}), lambda: None

    def loading(self, folder: Path) -> Engine:
        return self.build(folder, {"load_seconds": "1h", "memory": "1MiB"})


class NativeMaker(Maker):
    """`tiny` brings torch: only who makes such an engine imports it."""

    name = "native"
    package = "capyra.engine.native"
    slow: ClassVar[Mapping[str, Any]] = {"lag": 255}

    def build(self, folder: Path, options: Mapping[str, Any], **config: Any) -> Engine:
        from tiny import native, slow_steps, tiny_model

        steps = {"build": slow_steps} if options == self.slow else {}
        return native(tiny_model(folder), options, **steps, **config)

    def heavy(self, folder: Path) -> tuple[Engine, int]:
        from tiny import native, tiny_model

        model = tiny_model(folder, vocab_size=40_000, hidden=128)
        return native(model), 32 * 2**20

    def failing(self, folder: Path) -> tuple[Engine, Callable[[], object]]:
        from tiny import native, tiny_model

        weights = tiny_model(folder) / "model.safetensors"
        away = weights.rename(folder / "away")
        return native(folder), lambda: shutil.move(away, weights)

    def loading(self, folder: Path) -> Engine:
        from tiny import native, slow_load, tiny_model

        return native(tiny_model(folder), build=slow_load)


class VllmMaker(Maker):
    """Its models are wider: vLLM's attention has no heads of less than 32 dimensions."""

    name = "vllm"
    package = "vllm"
    slow: ClassVar[Mapping[str, Any]] = {"block_size": 32}

    def build(self, folder: Path, options: Mapping[str, Any], **config: Any) -> Engine:
        from tiny import tiny_model
        from tiny_vllm import slow_steps, vllm

        start = {"start": slow_steps} if options == self.slow else {}
        return vllm(tiny_model(folder, hidden=128), options, **start, **config)

    def heavy(self, folder: Path) -> tuple[Engine, int]:
        from tiny import tiny_model
        from tiny_vllm import vllm

        return vllm(tiny_model(folder, vocab_size=80_000, hidden=128)), 64 * 2**20

    def failing(self, folder: Path) -> tuple[Engine, Callable[[], object]]:
        from tiny import tiny_model
        from tiny_vllm import vllm

        weights = tiny_model(folder, hidden=128) / "model.safetensors"
        away = weights.rename(folder / "away")
        return vllm(folder), lambda: shutil.move(away, weights)

    def loading(self, folder: Path) -> Engine:
        from tiny import tiny_model
        from tiny_vllm import slow_load, vllm

        return vllm(tiny_model(folder, hidden=128), start=slow_load)


MAKERS: dict[str, Maker] = {
    maker.name: maker for maker in (EchoMaker(), NativeMaker(), VllmMaker())
}


@dataclass
class Answer:
    """One answer, put together from its events."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finished: Finished | None = None


@dataclass
class Answers:
    """All answers of a request; being made, it checks the grammar of their events."""

    started: Started | None
    answers: list[Answer]
    usage: Usage
    events: list[Event]

    @property
    def text(self) -> str:
        return self.answers[0].text

    @property
    def tokens(self) -> list[int]:
        return self.answers[0].tokens

    @property
    def reason(self) -> str:
        finished = self.answers[0].finished
        assert finished is not None
        return finished.reason

    @property
    def stop(self) -> str | int | None:
        finished = self.answers[0].finished
        assert finished is not None
        return finished.stop


def collect(events: list[Event], n: int) -> Answers:
    """The answers of these events, which must follow the contract's grammar."""
    assert isinstance(events[-1], Done), events[-1]
    assert all(not isinstance(event, Done) for event in events[:-1])
    started = events[0] if isinstance(events[0], Started) else None
    answers = [Answer() for _ in range(n)]
    for event in events[1 if started else 0 : -1]:
        assert isinstance(event, Delta | ToolCallDelta | Finished), event
        answer = answers[event.index]
        assert answer.finished is None, f"{event} after the end of its answer"
        if isinstance(event, Finished):
            answer.finished = event
        elif isinstance(event, Delta):
            assert event.text or event.token_ids, "a piece of nothing"
            assert event.logprobs is None or len(event.logprobs) == len(event.token_ids)
            answer.text += event.text
            answer.tokens += event.token_ids
            answer.logprobs += event.logprobs or ()
    assert all(answer.finished for answer in answers)
    usage = events[-1].usage
    assert usage.completion_tokens == sum(len(answer.tokens) for answer in answers)
    if started:
        assert (usage.prompt_tokens, usage.cached_tokens) == (
            started.prompt_tokens,
            started.cached_tokens,
        )
    return Answers(started, answers, usage, events)


def chat(text: str, *, system: str = "") -> ChatPrompt:
    messages = [Message("system", (TextPart(system),))] if system else []
    return ChatPrompt((*messages, Message("user", (TextPart(text),))))


def request(
    text: str = PROMPT,
    *,
    id: str = "r",  # noqa: A002 - the request's own word
    max_tokens: int | None = 24,
    sampling: Sampling = GREEDY,
    limits: Mapping[str, Any] | None = None,
    **fields: Any,
) -> GenerateRequest:
    """A greedy chat of 24 tokens, unless told otherwise."""
    fields.setdefault("prompt", chat(text))
    return GenerateRequest(
        id=id, sampling=sampling, limits=Limits(max_tokens=max_tokens, **(limits or {})), **fields
    )


async def ask(engine: Engine, asked: GenerateRequest) -> Answers:
    """Read the stream to its end."""
    async with asyncio.timeout(PATIENCE_S), aclosing(engine.generate(asked)) as stream:
        return collect([event async for event in stream], asked.n)


async def until(condition: Callable[[], bool]) -> None:
    """Let others go on until this is so."""
    async with asyncio.timeout(PATIENCE_S):
        # An engine's counters have no event to wait for.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def idle(engine: Engine) -> bool:
    stats = engine.stats()
    return stats.running == 0 and stats.waiting == 0


def ignore(progress: Progress) -> None:
    """For loads that nobody watches."""


@asynccontextmanager
async def reading(engine: Engine, asked: GenerateRequest) -> AsyncIterator[Reader]:
    """A request that is read in the background; it is cancelled at the end."""
    reader = Reader(engine, asked)
    try:
        yield reader
    finally:
        reader.task.cancel()
        await asyncio.wait([reader.task])


class Reader:
    """Reads a stream in a task of its own."""

    def __init__(self, engine: Engine, asked: GenerateRequest) -> None:
        self.events: list[Event] = []
        self._asked = asked
        self.task = asyncio.create_task(self._read(engine))

    async def answers(self) -> Answers:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(self.task)
        return collect(self.events, self._asked.n)

    async def _read(self, engine: Engine) -> None:
        async with aclosing(engine.generate(self._asked)) as stream:
            async for event in stream:
                self.events.append(event)
