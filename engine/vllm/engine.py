"""The vLLM engine's asyncio side: it checks, prepares and reads; a driver does the work."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from capyra.engine import checks
from capyra.engine.base import Engine, ProgressSink
from capyra.engine.errors import (
    DeadlineExceeded,
    EngineFault,
    Unsupported,
)
from capyra.engine.loading import SharedLoad
from capyra.engine.native.outlet import Reader
from capyra.engine.registry import EngineSpec
from capyra.engine.tickets import Ticket, Tickets
from capyra.engine.types import (
    Capabilities,
    ChatPrompt,
    Done,
    Embeddings,
    EmbedRequest,
    EngineStats,
    Event,
    Finished,
    GenerateRequest,
    Limits,
    Prefilled,
    Progress,
    Prompt,
    Rendered,
    Sampling,
    Score,
    TextPrompt,
    TokenPrompt,
    Usage,
)
from capyra.engine.vllm.arguments import MOST_LOGPROBS, Plan, plan
from capyra.engine.vllm.driver import Driver, Tally
from capyra.engine.vllm.generation import Generation
from capyra.engine.vllm.language import Language
from capyra.engine.vllm.options import VllmOptions
from capyra.engine.vllm.reading import Scoring, Warming
from capyra.engine.vllm.shape import Shape
from capyra.engine.vllm.stages import OnStage
from capyra.engine.vllm.work import Work

T = TypeVar("T")
Start = Callable[[Plan, Tally, asyncio.AbstractEventLoop, OnStage], Driver]

_FORMATS = frozenset({"text", "json_object", "json_schema", "regex", "grammar"})
_LONG_TEXT = 4096
"""Characters that take milliseconds to tokenize: the asyncio loop must not wait for more."""
_NOT_WITH_SPECULATION = frozenset({"min_p", "logit_bias", "min_tokens"})
"""What vLLM does not apply to tokens that it verifies."""


class _GivenUp(Exception):
    """Raised inside a load that nobody waits for any more."""


class VllmEngine(Engine):
    """One driver at a time, on a thread that loads, runs and closes it."""

    def __init__(self, spec: EngineSpec, start: Start) -> None:
        assert spec.model is not None
        self._expert = spec.expert
        self._start = start
        options = VllmOptions.model_validate(spec.config.options)
        shape = Shape.of(spec.model)
        self._plan = plan(spec.model, spec.config, options, shape)
        template = Path(spec.config.chat_template) if spec.config.chat_template else None
        self._language = Language(spec.model, shape.vocabulary, template, options.tool_format)
        self._capabilities = self._describe(spec, options, shape)
        self._load = SharedLoad(self._bring_in)
        self._tally = Tally()
        self._machine: Driver | None = None
        self._running: asyncio.Future[None] | None = None
        self._tickets = Tickets[Work]()
        self._load_s = 0.0
        self._closed = False
        self._compute = ThreadPoolExecutor(1, thread_name_prefix=f"vllm-{spec.expert}")
        self._prepare = ThreadPoolExecutor(1, thread_name_prefix=f"prepare-{spec.expert}")

    def prepare(self, work: Callable[[], None]) -> None:
        """Something to do before the first load, without keeping anybody waiting."""
        self._compute.submit(work)

    # --- without weights --------------------------------------------------------------------

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def render(self, prompt: Prompt) -> Rendered:
        checks.check_prompt(prompt, self._capabilities)
        return self._language.render(prompt)

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return self._language.tokenizer.encode(text, special=special)

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return self._language.tokenizer.decode(token_ids, control=False)

    # --- loading and unloading --------------------------------------------------------------

    async def load(self, progress: ProgressSink) -> None:
        if self._closed:
            raise EngineFault(f"the engine of {self._expert!r} is closed")
        if self._machine is None:
            await self._load.join(progress)

    async def _bring_in(self, progress: ProgressSink) -> None:
        begin = time.monotonic()
        loop = asyncio.get_running_loop()
        leave = threading.Event()

        def on_stage(stage: str, fraction: float) -> None:
            if leave.is_set():
                raise _GivenUp
            loop.call_soon_threadsafe(progress, Progress(stage, fraction))

        # At once: the thread may still be busy with vLLM's imports.
        progress(Progress("starting", 0.0))
        building = loop.run_in_executor(
            self._compute, self._start, self._plan, self._tally, loop, on_stage
        )
        try:
            machine = await asyncio.shield(building)
        except asyncio.CancelledError:
            leave.set()
            await asyncio.wait([building])
            if building.exception() is None:
                # It was ready before it heard that nobody waits.
                await loop.run_in_executor(self._compute, building.result().close)
            del building
            raise
        self._machine = machine
        self._running = loop.run_in_executor(self._compute, machine.run)
        self._running.add_done_callback(self._park_if_broken)
        self._load_s += time.monotonic() - begin

    async def unload(self) -> None:
        await self._load.cancel()
        machine, self._machine = self._machine, None
        running, self._running = self._running, None
        if machine is None or running is None:
            return
        machine.stop()
        # In line behind the work, and before any load that begins from here on.
        closing = asyncio.get_running_loop().run_in_executor(self._compute, machine.close)
        await asyncio.wait([running])
        await closing

    def _park_if_broken(self, running: asyncio.Future[None]) -> None:
        """The thread ended by an error. Nothing goes on from there, but a new load begins
        afresh."""
        error = running.exception()
        machine = self._machine
        if error is None or machine is None:
            return
        fault = EngineFault(f"the engine of {self._expert!r} broke and has parked: {error!r}")
        fault.__cause__ = error
        traceback.clear_frames(error.__traceback__)
        self._machine = self._running = None
        self._compute.submit(machine.close)
        for work in self._tickets.works:
            work.over = True
            work.outlet.reader.receive([], over=True, error=fault)

    async def close(self) -> None:
        self._closed = True
        await self.unload()
        for threads in (self._compute, self._prepare):
            threads.shutdown(wait=True)

    # --- requests ---------------------------------------------------------------------------

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        checks.check(request, self._capabilities)
        self._loaded()
        ticket = self._tickets.take(request.id)
        timer = None
        try:
            prompt = await self._read(request.prompt)
            limit = checks.check_context(
                len(prompt.token_ids), request.limits, self._capabilities.context
            )
            if ticket.aborted:
                for index in range(request.n):
                    yield Finished(index, "cancelled")
                yield Done(Usage(len(prompt.token_ids), 0))
                return
            work = Generation(
                request,
                prompt.token_ids,
                self._language,
                limit=limit,
                shape=self._language.shape(request.prompt, request.format),
                preamble=_preamble(request, prompt),
            )
            if request.deadline_s is not None:
                timer = asyncio.get_running_loop().call_later(
                    request.deadline_s, _expire, work, request.deadline_s
                )
            async for event in self._submit(ticket, work):
                yield event
        finally:
            if timer is not None:
                timer.cancel()
            self._give_back(request.id, ticket)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        checks.check_embed(request, self._capabilities)
        raise EngineFault("this engine offers no embeddings, and was asked for some")

    async def score(
        self, prompt: Prompt, continuations: Sequence[str], *, cache_salt: str = ""
    ) -> list[Score]:
        checks.check_prompt(prompt, self._capabilities)
        self._loaded()
        name = self._tickets.unused("score")
        ticket = self._tickets.take(name)
        try:
            read = await self._read(prompt)
            written = [tuple(self.tokenize(text)) for text in continuations]
            if not any(written):
                return [Score(0.0, ()) for _ in written]
            # vLLM writes a token after whatever it reads.
            self._fits(len(read.token_ids), max(map(len, written)) + 1)
            work = Scoring(name, read.token_ids, written, cache_salt)
            scores: list[Score] = await self._result(ticket, work, list)
            return scores
        finally:
            self._give_back(name, ticket)

    async def prefill(self, prefix: Prompt, *, ttl_s: float, cache_salt: str = "") -> Prefilled:
        checks.check_prompt(prefix, self._capabilities)
        if not self._capabilities.prefill:
            raise Unsupported("this expert keeps no prefixes", param="prefix")
        machine = self._loaded()
        name = self._tickets.unused("prefill")
        ticket = self._tickets.take(name)
        try:
            read = await self._read(prefix, answer=False)
            self._fits(len(read.token_ids), 1)
            work = Warming(name, read.token_ids, block=machine.block, ttl_s=ttl_s, salt=cache_salt)
            return await self._result(ticket, work, Prefilled)
        finally:
            self._give_back(name, ticket)

    def abort(self, request_id: str) -> bool:
        ticket = self._tickets.find(request_id)
        if ticket is None:
            return False
        ticket.aborted = True
        if ticket.work is not None and self._machine is not None:
            self._machine.abort(request_id)
        return True

    def stats(self) -> EngineStats:
        tally, machine = self._tally, self._machine
        under_way = self._tickets.open
        running = min(tally.running, under_way)
        return EngineStats(
            loaded=machine is not None,
            running=running,
            waiting=under_way - running,
            weight_bytes=machine.weight_bytes if machine is not None else 0,
            kv_bytes=machine.kv_bytes if machine is not None else 0,
            kv_used=tally.kv_used if machine is not None else 0.0,
            prompt_tokens=tally.prompt_tokens,
            cached_tokens=tally.cached_tokens,
            completion_tokens=tally.completion_tokens,
            seconds={"load": self._load_s, "prefill": tally.prefill_s, "decode": tally.decode_s},
        )

    # --- helpers ----------------------------------------------------------------------------

    def _loaded(self) -> Driver:
        if self._machine is None:
            raise EngineFault(f"the engine of {self._expert!r} has no weights: load them first")
        return self._machine

    def _give_back(self, name: str, ticket: Ticket[Work]) -> None:
        self._tickets.give_back(name)
        if ticket.work is not None and self._machine is not None:
            self._machine.drop(name)

    async def _read(self, prompt: Prompt, *, answer: bool = True) -> Rendered:
        if not _is_long(prompt):
            return self._language.render(prompt, answer=answer)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._prepare, lambda: self._language.render(prompt, answer=answer)
        )

    def _submit(self, ticket: Ticket[Work], work: Work) -> Reader:
        """What comes of the work."""
        machine = self._loaded()
        ticket.work = work
        machine.submit(work)
        return work.outlet.reader

    async def _result(self, ticket: Ticket[Work], work: Work, kind: type[T]) -> T:
        """The one thing that comes of the work."""
        async for item in self._submit(ticket, work):
            assert isinstance(item, kind)
            return item
        raise EngineFault(f"nothing came of request {work.name!r}")

    def _fits(self, prompt: int, rest: int) -> None:
        checks.check_context(prompt, Limits(max_tokens=rest), self._capabilities.context)

    def _describe(self, spec: EngineSpec, options: VllmOptions, shape: Shape) -> Capabilities:
        parameters = {each.name for each in (*fields(Sampling), *fields(Limits))}
        if spec.config.speculation.method != "off":
            parameters -= _NOT_WITH_SPECULATION
        return Capabilities(
            context=self._plan.context,
            max_batch=spec.config.queue.running,
            vocabulary=shape.vocabulary,
            tools=self._language.tools,
            formats=_FORMATS,
            logprobs=MOST_LOGPROBS,
            prompt_logprobs=True,
            scoring=True,
            prefill=options.enable_prefix_caching,
            parameters=frozenset(parameters),
        )


def _expire(work: Work, seconds: float) -> None:
    error = DeadlineExceeded(f"the request's {seconds:g} s are over")
    work.outlet.reader.receive([], over=True, error=error)


def _preamble(request: GenerateRequest, prompt: Rendered) -> str:
    """The prompt's text, where the answer is to begin with it."""
    if not request.echo:
        return ""
    return request.prompt.text if isinstance(request.prompt, TextPrompt) else prompt.text


def _is_long(prompt: Prompt) -> bool:
    if isinstance(prompt, ChatPrompt):
        return sum(len(message.text) for message in prompt.messages) > _LONG_TEXT
    return not isinstance(prompt, TokenPrompt) and len(prompt.text) > _LONG_TEXT
