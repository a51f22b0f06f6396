"""Residency at work: one loop over the pure machine, between replicas, gateways and Serve.

Knows no Ray, so that all of it is tested in memory. Whoever calls it is on its loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from capyra.deployments import outbox
from capyra.deployments.experts import State, Word
from capyra.deployments.outbox import Outbox
from capyra.deployments.reports import Poll, Reply, Report, Snapshot, Standing, Use, Wish
from capyra.deployments.roster import Roster
from capyra.deployments.writer import RETRY_S
from capyra.engine.errors import (
    Cancelled,
    CapacityError,
    Failure,
    InvalidValue,
    LoadFailed,
    UnknownExpert,
)
from capyra.engine.types import Progress
from capyra.orchestrator.residency import events
from capyra.orchestrator.residency.effects import Answer, Load, Park, Persisted
from capyra.orchestrator.residency.events import Demand, Epoch, Event, ReplicaState, Used
from capyra.orchestrator.residency.machine import Machine
from capyra.orchestrator.residency.spec import ExpertSpec, Policy
from capyra.orchestrator.residency.traces import dump, newest, recorded

logger = logging.getLogger(__name__)

SILENT_S = 2.5
"""A replica that Serve lists no more, and that has not reported for so long, has ended."""
FORGOTTEN_S = 10.0
"""A wait that nobody asked about for so long is over: its gateway is gone."""
LOOK_S = 0.25
"""How often the standing of a wait is looked at."""
SETTLE_S = 5.0
"""How long an operator's word waits for a new Control to know its cluster."""
REMEMBERED = 20_000
"""Requests that a record of them has at most: more would hold up all else while it is told."""
LEAST_TICK_S = 0.002

STATES: Mapping[State, ReplicaState] = {
    "parked": "parked",
    "loading": "loading",
    "ready": "ready",
    "draining": "draining",
}


class Cluster(outbox.Cluster, Protocol):
    """Serve and Ray."""

    async def poll(self) -> Poll: ...

    async def nodes(self) -> Mapping[str, int]:
        """The nodes that are up, with the bytes there is room for on each."""


@dataclass(slots=True)
class _Wait:
    asked_at: float
    """When its gateway asked last."""
    answer: Answer | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Inbox:
    """The newest order to a replica: it replaces every older one."""

    order: Load | Park | None = None
    came: asyncio.Event = field(default_factory=asyncio.Event)


