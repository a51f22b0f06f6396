"""Sends a plan's requests, in time, and gathers what became of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from capyra.deployments.cli.loadgen import plan as plans
from capyra.deployments.cli.loadgen.plan import Plan, Words
from capyra.deployments.cli.loadgen.shot import Reading, Shot
from capyra.deployments.cli.loadgen.wire import Connection, Target, WireError
from capyra.deployments.errors import Unreachable
from capyra.engine.errors import BY_CODE, CapyraError, Failure

CONNECT_S = 10.0
LAG_EVERY_S = 0.05
FEW, MANY = 32, 160
"""Words of the two prompts from which the server's tokens are learned."""


@dataclass
class Outcome:
    """All shots of a load, and how the generator itself fared."""

    plan: Plan
    words: Words
    start: float = 0.0
    end: float = 0.0
    cpu_s: float = 0.0
    worst_lag_s: float = 0.0
    interrupted: bool = False
    shots: list[Shot] = field(default_factory=list)


class Driver:
    """One load on one server. `watch` is called with every finished shot."""

    def __init__(
        self,
        target: Target,
        plan: Plan,
        watch: Callable[[Shot], None] = lambda _: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._target = target
        self._plan = plan
        self._watch = watch
        self._clock = clock
        self._idle: list[Connection] = []
        self._words = Words()

    async def prepare(self) -> None:
        """Learn what a token is here, and warm the server up. Not counted.

        Raises what the server says if it answers none of it: a load would say no more.
        """
        self._words = Words()
        if not self._plan.prompts:
            self._words = await self._learn()
        results = await asyncio.gather(
            *(self._one(-1 - number, self._clock()) for number in range(self._plan.warmup))
        )
        if results and not any(shot.ok for shot in results):
            raise _refusal(results[0], self._target)

    async def run(self) -> Outcome:
        """The load itself. Cancelled, it ends at once with what it has."""
        outcome = Outcome(self._plan, self._words)
        cpu = time.process_time()
        outcome.start = self._clock()
        work = asyncio.create_task(
            self._open(outcome) if self._plan.rate else self._closed(outcome)
        )
        lag = asyncio.create_task(self._watch_lag(outcome))
        try:
            await work
        except asyncio.CancelledError:
            outcome.interrupted = True
            work.cancel()
            await asyncio.wait([work])
        finally:
            lag.cancel()
            await asyncio.wait([lag])
        outcome.end = self._clock()
        outcome.cpu_s = time.process_time() - cpu
        self.close()
        return outcome

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    # --- the two ways of asking --------------------------------------------------------------

    async def _closed(self, outcome: Outcome) -> None:
        """Clients that wait for their answer: a slow server is asked less often."""
        numbers = itertools.count()

        async def client() -> None:
            for index in numbers:
                now = self._clock()
                if self._over(index, now - outcome.start):
                    return
                self._keep(outcome, await self._one(index, now))

        async with asyncio.TaskGroup() as group:
            for _ in range(self._plan.concurrency):
                group.create_task(client())

    async def _open(self, outcome: Outcome) -> None:
        """Strangers who come when they come: their waiting counts from then."""
        plan = self._plan
        assert plan.rate is not None
        room = asyncio.Semaphore(plan.most_in_flight)

        async def stranger(index: int, intended: float) -> None:
            try:
                self._keep(outcome, await self._one(index, intended))
            finally:
                room.release()

        async with asyncio.TaskGroup() as group:
            for index, at in enumerate(plans.arrivals(plan.rate, plan.burst, plan.seed)):
                if self._over(index, at):
                    return
                await asyncio.sleep(max(0.0, outcome.start + at - self._clock()))
                await room.acquire()
                group.create_task(stranger(index, outcome.start + at))

    def _over(self, index: int, at: float) -> bool:
        plan = self._plan
        too_many = plan.requests is not None and index >= plan.requests
        return too_many or (plan.seconds is not None and at >= plan.seconds)

    def _keep(self, outcome: Outcome, shot: Shot) -> None:
        outcome.shots.append(shot)
        self._watch(shot)

    # --- one request ---------------------------------------------------------------------------

    async def _one(self, index: int, intended: float) -> Shot:
        text = plans.prompt(self._plan, index, self._words)
        return await self._send(Shot(index, intended), plans.body(self._plan, text))

    async def _send(self, shot: Shot, body: dict[str, object]) -> Shot:
        request = self._target.post(self._plan.path, json.dumps(body).encode())
        reading = Reading(shot, stream=bool(body["stream"]))
        shot.sent = self._clock()
        try:
            connection = await self._connection()
            await connection.ask(request, reading, self._plan.timeout_s)
        except WireError as error:
            shot.failure = error.kind
            shot.ended = self._clock()
            return shot
        reading.finish(self._clock())
        if connection.usable:
            self._idle.append(connection)
        return shot

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return await Connection.connect(self._target, self._clock, CONNECT_S)

    async def _learn(self) -> Words:
        counts = []
        for words in (FEW, MANY):
            shot = Shot(-1, self._clock())
            text = plans.sample(f"learn {self._plan.seed}", words)
            await self._send(shot, plans.body(self._plan, text, output_tokens=1))
            if shot.failure not in (None, "empty answer"):
                raise _refusal(shot, self._target)
            counts.append(shot.prompt_tokens)
        few, many = counts
        return Words() if few is None or many is None else Words.fit(FEW, few, MANY, many)

    async def _watch_lag(self, outcome: Outcome) -> None:
        """How late this loop wakes: while it is late, it times others late."""
        while True:
            asked = self._clock()
            await asyncio.sleep(LAG_EVERY_S)
            late = self._clock() - asked - LAG_EVERY_S
            outcome.worst_lag_s = max(outcome.worst_lag_s, late)


def _refusal(shot: Shot, target: Target) -> CapyraError:
    """What the first requests met, as an error: no load would fare better."""
    kind, said = str(shot.failure), shot.detail.rstrip(".")
    if kind.startswith("connect"):
        return Unreachable(f"nothing answers at {target.host} port {target.port} ({kind})")
    code = kind.rpartition(" ")[2]
    if said and code in BY_CODE:
        return Failure(code, said).error()
    return CapyraError(f"the server does not serve this load: {kind}{said and f' ({said})'}")
