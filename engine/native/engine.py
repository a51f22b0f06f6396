"""The native engine: one expert's model, computed by torch on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from capyra.engine import checks
from capyra.engine.base import Engine, ProgressSink
from capyra.engine.errors import ConfigError, EngineFault
from capyra.engine.loading import SharedLoad
from capyra.engine.native.answers import Answers
from capyra.engine.native.blueprint import Blueprint
from capyra.engine.native.embedding import Embedding
from capyra.engine.native.generation import Generation, Read
from capyra.engine.native.language import Language
from capyra.engine.native.machine import Builder, Machine, build
from capyra.engine.native.memory import give_back
from capyra.engine.native.options import NativeOptions
from capyra.engine.native.outlet import Outlet, Reader
from capyra.engine.native.prefix import root_key
from capyra.engine.native.scoring import Scoring
from capyra.engine.native.tally import Tally
from capyra.engine.native.warming import Warming
from capyra.engine.native.work import Work
from capyra.engine.registry import EngineSpec
from capyra.engine.tickets import Ticket, Tickets
from capyra.engine.types import (
    Capabilities,
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

T = TypeVar("T")

_LOGPROBS = 20
_FORMATS = frozenset({"text", "json_object", "json_schema", "regex", "grammar"})


def create(spec: EngineSpec) -> NativeEngine:
    """The engine of an expert, parked. `ModelError` if its directory is no model that runs."""
    if spec.model is None:
        raise ConfigError(
            f"`model` of {spec.expert} names no directory, and this version does not fetch models: "
            "name the directory of its files"
        )
    return NativeEngine(spec)


class _GivenUp(Exception):
    """Raised inside a load that nobody waits for any more."""


class NativeEngine(Engine):
    """The asyncio side: it checks, prepares and reads; `Machine.loop` does the work."""

    def __init__(self, spec: EngineSpec, build: Builder = build) -> None:
        assert spec.model is not None
        self._build = build
        self._expert = spec.expert
        self._options = NativeOptions.model_validate(spec.config.options)
        self._blueprint = Blueprint.of(spec, self._options)
        template = Path(spec.config.chat_template) if spec.config.chat_template else None
        self._language = Language(spec.model, self._blueprint.spec, template)
        self._answers = Answers(
            self._language, self._blueprint.spec.vocab_size, self._options.tool_format
        )
        self._capabilities = self._describe(spec)
        self._load = SharedLoad(self._bring_in)
        self._tally = Tally()
        self._machine: Machine | None = None
        self._running: asyncio.Future[None] | None = None
        self._tickets = Tickets[Work]()
        self._load_s = 0.0
        self._closed = False
        # One thread computes; the other loads, and reads prompts that take long.
        self._compute = ThreadPoolExecutor(1, thread_name_prefix=f"native-{spec.expert}")
        self._prepare = ThreadPoolExecutor(1, thread_name_prefix=f"prepare-{spec.expert}")

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

        building = loop.run_in_executor(
            self._prepare, self._build, self._blueprint, self._tally, loop, on_stage
        )
        try:
            machine = await asyncio.shield(building)
        except asyncio.CancelledError:
            leave.set()
            await asyncio.wait([building])
            building.exception()
            del building
            await loop.run_in_executor(self._prepare, give_back)
            raise
        self._machine = machine
        self._running = loop.run_in_executor(self._compute, machine.loop.run)
        self._running.add_done_callback(self._park_if_broken)
        self._load_s += time.monotonic() - begin

    async def unload(self) -> None:
        await self._load.cancel()
        machine, self._machine = self._machine, None
        running, self._running = self._running, None
        if machine is None or running is None:
            return
        machine.loop.stop()
        await asyncio.wait([running])
        del machine, running
        await asyncio.get_running_loop().run_in_executor(self._prepare, give_back)

    def _park_if_broken(self, running: asyncio.Future[None]) -> None:
        """The thread ended by an error: one of our invariants broke. Nothing goes on from there,
        but a new load begins afresh."""
        error = running.exception()
        if error is None:
            return
        fault = EngineFault(f"the engine of {self._expert!r} broke and has parked: {error!r}")
        fault.__cause__ = error
        self._machine = self._running = None
        for work in self._tickets.works:
            work.over = True
            work.outlet.reader.receive([], over=True, error=fault)

    async def close(self) -> None:
        self._closed = True
        await self.unload()
        self._answers.close()
        for threads in (self._compute, self._prepare):
            threads.shutdown(wait=True)

    # --- requests ---------------------------------------------------------------------------

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        checks.check(request, self._capabilities)
        self._loaded()
        ticket = self._tickets.take(request.id)
        deadline = self._deadline(request.deadline_s)
        try:
            prompt = await self._read(request.prompt)
            room = checks.check_context(
                len(prompt.tokens), request.limits, self._capabilities.context
            )
            answers = await self._answers.prepare(request, prompt, room)
            if ticket.aborted:
                for index in range(request.n):
                    yield Finished(index, "cancelled")
                yield Done(Usage(len(prompt.tokens), 0))
                return
            work = Generation(
                request,
                prompt,
                answers,
                self._outlet(),
                time.monotonic,
                words=self._language.words,
                root=self._roots(request.cache_salt),
                deadline=deadline,
                preamble=self._language.preamble(request.prompt, prompt) if request.echo else "",
            )
            async for event in self._submit(ticket, work):
                yield event
        finally:
            self._give_back(request.id, ticket)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        checks.check_embed(request, self._capabilities)
        self._loaded()
        if not request.inputs:
            return Embeddings((), 0)
        ticket = self._tickets.take(request.id)
        try:
            inputs = [await self._read_input(item) for item in request.inputs]
            for tokens in inputs:
                self._fits(len(tokens), 0)
            work = Embedding(
                request.id,
                inputs,
                self._outlet(),
                time.monotonic,
                pooling=request.pooling or "mean",
                normalize=request.normalize,
                root=self._roots(request.cache_salt),
                tenant=request.cache_salt,
                deadline=self._deadline(request.deadline_s),
            )
            return await self._result(ticket, work, Embeddings)
        finally:
            self._give_back(request.id, ticket)

    async def score(
        self, prompt: Prompt, continuations: Sequence[str], *, cache_salt: str = ""
    ) -> list[Score]:
        checks.check_prompt(prompt, self._capabilities)
        self._loaded()
        if not continuations:
            return []
        name = self._tickets.unused("score")
        ticket = self._tickets.take(name)
        try:
            read = await self._read(prompt)
            written = [tuple(self.tokenize(text)) for text in continuations]
            self._fits(len(read.tokens), max(map(len, written)))
            work = Scoring(
                name,
                read,
                written,
                self._outlet(),
                time.monotonic,
                root=self._roots(cache_salt),
                tenant=cache_salt,
            )
            scores: list[Score] = await self._result(ticket, work, list)
            return scores
        finally:
            self._give_back(name, ticket)

    async def prefill(self, prefix: Prompt, *, ttl_s: float, cache_salt: str = "") -> Prefilled:
        checks.check_prompt(prefix, self._capabilities)
        self._loaded()
        name = self._tickets.unused("prefill")
        ticket = self._tickets.take(name)
        try:
            read = await self._read(prefix, answer=False)
            self._fits(len(read.tokens), 0)
            work = Warming(
                name,
                read,
                self._outlet(),
                time.monotonic,
                ttl_s=ttl_s,
                root=self._roots(cache_salt),
                tenant=cache_salt,
            )
            return await self._result(ticket, work, Prefilled)
        finally:
            self._give_back(name, ticket)

    def abort(self, request_id: str) -> bool:
        ticket = self._tickets.find(request_id)
        if ticket is None:
            return False
        ticket.aborted = True
        if ticket.work is not None and self._machine is not None:
            self._machine.loop.abort(request_id)
        return True

    def stats(self) -> EngineStats:
        moment, machine = self._tally.moment, self._machine
        under_way = self._tickets.open
        running = min(moment.running, under_way)
        return EngineStats(
            loaded=machine is not None,
            running=running,
            waiting=under_way - running,
            weight_bytes=machine.weight_bytes if machine is not None else 0,
            kv_bytes=machine.kv_bytes if machine is not None else 0,
            kv_used=moment.kv_used,
            prompt_tokens=moment.prompt_tokens,
            cached_tokens=moment.cached_tokens,
            completion_tokens=moment.completion_tokens,
            seconds={
                "load": self._load_s,
                "prefill": moment.prefill_s,
                "decode": moment.decode_s,
            },
        )

    # --- helpers ----------------------------------------------------------------------------

    def _loaded(self) -> Machine:
        if self._machine is None:
            raise EngineFault(f"the engine of {self._expert!r} has no weights: load them first")
        return self._machine

    def _give_back(self, name: str, ticket: Ticket[Work]) -> None:
        self._tickets.give_back(name)
        if ticket.work is not None and self._machine is not None:
            self._machine.loop.drop(name)

    async def _read(self, prompt: Prompt, *, answer: bool = True) -> Read:
        if not self._language.is_long(prompt):
            return self._language.read(prompt, answer=answer)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._prepare, lambda: self._language.read(prompt, answer=answer)
        )

    async def _read_input(self, item: TextPrompt | TokenPrompt) -> Sequence[int]:
        ends = self._language.tokenizer.ends
        if ends and item in (TextPrompt(""), TokenPrompt(())):
            # A text of nothing has a vector too: that of a text which ends at once.
            return [min(ends)]
        return (await self._read(item)).tokens

    def _submit(self, ticket: Ticket[Work], work: Work) -> Reader:
        """What comes of the work."""
        loop = self._loaded().loop
        ticket.work = work
        work.outlet.reader.taken = lambda count: loop.taken(work.name, count)
        loop.submit(work)
        return work.outlet.reader

    async def _result(self, ticket: Ticket[Work], work: Work, kind: type[T]) -> T:
        """The one thing that comes of the work."""
        async for item in self._submit(ticket, work):
            assert isinstance(item, kind)
            return item
        raise EngineFault(f"nothing came of request {work.name!r}")

    def _outlet(self) -> Outlet:
        return Outlet(self._options.lag)

    def _fits(self, prompt: int, rest: int) -> None:
        checks.check_context(prompt, Limits(max_tokens=rest), self._capabilities.context)

    @staticmethod
    def _deadline(seconds: float | None) -> float | None:
        return None if seconds is None else time.monotonic() + seconds

    def _roots(self, salt: str) -> Callable[[int], bytes]:
        """The namespace of a sequence by its length: see `Run.long`."""
        after = self._blueprint.spec.long_after
        short, long = (root_key(self._expert, "", salt, kind) for kind in ("", "long"))
        return lambda tokens: long if after is not None and tokens > after else short

    def _describe(self, spec: EngineSpec) -> Capabilities:
        sampling = (each.name for each in (*fields(Sampling), *fields(Limits)))
        template = self._language.template
        return Capabilities(
            context=self._blueprint.context,
            max_batch=spec.config.queue.running,
            vocabulary=self._blueprint.spec.vocab_size,
            images=self._blueprint.spec.vision is not None,
            tools=template is not None and "tools" in template.source,
            formats=_FORMATS,
            logprobs=_LOGPROBS,
            prompt_logprobs=True,
            embeddings=True,
            scoring=True,
            prefill=True,
            parameters=frozenset(sampling),
        )
