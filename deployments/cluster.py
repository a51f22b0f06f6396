"""The `Experts` of a Ray cluster: Serve handles for the work, Control's snapshots for the view."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from capyra.deployments.errors import NotReady
from capyra.deployments.experts import Call, ExpertStatus, ExpertView, Word, unusable
from capyra.deployments.reports import ExpertReport, Snapshot, Wish
from capyra.deployments.roster import state_of
from capyra.deployments.waiting import Turn, Waiting
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import (
    CapyraError,
    EngineFault,
    ExpertLost,
    Failure,
    QueueFull,
    UnknownExpert,
)
from capyra.engine.types import (
    Accepted,
    Done,
    Embeddings,
    EmbedRequest,
    Failed,
    GenerateRequest,
    Progress,
    Prompt,
    Rendered,
    StreamItem,
)

logger = logging.getLogger(__name__)

ASKED_S = 600.0
"""How long a question waits for its expert that came without a deadline."""

PATIENCE_S = 30.0
"""How long Control may be silent: it answers after some seconds even if there is no news."""

NEWS_S = 0.05
"""Between two snapshots at least."""

LOOK_S = 0.25
"""How often a request that no replica has taken yet looks whether there is one."""

T = TypeVar("T")
Handles = Callable[[str], DeploymentHandle[Any]]


class ServeExperts:
    """Reaches experts through their Serve applications."""

    def __init__(self, handle: Handles, control: DeploymentHandle[Any]) -> None:
        self._open = handle
        self._control = control
        self._waiting = Waiting(control)
        self._handles: dict[str, DeploymentHandle[Any]] = {}
        self._configs: dict[str, ExpertConfig] = {}
        self._snapshot = Snapshot(-1)
        self._views: dict[str, ExpertView] = {}

    # --- the view ---------------------------------------------------------------------------

    def configure(self, experts: Mapping[str, ExpertConfig]) -> None:
        self._configs = dict(experts)
        self._handles = {name: self._handles.get(name) or self._open(name) for name in experts}
        self._renew()

    def views(self) -> Mapping[str, ExpertView]:
        return self._views

    async def keep_watching(self) -> None:
        """Follow Control's snapshots, for ever."""
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self.watch_once()
                # Busy replicas make news all the time, and no request waits for it.
                await asyncio.sleep(NEWS_S)
            except Exception as error:  # noqa: BLE001 - one that is missed would freeze the view
                # Control restarts: the last snapshot serves until the next one tells news.
                logger.warning("Control did not answer (%r); trying again", error)
                self._snapshot = Snapshot(-1, self._snapshot.experts)
                await asyncio.sleep(0.5)

    async def keep_telling(self) -> None:
        """Tell Control which experts are used, for ever."""
        await self._waiting.keep_telling()

    async def watch_once(self) -> None:
        """Wait for news from Control, as long as it lets us."""
        found: Snapshot = await self._control.snapshot.remote(self._snapshot.version)
        if found.version != self._snapshot.version:
            self._snapshot = found
            self._renew()

    def _renew(self) -> None:
        told = self._snapshot.experts
        self._views = {
            name: _view(name, config, told.get(name, ExpertReport()))
            for name, config in self._configs.items()
        }

    # --- the work ---------------------------------------------------------------------------

    async def generate(
        self, expert: str, request: GenerateRequest, call: Call
    ) -> AsyncGenerator[Sequence[StreamItem]]:
        told, turn = _Told(), self._turn(expert, request, call, request.priority)
        while True:
            # A replica that was only out of reach may still be at the last try, and an engine
            # refuses an id that is under way.
            id_ = f"{request.id}+{turn.losses}" if turn.losses else request.id
            try:
                async with aclosing(self._granted(turn)) as items:
                    async for item in items:
                        if news := told.news([item]):
                            yield news
                asked = replace(request, id=id_, deadline_s=turn.left())
                async with aclosing(self._attempt(asked, call, turn)) as batches:
                    async for batch in batches:
                        if news := told.news(batch):
                            yield news
            except NotReady:
                await turn.pause()
            except ExpertLost:
                if told.tokens or turn.lost():
                    raise
                logger.warning("a replica of %s was lost; beginning %s again", expert, request.id)
            else:
                return

    def _turn(
        self, expert: str, request: GenerateRequest | EmbedRequest, call: Call, priority: int = 0
    ) -> Turn:
        view = self._views.get(expert)
        seconds = request.deadline_s
        if seconds is None:
            seconds = view.config.queue.deadline if view else ASKED_S
        return Turn(Wish(request.id, expert, seconds, priority, call.keep_alive_s, call.shown_id))

    async def _granted(self, turn: Turn) -> AsyncGenerator[Accepted | Progress]:
        """Wait for Control's word, where a replica has none: where there is no replica, or one
        said that it is not ready."""
        view = self._views.get(turn.wish.expert)
        if turn.refused or (view is not None and not view.replicas):
            async with aclosing(self._waiting.until_ready(turn.now())) as items:
                async for item in items:
                    yield item
            turn.granted = True

    async def _attempt(
        self, request: GenerateRequest, call: Call, turn: Turn
    ) -> AsyncGenerator[Sequence[StreamItem]]:
        expert = turn.wish.expert
        handle = self._handle(expert).options(stream=True)
        response: Any = handle.generate.remote(request, call)
        ended = False
        try:
            with _mapped(expert):
                batches = aiter(response)
                batch = await self._first(expert, anext(batches, None))
                if batch is not None and not isinstance(batch[-1], Failed):
                    self._waiting.used(turn)
                while batch is not None:
                    last = batch[-1]
                    if isinstance(last, Failed):
                        _again(last.failure)
                    ended = isinstance(last, Done | Failed)
                    yield batch
                    batch = await anext(batches, None)
        finally:
            if not ended:
                response.cancel()

    async def _first(self, expert: str, answer: Awaitable[T]) -> T:
        """The first word of an answer. A request whose expert has no replica, or loses the last
        one before it has taken it, would wait for one until its deadline, and nobody would know."""
        first = asyncio.ensure_future(answer)
        try:
            while not (await asyncio.wait({first}, timeout=LOOK_S))[0]:
                view = self._views.get(expert)
                if view is not None and not view.replicas:
                    raise unusable(view) or NotReady(f"expert {expert!r} has no replica")
            return first.result()
        finally:
            first.cancel()

    async def embed(self, expert: str, request: EmbedRequest, call: Call) -> Embeddings:
        turn = self._turn(expert, request, call)
        found: Embeddings = await self._ask(turn, "embed", request, call)
        self._waiting.used(turn)
        return found

    async def render(self, expert: str, prompt: Prompt) -> Rendered:
        found: Rendered = await self._ask(_question(expert), "render", prompt)
        return found

    async def detokenize(self, expert: str, token_ids: Sequence[int]) -> str:
        found: str = await self._ask(_question(expert), "detokenize", tuple(token_ids))
        return found

    async def load(self, expert: str, seconds: float) -> None:
        async with aclosing(
            self._waiting.until_ready(Wish(secrets.token_hex(12), expert, seconds))
        ) as items:
            async for _ in items:
                pass

    async def statuses(self) -> Sequence[ExpertStatus]:
        found: Sequence[ExpertStatus] = await self._waiting.ask_control("statuses")
        return found

    async def instruct(self, word: Word) -> None:
        failure: Failure | None = await self._waiting.ask_control("instruct", word)
        if failure is not None:
            raise failure.error()

    async def why(self, name: str) -> Sequence[str]:
        found: Sequence[str] = await self._waiting.ask_control("why", name)
        return found

    async def trace(self) -> Sequence[str]:
        found: Sequence[str] = await self._waiting.ask_control("trace")
        return found

    async def _ask(self, turn: Turn, method: str, *arguments: object) -> Any:
        expert = turn.wish.expert
        while True:
            try:
                async with aclosing(self._granted(turn)) as items:
                    async for _ in items:
                        pass
                return await self._ask_once(expert, method, *arguments)
            except NotReady:
                await turn.pause()
            except ExpertLost:
                if turn.lost():
                    raise
                logger.warning("a replica of %s was lost; asking it again to %s", expert, method)

    async def _ask_once(self, expert: str, method: str, *arguments: object) -> Any:
        response: Any = getattr(self._handle(expert), method).remote(*arguments)
        try:
            with _mapped(expert):
                answer = await self._first(expert, response)
        finally:
            response.cancel()
        if isinstance(answer, Failure):
            _again(answer)
            raise answer.error()
        return answer

    def _handle(self, expert: str) -> DeploymentHandle[Any]:
        handle = self._handles.get(expert)
        if handle is None:
            raise UnknownExpert(f"there is no expert {expert!r}", param="model")
        return handle


