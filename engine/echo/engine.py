"""A deterministic engine that answers with what it was told last.

It is a real engine in all but the model: a vocabulary, a distribution that sampling acts on, a
batch with a waiting room, a prefix cache, memory that a load takes and an unload gives back.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import mmap
from collections.abc import AsyncGenerator, Sequence
from dataclasses import fields

import numpy as np

from capyra.engine import checks
from capyra.engine.base import Engine, ProgressSink
from capyra.engine.echo import embedding, model, requests, vocabulary, weights
from capyra.engine.echo.batch import Batch, Job
from capyra.engine.echo.cache import PrefixCache
from capyra.engine.echo.options import EchoOptions
from capyra.engine.echo.template import render
from capyra.engine.errors import Cancelled, DeadlineExceeded, EngineFault, InvalidValue, LoadFailed
from capyra.engine.loading import SharedLoad
from capyra.engine.registry import EngineSpec
from capyra.engine.types import (
    Capabilities,
    Embeddings,
    EmbedRequest,
    EngineStats,
    Event,
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
)

CONTEXT = 32768
_LOGPROBS = 20


def create(spec: EngineSpec) -> EchoEngine:
    return EchoEngine(spec)


class EchoEngine(Engine):
    """Serves one expert on the loop itself: what it computes is too little for a thread."""

    def __init__(self, spec: EngineSpec) -> None:
        self._expert = spec.expert
        self._options = EchoOptions.model_validate(spec.config.options)
        self._capabilities = _capabilities(spec)
        self._cache = PrefixCache(self._options.cache_tokens)
        self._batch = Batch(
            spec.config.queue.running,
            self._cache,
            decode_speed=self._options.tokens_per_second,
            prefill_speed=self._options.prefill_tokens_per_second,
        )
        self._load = SharedLoad(self._load_weights)
        self._loaded = False
        self._closed = False
        self._memory: mmap.mmap | None = None
        self._failed_loads = 0
        self._load_s = 0.0
        self._prefills = itertools.count()
        self._driver: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def render(self, prompt: Prompt) -> Rendered:
        checks.check_prompt(prompt, self._capabilities)
        tokens = render(prompt)
        return Rendered(tuple(tokens), vocabulary.show(tokens))

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return vocabulary.tokenize(text, special=special)

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return vocabulary.detokenize(token_ids)

    async def load(self, progress: ProgressSink) -> None:
        if self._closed:
            raise EngineFault(f"the engine of {self._expert!r} is closed")
        if not self._loaded:
            await self._load.join(progress)

    async def _load_weights(self, progress: ProgressSink) -> None:
        begin = self._now()
        fails = self._options.fail_load
        if fails == "always" or (isinstance(fails, int) and self._failed_loads < fails):
            self._failed_loads += 1
            progress(Progress("weights", 0.0))
            raise LoadFailed(f"the load of {self._expert!r} failed, as `fail_load` asks")
        self._memory = await weights.load(
            self._options.memory, self._options.load_seconds, progress
        )
        self._load_s += self._now() - begin
        self._loaded = True

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        self._require_loaded()
        job = requests.job(request, self._capabilities, self._options)
        async with self._work(job, request.deadline_s) as news:
            while True:
                news.clear()
                while job.events:
                    yield job.events.popleft()
                if job.error is not None:
                    raise job.error
                if job.over:
                    return
                if self._batch.resume(job, self._now()):
                    self._drive_on()
                await news.wait()

    async def embed(self, request: EmbedRequest) -> Embeddings:
        checks.check_embed(request, self._capabilities)
        self._require_loaded()
        pieces = [self._embeddable(item) for item in request.inputs]
        vectors = []
        for piece in pieces:
            vectors.append(
                embedding.embed(piece, self._options.embedding_size, normalize=request.normalize)
            )
            await asyncio.sleep(0)
        return Embeddings(tuple(vectors), sum(map(len, pieces)))

    async def score(
        self, prompt: Prompt, continuations: Sequence[str], *, cache_salt: str = ""
    ) -> list[Score]:
        checks.check_prompt(prompt, self._capabilities)
        self._require_loaded()
        tokens = render(prompt)
        scores = []
        for continuation in continuations:
            written = vocabulary.tokenize(continuation)
            checks.check_context(
                len(tokens), Limits(max_tokens=len(written)), self._capabilities.context
            )
            scores.append(_score(tokens, written))
            await asyncio.sleep(0)
        self._cache.insert(cache_salt, tokens, self._now())
        return scores

    async def prefill(self, prefix: Prompt, *, ttl_s: float, cache_salt: str = "") -> Prefilled:
        checks.check_prompt(prefix, self._capabilities)
        self._require_loaded()
        tokens = render(prefix, answer=False)
        checks.check_context(len(tokens), Limits(max_tokens=0), self._capabilities.context)
        job = Job(
            id=f"\0prefill-{next(self._prefills)}",  # no caller's id has a NUL
            salt=cache_salt,
            prompt=tokens,
            priority=-math.inf,
            keep_s=ttl_s,
        )
        async with self._work(job) as news:
            while not job.over:
                news.clear()
                await news.wait()
        if not job.started:
            raise Cancelled("the expert was unloaded before the prefix was read")
        return Prefilled(self._cache.match(cache_salt, tokens), job.cached, ttl_s)

    def abort(self, request_id: str) -> bool:
        found = self._batch.abort(request_id, self._now())
        self._wake.set()
        return found

    async def unload(self) -> None:
        await self._load.cancel()
        # From here on a new load may begin: what is given back is the old one's.
        memory, self._memory, self._loaded = self._memory, None, False
        for job in self._batch.jobs:
            self._batch.abort(job.id, self._now())
        self._cache.clear()
        if memory is not None:
            memory.close()
        self._wake.set()
        if self._driver is not None:
            await self._driver

    def stats(self) -> EngineStats:
        totals = self._batch.totals
        return EngineStats(
            loaded=self._loaded,
            running=self._batch.running,
            waiting=self._batch.waiting,
            weight_bytes=self._options.memory if self._loaded else 0,
            kv_used=self._cache.used,
            prompt_tokens=totals.prompt_tokens,
            cached_tokens=totals.cached_tokens,
            completion_tokens=self._batch.completion_tokens,
            seconds={
                "load": self._load_s,
                "prefill": totals.prefill_s,
                "decode": totals.decode_s,
            },
        )

    async def close(self) -> None:
        self._closed = True
        await self.unload()

    def _embeddable(self, item: TextPrompt | TokenPrompt) -> bytes:
        text = item.text if isinstance(item, TextPrompt) else vocabulary.detokenize(item.token_ids)
        tokens = vocabulary.tokenize(text)
        checks.check_context(len(tokens), Limits(max_tokens=0), self._capabilities.context)
        return bytes(tokens)

    def _require_loaded(self) -> None:
        if not self._loaded:
            raise EngineFault(f"the engine of {self._expert!r} has no weights: load them first")

    @contextlib.asynccontextmanager
    async def _work(
        self, job: Job, deadline_s: float | None = None
    ) -> AsyncGenerator[asyncio.Event, None]:
        """The job is in the batch, and out of it at the end, whatever ends it. What comes is set
        whenever there are news of the job."""
        if job.id in self._batch:
            raise InvalidValue(f"a request with the id {job.id!r} is under way", param="id")
        news = asyncio.Event()
        job.notify = news.set
        timer = None
        if deadline_s is not None:
            timer = asyncio.get_running_loop().call_later(deadline_s, self._expire, job, deadline_s)
        self._batch.submit(job, self._now())
        self._drive_on()
        try:
            yield news
        finally:
            if timer is not None:
                timer.cancel()
            self._batch.drop(job)
            self._wake.set()

    def _expire(self, job: Job, deadline_s: float) -> None:
        self._batch.fail(job, DeadlineExceeded(f"the request's {deadline_s:g} s are over"))
        self._wake.set()

    def _drive_on(self) -> None:
        """See to it that turns are taken as long as there is work."""
        self._wake.set()
        if self._driver is None and self._batch.busy:
            self._driver = asyncio.create_task(self._drive(), name=f"echo-{self._expert}")

    async def _drive(self) -> None:
        try:
            while self._batch.busy:
                self._wake.clear()
                due = self._batch.turn(self._now())
                if due > self._now():
                    await self._sleep_until(due)
                else:
                    await asyncio.sleep(0)
        finally:
            self._driver = None

    async def _sleep_until(self, due: float) -> None:
        """Until then, or until something has changed."""
        timer = None
        if due < math.inf:
            timer = asyncio.get_running_loop().call_at(due, self._wake.set)
        try:
            if self._batch.busy:
                await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _capabilities(spec: EngineSpec) -> Capabilities:
    return Capabilities(
        context=spec.config.context or CONTEXT,
        max_batch=spec.config.queue.running,
        vocabulary=vocabulary.SIZE,
        images=True,
        tools=True,
        logprobs=_LOGPROBS,
        prompt_logprobs=True,
        embeddings=True,
        scoring=True,
        prefill=True,
        parameters=frozenset(each.name for each in (*fields(Sampling), *fields(Limits))),
    )


def _score(prompt: list[int], written: list[int]) -> Score:
    echo = model.begin(prompt)
    logprobs = []
    for token in written:
        logprobs.append(float(model.logprobs(echo.expects)[token]))
        echo.write(token)
    return Score(float(np.sum(logprobs)), tuple(logprobs))
