"""One process that hosts an expert: its engine, its places, and its obedience to Control.

Knows no Ray and no HTTP, so that all of it is tested in memory. All methods run on one loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterator,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass

from capyra.deployments.errors import NotReady
from capyra.deployments.experts import State
from capyra.deployments.loading import Loader
from capyra.deployments.relay import relay
from capyra.engine.base import Engine
from capyra.engine.checks import check, check_context, check_embed
from capyra.engine.config import LIGHT, ExpertConfig
from capyra.engine.errors import (
    CapyraError,
    DeadlineExceeded,
    EngineFault,
    ExpertLost,
    Failure,
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
    Progress,
    Prompt,
    Rendered,
    StreamItem,
)
from capyra.orchestrator.residency.effects import Load, Park
from capyra.orchestrator.residency.events import NEVER, Epoch

logger = logging.getLogger(__name__)

STIR_S = 0.1
"""What changes many times a second (requests under way, a load's progress) is told so often at
most: each report costs a message."""


@dataclass(slots=True, eq=False)
class _Tenure:
    """An engine for as long as its settings hold; when they change it retires, and drains."""

    config: ExpertConfig
    engine: Engine
    loader: Loader
    in_flight: int = 0
    """Requests that have a place; `serving` counts those of them that run."""
    serving: int = 0
    retired: bool = False
    ended: bool = False


class Host:
    """The engine of one expert in this process, and who may use it now."""

    def __init__(self, name: str, replica: str, make: Callable[[ExpertConfig], Engine]) -> None:
        self.name = name
        self.replica = replica
        self._make = make
        self._tenure: _Tenure | None = None
        self._retired: set[_Tenure] = set()
        self._draining = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._stirred: asyncio.TimerHandle | None = None
        self._settling = asyncio.Lock()
        self._closed = False
        self.epoch: Epoch = NEVER
        """The newest order that was obeyed, or declined."""
        self.problem: str | None = None
        """Why the newest settings do not hold: their engine could not be made."""
        self.changed = asyncio.Event()
        """Set when there is something to report, for whoever does; they clear it."""

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
            old.config = config
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
            loader = Loader(self.name, engine, self.changed.set, self._stir)
            self._tenure = _Tenure(config, engine, loader)
            self._draining = False
            if old is not None:
                again = old.loader.coming
                self._retire(old)
                if again:
                    # Whoever waits for the load waits on; its memory goes to the next one.
                    loader.start(after=[each.loader for each in self._retired])
        self.problem = None

    def _retire(self, tenure: _Tenure) -> None:
        tenure.retired = True
        tenure.loader.give_up()
        self._retired.add(tenure)
        if tenure.in_flight == 0:
            self._spawn(self._end(tenure))

    async def _end(self, tenure: _Tenure) -> None:
        if tenure.ended:
            return
        tenure.ended = True
        await tenure.loader.cancel()
        await tenure.engine.close()
        self._retired.discard(tenure)
        self.changed.set()

    async def close(self) -> None:
        """End everything in this process that belongs to the expert."""
        self._closed = True
        if self._stirred is not None:
            self._stirred.cancel()
        tenure, self._tenure = self._tenure, None
        if tenure is not None:
            tenure.retired = True
            await self._end(tenure)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _current(self) -> _Tenure:
        if self._tenure is None:
            raise ExpertLost(f"this replica of expert {self.name!r} is closing", retry_after_s=1.0)
        return self._tenure

    # --- orders -----------------------------------------------------------------------------

    def obey(self, order: Load | Park) -> None:
        """Do as Control says, unless it said something newer before.

        From here on `epoch` and `state` are the order's. A `Park` without `drain` is declined
        while requests run: the report that it was based on may be old.
        """
        if order.epoch <= self.epoch or self._tenure is None:
            return
        self.epoch = order.epoch
        tenure = self._tenure
        tenure.loader.failure = None
        if isinstance(order, Load):
            self._draining = False
            tenure.loader.start()
        elif tenure.loader.running:
            tenure.loader.give_up()
        elif tenure.serving and order.drain:
            self._draining = True
        elif not tenure.serving and tenure.loader.ready:
            tenure.loader.unload()
        self.changed.set()

    # --- what others ask --------------------------------------------------------------------

    def state(self) -> State:
        if self._tenure is None:
            return "draining"
        loader = self._tenure.loader
        if loader.running:
            return "loading"
        if loader.leaving or self._draining:
            return "draining"
        # A retired engine that still has requests does not count: its successor may load at once.
        return "ready" if loader.ready else "parked"

    @property
    def failure(self) -> str | None:
        """Why the load that was ordered last failed."""
        return None if self._tenure is None else self._tenure.loader.failure

    @property
    def progress(self) -> Progress | None:
        """How far the load is, if one runs."""
        if self._tenure is None or not self._tenure.loader.running:
            return None
        return self._tenure.loader.progress

    def stats(self) -> EngineStats:
        return self._current().engine.stats()

    def capabilities(self) -> Capabilities:
        return self._current().engine.capabilities()

    @property
    def in_flight(self) -> int:
        return self._current().serving + sum(each.in_flight for each in self._retired)

    @property
    def bytes(self) -> int:
        """Weights and K/V, also of engines that still end what they began."""
        retired = sum(_bytes(each.engine) for each in self._retired)
        return _bytes(self._current().engine) + retired

    @property
    def retired_bytes(self) -> int:
        """Those of engines that end what they began, beside which the present one may load."""
        done = (each for each in self._retired if not each.loader.running)
        return sum(_bytes(each.engine) for each in done)

    async def render(self, prompt: Prompt) -> Rendered:
        return await asyncio.to_thread(self._current().engine.render, prompt)

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        return await asyncio.to_thread(self._current().engine.detokenize, token_ids)

    # --- serving ----------------------------------------------------------------------------

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[list[StreamItem]]:
        """The answer as batches, `Accepted` first; what goes wrong is the last item, `Failed`.

        Everything that can refuse the request does so before `Accepted`; `NotReady` comes after
        what is wrong with the request itself, so that nobody waits for a load in vain.
        """
        try:
            async with self._place() as tenure:
                deadline = _deadline(tenure, request.deadline_s)
                await self._check(tenure, request)
                with self._serving(tenure):
                    waiting = tenure.engine.stats().waiting
                    head = Accepted(self.name, self.replica, ready=True, waiting=waiting)
                    events = tenure.engine.generate(request)
                    async with aclosing(relay(events, deadline, head)) as batches:
                        async for batch in batches:
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

    async def embed(self, request: EmbedRequest) -> Embeddings:
        async with self._place() as tenure:
            deadline = _deadline(tenure, request.deadline_s)
            check_embed(request, tenure.engine.capabilities())
            with self._serving(tenure):
                try:
                    async with asyncio.timeout_at(deadline):
                        return await tenure.engine.embed(request)
                except TimeoutError as error:
                    raise DeadlineExceeded("the deadline passed while embedding") from error

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[_Tenure]:
        """One of the expert's places, or `QueueFull` at once."""
        tenure = self._current()
        queue = tenure.config.queue
        if tenure.in_flight >= queue.running + queue.waiting:
            raise QueueFull(
                f"expert {self.name!r} holds {tenure.in_flight} requests, its most: try again "
                "later, or raise its queue.waiting",
                retry_after_s=1.0,
            )
        tenure.in_flight += 1
        try:
            yield tenure
        finally:
            tenure.in_flight -= 1
            if tenure.in_flight == 0 and tenure.retired:
                self._spawn(self._end(tenure))

    @contextmanager
    def _serving(self, tenure: _Tenure) -> Iterator[None]:
        """The use of a ready engine; `NotReady` where it is not, or is to go."""
        if not tenure.loader.ready or (self._draining and not tenure.retired):
            raise NotReady(f"this replica of expert {self.name!r} is {self.state()}")
        tenure.serving += 1
        if tenure.serving == 1:
            self._stir()
        try:
            yield
        finally:
            tenure.serving -= 1
            if tenure.serving == 0:
                self._stir()
                if self._draining and not tenure.retired:
                    self._draining = False
                    tenure.loader.unload()

    def _stir(self) -> None:
        """There is something to report before long."""
        if self._stirred is None and not self._closed:
            self._stirred = asyncio.get_running_loop().call_later(STIR_S, self._tell)

    def _tell(self) -> None:
        self._stirred = None
        self.changed.set()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _unseen(old: ExpertConfig, new: ExpertConfig) -> bool:
    """Whether an engine would not notice the change."""
    return old.model_dump(exclude=LIGHT) == new.model_dump(exclude=LIGHT)


def _bytes(engine: Engine) -> int:
    stats = engine.stats()
    return stats.weight_bytes + stats.kv_bytes


def _deadline(tenure: _Tenure, wanted_s: float | None) -> float:
    most = tenure.config.queue.deadline
    return asyncio.get_running_loop().time() + min(most if wanted_s is None else wanted_s, most)