def _question(expert: str) -> Turn:
    """One that no client's deadline came with: the gateway's own ends it."""
    return Turn(Wish(secrets.token_hex(12), expert, ASKED_S))


def _again(failure: Failure) -> None:
    """Raise what another replica, or a later moment, may mend."""
    if failure.code == ExpertLost.code:
        raise failure.error()
    if failure.code == NotReady.code:
        raise NotReady(failure.message)


class _Told:
    """What a client was told already, over several tries of its request."""

    def __init__(self) -> None:
        self.accepted = False
        self.tokens = False

    def news(self, batch: Sequence[StreamItem]) -> Sequence[StreamItem]:
        """The batch without a second `Accepted`."""
        if self.accepted and isinstance(batch[0], Accepted):
            batch = batch[1:]
        else:
            self.accepted = True
        self.tokens = self.tokens or any(not isinstance(i, Accepted | Progress) for i in batch)
        return batch


@contextmanager
def _mapped(expert: str) -> Iterator[None]:
    """Ray's and Serve's errors as ours."""
    try:
        yield
    except CapyraError:
        raise
    except BackPressureError as error:
        raise QueueFull(f"expert {expert!r} has no room", retry_after_s=1.0) from error
    except RayTaskError as error:
        raise EngineFault(f"expert {expert!r} broke while it served this request") from error
    except (RayError, RayServeException) as error:
        raise ExpertLost(
            f"the replica of expert {expert!r} that served this request was lost; send it again",
            retry_after_s=1.0,
        ) from error


def _view(name: str, config: ExpertConfig, told: ExpertReport) -> ExpertView:
    return ExpertView(
        name=name,
        config=config,
        state=state_of(told),
        target=told.target,
        held=told.held,
        replicas=told.replicas,
        capabilities=told.capabilities,
        failure=told.failure,
    )
