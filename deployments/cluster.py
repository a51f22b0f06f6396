"""The `Experts` of a Ray cluster: Serve handles for the work, Control's snapshots for the view."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from capyra.deployments.experts import Call, ExpertView, unusable
from capyra.deployments.reports import ExpertReport, Snapshot
from capyra.deployments.roster import state_of
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

TRIES = 3
"""How often a request is begun: again only while its client has seen no token."""

PATIENCE_S = 30.0
"""How long Control may be silent: it answers after some seconds even if there is no news."""

STOP_POLL_S = 0.5
"""How often a request that no replica has taken yet looks whether its expert was stopped."""

Batch = Sequence[StreamItem]
Handles = Callable[[str], DeploymentHandle[Any]]


class ServeExperts:
    """Reaches experts through their Serve applications."""

    def __init__(self, handle: Handles, control: DeploymentHandle[Any]) -> None:
        self._open = handle
        self._control = control
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
            except Exception as error:  # noqa: BLE001 - one that is missed would freeze the view
                # Control restarts: the last snapshot serves until the next one tells news.
                logger.warning("Control did not answer (%r); trying again", error)
                self._snapshot = Snapshot(-1, self._snapshot.experts)
                await asyncio.sleep(0.5)

    async def watch_once(self) -> None:
        """Wait for news from Control, as long as it lets us."""
        self._snapshot = await self._control.snapshot.remote(self._snapshot.version)
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
        told = _Told()
        for left in reversed(range(TRIES)):
            # A replica that was only out of reach may still be at the last try, and an engine
            # refuses an id that is under way.
            asked = request if left == TRIES - 1 else replace(request, id=f"{request.id}+{left}")
            try:
                async with aclosing(self._attempt(expert, asked, call)) as batches:
                    async for batch in batches:
                        if news := told.news(batch):
                            yield news
            except ExpertLost:
                if told.tokens or not left:
                    raise
                logger.warning("a replica of %s was lost; beginning %s again", expert, request.id)
            else:
                return

    async def _attempt(
        self, expert: str, request: GenerateRequest, call: Call
    ) -> AsyncGenerator[Sequence[StreamItem]]:
        handle = self._handle(expert).options(stream=True)
        response: Any = handle.generate.remote(request, call)
        ended = False
        try:
            with _mapped(expert):
                batches = aiter(response)
                batch = await self._first(expert, batches)
                while batch is not None:
                    last = batch[-1]
                    if isinstance(last, Failed) and last.failure.code == ExpertLost.code:
                        raise last.failure.error()
                    ended = isinstance(last, Done | Failed)
                    yield batch
                    batch = await anext(batches, None)
        finally:
            if not ended:
                response.cancel()

    async def _first(self, expert: str, batches: AsyncIterator[Batch]) -> Batch | None:
        """The first batch. A request that was sent just before its expert was stopped would wait
        for a replica until its deadline: it is told instead."""
        first = asyncio.ensure_future(anext(batches, None))
        try:
            while not (await asyncio.wait({first}, timeout=STOP_POLL_S))[0]:
                view = self._views.get(expert)
                if view is not None and not view.replicas and (error := unusable(view)):
                    raise error
            return first.result()
        finally:
            first.cancel()

    async def embed(self, expert: str, request: EmbedRequest, call: Call) -> Embeddings:
        found: Embeddings = await self._ask(expert, "embed", request, call)
        return found

    async def render(self, expert: str, prompt: Prompt) -> Rendered:
        found: Rendered = await self._ask(expert, "render", prompt)
        return found

    async def detokenize(self, expert: str, token_ids: Sequence[int]) -> str:
        found: str = await self._ask(expert, "detokenize", tuple(token_ids))
        return found

    async def _ask(self, expert: str, method: str, *arguments: object) -> Any:
        left = TRIES
        while True:
            try:
                return await self._ask_once(expert, method, *arguments)
            except ExpertLost:
                left -= 1
                if not left:
                    raise
                logger.warning("a replica of %s was lost; asking it again to %s", expert, method)

    async def _ask_once(self, expert: str, method: str, *arguments: object) -> Any:
        response: Any = getattr(self._handle(expert), method).remote(*arguments)
        try:
            with _mapped(expert):
                answer = await response
        finally:
            response.cancel()
        if isinstance(answer, Failure):
            raise answer.error()
        return answer

    def _handle(self, expert: str) -> DeploymentHandle[Any]:
        handle = self._handles.get(expert)
        if handle is None:
            raise UnknownExpert(f"there is no expert {expert!r}", param="model")
        return handle


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
        replicas=told.replicas,
        capabilities=told.capabilities,
        failure=told.failure,
    )