class Residence:
    """Owns the machine, and what lies between it and the world."""

    def __init__(self, cluster: Cluster, written: Persisted, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._clock = clock
        self.machine = Machine(written)
        # Versions of another life are never taken for these.
        self.roster = Roster(self.machine.cluster.term * 10**6)
        self._outbox = Outbox(cluster, self._deliver, self._answer)
        self._node_memory: int | None = None
        self._heard: dict[str, tuple[float, Report]] = {}
        self._stopping: frozenset[str] = frozenset()
        self._inboxes: dict[str, _Inbox] = {}
        self._waits: dict[str, _Wait] = {}
        self._asked: deque[tuple[float, Demand | Used]] = deque(maxlen=REMEMBERED)
        self._changed = asyncio.Condition()
        self._timer: asyncio.TimerHandle | None = None

    async def keep_acting(self) -> None:
        """Carry out what is decided, for ever."""
        await self._outbox.keep_acting()

    async def idle(self) -> None:
        """Until all that was decided is done."""
        await self._outbox.idle()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def now(self) -> float:
        return self._clock()

    # --- what happens -----------------------------------------------------------------------

    def tell(self, event: Event) -> int | None:
        """The number under which the outbox writes what must outlive this, if anything must."""
        number = self._outbox.put(self.machine.handle(event, self._clock()))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.machine.due() - self._clock()
        if due < math.inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(due, LEAST_TICK_S), self.tick)
        return number

    def tick(self) -> None:
        self.tell(events.Tick())

    async def configure(
        self, experts: Iterable[ExpertSpec], policy: Policy, node_memory: int | None
    ) -> None:
        specs = tuple(experts)
        self._node_memory = node_memory
        self.roster.configure(spec.name for spec in specs)
        self.tell(events.Configure(specs, policy))
        await self._announce()

    async def look(self, poll: Poll, asked_at: float) -> None:
        """Take in what Serve said to a question that was asked at `asked_at`."""
        self._stopping = poll.stopping
        now = self._clock()
        for heard, report in list(self._heard.values()):
            if report.view.id in poll.stopping and report.view.state != "draining":
                self._take(report)
            elif report.view.id not in poll.present and now - heard > SILENT_S:
                self._forget(report.view.id)
        for replica in list(self.machine.cluster.ledger.holdings):
            if replica not in poll.present and replica not in self._heard:
                self._forget(replica)
        counts = {name: asked.replicas for name, asked in poll.asked.items()}
        deployed = {
            name: asked.deployed for name, asked in poll.asked.items() if asked.deployed is not None
        }
        deploying = frozenset(name for name, asked in poll.asked.items() if asked.deploying)
        self.tell(events.Targets(counts, asked_at, deployed, deploying))
        self.roster.retarget(poll.asked, now)
        await self._announce()
        self._sweep(now)

    def see_nodes(self, nodes: Mapping[str, int]) -> None:
        for node, memory in nodes.items():
            capacity = memory if self._node_memory is None else self._node_memory
            self.tell(events.NodeSeen(node, capacity))
        for node, account in list(self.machine.cluster.ledger.nodes.items()):
            if account.capacity is not None and node not in nodes:
                self.tell(events.NodeLost(node))

    def _forget(self, replica: str) -> None:
        self._heard.pop(replica, None)
        self._inboxes.pop(replica, None)
        self.tell(events.Gone(replica))

    # --- replicas ---------------------------------------------------------------------------

    async def report(self, report: Report) -> None:
        before = self._heard.get(report.view.id)
        if before is not None and report.number <= before[1].number:
            return
        now = self._clock()
        self._heard[report.view.id] = (now, report)
        self._take(report)
        self.roster.report(report, now)
        await self._announce()

    def _take(self, report: Report) -> None:
        view = report.view
        state = STATES[view.state]
        # A replica does not know that Serve is ending it.
        if view.id in self._stopping:
            state = "draining"
        self.tell(
            events.Report(
                expert=report.expert,
                replica=view.id,
                node=view.node,
                state=state,
                in_flight=view.in_flight,
                bytes=report.bytes,
                retired=report.retired,
                epoch=report.epoch,
                fraction=0.0 if report.progress is None else report.progress.fraction,
                failure=report.failure,
            )
        )

    def _deliver(self, order: Load | Park) -> None:
        inbox = self._inboxes.setdefault(order.replica, _Inbox())
        inbox.order = order
        inbox.came.set()

    async def order(self, replica: str, after: Epoch, patience_s: float) -> Load | Park | None:
        """The newest order to this replica, if it is newer than that one; waits a while for it."""
        inbox = self._inboxes.setdefault(replica, _Inbox())
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while inbox.order is None or inbox.order.epoch <= after:
                    inbox.came.clear()
                    await inbox.came.wait()
                return inbox.order
        return None

    def is_further(self, expert: str, replica: str) -> bool:
        """Whether other replicas of the expert take requests, and this one does not yet."""
        known = self.machine.cluster.experts.get(expert)
        if known is None:
            return False
        mine = known.replicas.get(replica)
        return not (mine is not None and mine.usable) and any(
            each.usable for each in known.replicas.values() if each.id != replica
        )

    # --- requests ---------------------------------------------------------------------------

    async def wait(self, wish: Wish, seen: Standing | None, patience_s: float) -> Standing | Reply:
        """Enter a request, or ask again about one: its end, or a standing other than `seen`."""
        wait = self._waits.get(wish.id)
        if wait is None:
            wait = self._waits[wish.id] = _Wait(self._clock())
            self._request(
                Demand(
                    id=wish.id,
                    expert=wish.expert,
                    deadline=self._clock() + wish.seconds,
                    priority=wish.priority,
                    keep_alive_s=wish.keep_alive_s,
                    shown_id=wish.shown_id,
                )
            )
        wait.asked_at = self._clock()
        give_up = asyncio.get_running_loop().time() + patience_s
        while True:
            if wish.id not in self.machine.cluster.waiting:
                await wait.done.wait()
                assert wait.answer is not None
                self._waits.pop(wish.id, None)
                return _reply(wait.answer)
            if (failure := self._lost(wish.expert)) is not None:
                self.leave(wish.id)
                return Reply(failure)
            standing = self._standing(wish.expert)
            late = asyncio.get_running_loop().time() > give_up
            if seen is None or late or _moved(seen, standing):
                return standing
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await wait.done.wait()

    def leave(self, wish: str) -> None:
        """Nobody waits for this any longer."""
        self.tell(events.Cancel(wish))

    def used(self, uses: Iterable[Use]) -> None:
        for use in uses:
            self._request(Used(use.expert, use.count, use.keep_alive_s))

    def _request(self, event: Demand | Used) -> None:
        self._asked.append((self._clock(), event))
        self.tell(event)

    def trace(self) -> list[str]:
        """The newest requests, as lines to replay."""
        return list(dump(recorded(newest(self._asked, REMEMBERED))))

    def _answer(self, answer: Answer) -> None:
        wait = self._waits.get(answer.id)
        if wait is not None:
            wait.answer = answer
            wait.done.set()

    def _lost(self, expert: str) -> Failure | None:
        """Why Serve will never start it, if it said so."""
        told = self.roster.snapshot.experts.get(expert)
        if told is None or told.failure is None or told.replicas:
            return None
        message = f"the expert {expert!r} did not start: {told.failure}"
        return Failure(LoadFailed.code, message, "model")

    def _standing(self, expert: str) -> Standing:
        ahead = self.machine.outlook(expert)
        replicas = self.machine.cluster.experts[expert].replicas
        loads = [
            report.progress
            for id_ in replicas
            if id_ in self._heard and (report := self._heard[id_][1]).progress is not None
        ]
        first = max(loads, key=lambda each: each.fraction, default=None)
        stage = first.stage if first else "waiting" if ahead.blocked else "starting"
        progress = Progress(stage, round(ahead.fraction, 2), round(ahead.eta_s, 1))
        return Standing(progress, ahead.waiting)

    def _sweep(self, now: float) -> None:
        for id_, wait in list(self._waits.items()):
            if now - wait.asked_at > FORGOTTEN_S:
                del self._waits[id_]
                self.leave(id_)

    # --- operators --------------------------------------------------------------------------

    async def instruct(self, word: Word) -> Failure | None:
        """An operator's word; what is wrong with it, if something is.

        A new Control hears its replicas first: what nobody has told it of, it could not unload.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S), self._changed:
                await self._changed.wait_for(lambda: self.machine.cluster.settled)
        expert = self.machine.cluster.experts.get(word.expert)
        if expert is None:
            return Failure(UnknownExpert.code, f"there is no expert {word.expert!r}", "model")
        if isinstance(word, events.Unload) and expert.kept:
            message = f"{word.expert!r} is pinned, or held at several replicas: it would load again"
            return Failure(InvalidValue.code, message)
        number = self.tell(word)
        await self._announce()
        if not await self._outbox.is_safe(number):
            message = "it was done, but could not be written down: say it again shortly"
            return Failure(CapacityError.code, message, retry_after_s=RETRY_S)
        return None

    # --- what others see --------------------------------------------------------------------

    async def snapshot(self, seen: int, patience_s: float) -> Snapshot:
        """The newest snapshot; waits a while for one other than `seen`.

        A new Control tells none before it has heard the replicas: what gateways have is better.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s), self._changed:
                await self._changed.wait_for(
                    lambda: self.machine.cluster.settled and self._newest().version != seen
                )
        if not self.machine.cluster.settled:
            return Snapshot(seen)
        return self._newest()

    def _newest(self) -> Snapshot:
        return self.roster.snapshot

    async def _announce(self) -> None:
        self.roster.hold(
            {name: each.target.hold for name, each in self.machine.cluster.experts.items()}
        )
        async with self._changed:
            self._changed.notify_all()


def _reply(answer: Answer) -> Reply:
    if answer.verdict == "cancelled":
        return Reply(Failure(Cancelled.code, "nobody waited for this any longer"))
    return Reply(answer.failure)


def _moved(before: Standing, now: Standing) -> bool:
    """Whether there is news. The time left always changes, and is told with the rest."""
    return (before.progress.stage, before.progress.fraction) != (
        now.progress.stage,
        now.progress.fraction,
    )
