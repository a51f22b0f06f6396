"""One process that hosts an expert: its engine, its waiting room, its loads and idle unloads.

Knows no Ray and no HTTP, so that all of it is tested in memory. All methods run on one loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

from capyra.deployments.experts import Call, State
from capyra.deployments.loading import Loader
from capyra.deployments.relay import relay
from capyra.engine.base import Engine
from capyra.engine.checks import check, check_context, check_embed
from capyra.engine.config import FOREVER, ExpertConfig
from capyra.engine.errors import (
    CapyraError,
    DeadlineExceeded,
    EngineFault,
    ExpertLost,
    Failure,
    LoadFailed,
    QueueFull,
)
from capyra.engine.types import (
    Accepted,
    Capabilities,
    Embeddings,
    EmbedRequest,
    EngineStats,
    Failed,
    GenerateRequest,
    Prompt,
    Rendered,
    StreamItem,
)

logger = logging.getLogger(__name__)

LIGHT = {"description", "skills", "keep_alive", "pin", "sampling", "replicas", "license"}
"""Settings that an engine does not see: changing them keeps it."""


@dataclass(slots=True, eq=False)
class _Tenure:
    """An engine for as long as its settings hold; when they change it retires, and drains."""

    config: ExpertConfig
    engine: Engine
    loader: Loader
    keep_alive_s: float
    in_flight: int = 0
    idle: asyncio.TimerHandle | None = None
    retired: bool = False
    ended: bool = False


class Host:
    """The engine of one expert in this process, and who may use it now."""

    def __init__(
        self,
        name: str,
        replica: str,
        make: Callable[[ExpertConfig], Engine],
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.replica = replica
        self._make = make
        self._clock = clock
        self._tenure: _Tenure | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling = asyncio.Lock()
        self._closed = False
        self.problem: str | None = None
        """Why the newest settings do not hold: their engine could not be made."""
        self.changed = asyncio.Event()
        """Set when `state()` may have changed, for whoever reports it; they clear it."""

    # --- settings ---------------------------------------------------------------------------

    async def configure(self, config: ExpertConfig, *, moved: bool = False) -> None:
        """Take new settings. Running requests end on the engine that they began on.

        `moved`: the same words mean another model now, so that the engine must be a new one.
        """
        # An engine takes its time to be made: settings that come meanwhile follow.
        async with self._settling:
            await self._settle(config, moved)
        self.changed.set()

    async def _settle(self, config: ExpertConfig, moved: bool) -> None:
        old = self._tenure
        if old is not None and not moved and _unseen(old.config, config):
            old.config, old.keep_alive_s = config, config.keep_alive
            self._rearm(old)
        else:
            try:
                engine = await asyncio.to_thread(self._make, config)
            except CapyraError as error:
                if old is None:
                    raise
                # Raised, Serve would stop this replica, which serves well with what it has.
                logger.warning("expert %s keeps its settings: %s", self.name, error)
                self.problem = error.message
                return
            if self._closed:
                await engine.close()
                return
            loader = Loader(self.name, engine, self._clock, self.changed.set)
            self._tenure = _Tenure(config, engine, loader, config.keep_alive)
            if old is not None:
                self._retire(old)
        self.problem = None
        if config.pin and not self._current().loader.ready:
            # One that failed a moment ago is no fault of these settings, and Serve would restart
            # the replica for it: whoever asks for the expert is told.
            with suppress(LoadFailed):
                self._current().loader.start()

    def _retire(self, tenure: _Tenure) -> None:
        tenure.retired = True
        if tenure.idle:
            tenure.idle.cancel()
        if tenure.in_flight == 0:
            self._spawn(self._end(tenure))

    async def _end(self, tenure: _Tenure) -> None:
        if tenure.ended:
            return
        tenure.ended = True
        await tenure.loader.cancel()
        await tenure.engine.close()
        self.changed.set()

    async def close(self) -> None:
        """End everything in this process that belongs to the expert."""
        self._closed = True
        tenure, self._tenure = self._tenure, None
        if tenure is not None:
            tenure.retired = True
            if tenure.idle:
                tenure.idle.cancel()
            await self._end(tenure)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _current(self) -> _Tenure:
        if self._tenure is None:
            raise ExpertLost(f"this replica of expert {self.name!r} is closing", retry_after_s=1.0)
        return self._tenure

    # --- what others ask --------------------------------------------------------------------

    def state(self) -> State:
        if self._tenure is None:
            return "draining"
        if self._tenure.loader.running:
            return "loading"
        return "ready" if self._tenure.loader.ready else "parked"

    def stats(self) -> EngineStats:
        return self._current().engine.stats()

    def capabilities(self) -> Capabilities:
        return self._current().engine.capabilities()

    @property
    def in_flight(self) -> int:
        return self._current().in_flight

    async def render(self, prompt: Prompt) -> Rendered:
        return await asyncio.to_thread(self._current().engine.render, prompt)

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        return await asyncio.to_thread(self._current().engine.detokenize, token_ids)

    # --- serving ----------------------------------------------------------------------------

    async def generate(
        self, request: GenerateRequest, call: Call
    ) -> AsyncGenerator[list[StreamItem]]:
        """The answer as batches, `Accepted` first; what goes wrong is the last item, `Failed`.

        Everything that can refuse the request does so before `Accepted`.
        """
        try:
            async with self._place() as tenure:
                deadline = _deadline(tenure, request.deadline_s)
                await self._check(tenure, request)
                ready, waiting = tenure.loader.ready, tenure.engine.stats().waiting
                accepted = Accepted(self.name, self.replica, ready, waiting)
                if not ready:
                    yield [accepted]
                    async for progress in tenure.loader.wait(deadline):
                        yield [progress]
                head = accepted if ready else None
                events = tenure.engine.generate(request)
                async with aclosing(relay(events, deadline, head)) as batches:
                    async for batch in batches:
                        _keep(tenure, call)
                        yield batch
        except CapyraError as error:
            yield [Failed(Failure.of(error))]
        except Exception:
            # The border to an engine, as in `relay`: its checks run here.
            logger.exception("expert %s broke", self.name)
            fault = EngineFault("the expert's engine broke; the request was not served")
            yield [Failed(Failure.of(fault))]

    async def _check(self, tenure: _Tenure, request: GenerateRequest) -> None:
        capabilities = tenure.engine.capabilities()
        check(request, capabilities)
        if not tenure.loader.ready:
            # A ready engine renders anyway, and refuses at once; before a long load the
            # refusal must come first.
            rendered = await asyncio.to_thread(tenure.engine.render, request.prompt)
            check_context(len(rendered.token_ids), request.limits, capabilities.context)

    async def embed(self, request: EmbedRequest, call: Call) -> Embeddings:
        async with self._place() as tenure:
            deadline = _deadline(tenure, request.deadline_s)
            check_embed(request, tenure.engine.capabilities())
            _keep(tenure, call)
            async for _ in tenure.loader.wait(deadline):
                pass
            try:
                async with asyncio.timeout_at(deadline):
                    return await tenure.engine.embed(request)
            except TimeoutError as error:
                raise DeadlineExceeded("the deadline passed while embedding") from error

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[_Tenure]:
        """A place in the waiting room, or `QueueFull` at once."""
        tenure = self._current()
        queue = tenure.config.queue
        if tenure.in_flight >= queue.running + queue.waiting:
            raise QueueFull(
                f"expert {self.name!r} holds {tenure.in_flight} requests, its most: try again "
                "later, or raise its queue.waiting",
                retry_after_s=1.0,
            )
        tenure.in_flight += 1
        if tenure.idle:
            tenure.idle.cancel()
        try:
            yield tenure
        finally:
            tenure.in_flight -= 1
            if tenure.in_flight == 0 and tenure.retired:
                self._spawn(self._end(tenure))
            else:
                self._rearm(tenure)

    # --- idleness ---------------------------------------------------------------------------

    def _rearm(self, tenure: _Tenure) -> None:
        """Count the idle time from now, if there is any."""
        if tenure.idle:
            tenure.idle.cancel()
            tenure.idle = None
        kept = tenure.config.pin or tenure.keep_alive_s == FOREVER
        if kept or tenure.in_flight or tenure.retired:
            return
        loop = asyncio.get_running_loop()
        tenure.idle = loop.call_later(
            tenure.keep_alive_s, lambda: self._spawn(self._unload_if_idle(tenure))
        )

    async def _unload_if_idle(self, tenure: _Tenure) -> None:
        if tenure.in_flight or tenure.retired:
            return
        if tenure.loader.running:
            await tenure.loader.settle()
            self._rearm(tenure)
            return
        tenure.keep_alive_s = tenure.config.keep_alive
        await tenure.loader.unload()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _unseen(old: ExpertConfig, new: ExpertConfig) -> bool:
    """Whether an engine would not notice the change."""
    return old.model_dump(exclude=LIGHT) == new.model_dump(exclude=LIGHT)


def _keep(tenure: _Tenure, call: Call) -> None:
    """A request that is not refused may say how long the weights stay."""
    if call.keep_alive_s is not None:
        tenure.keep_alive_s = call.keep_alive_s


def _deadline(tenure: _Tenure, wanted_s: float | None) -> float:
    most = tenure.config.queue.deadline
    return asyncio.get_running_loop().time() + min(most if wanted_s is None else wanted_s, most)
