"""Residency: events in, effects out.

An event first becomes facts (`intake`). Where these may lead to a decision, all decisions are made
anew from the facts, in one pass, whatever the event was: an order that was lost, a replica that
died, a Control that starts again and a request that arrives are one path. A pass that finds
everything as it should be has no effects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from capyra.orchestrator.residency import answers, growth, idling, loads, upkeep, warmth
from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.decisions import Decision, span
from capyra.orchestrator.residency.effects import Effect, Persisted
from capyra.orchestrator.residency.events import Event
from capyra.orchestrator.residency.intake import take
from capyra.orchestrator.residency.outlook import Outlook, outlook
from capyra.orchestrator.residency.room import Room
from capyra.orchestrator.residency.spec import Policy


class Machine:
    """Owns residency. Deterministic: the same events at the same times give the same effects.

    `now` is in seconds and never goes back; modulo a day it is the time of day, from which the
    machine learns. It must go on across restarts only as well as a wall clock does.
    """

    def __init__(self, written: Persisted | None = None, policy: Policy | None = None) -> None:
        self._cluster = Cluster(written or Persisted(), policy or Policy())
        self._settle_at: float | None = None

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What is to be done, in this order, now that this happened."""
        cluster = self._cluster
        assert now >= cluster.now, f"time went back from {cluster.now} to {now}"
        cluster.now = now
        cluster.effects = []
        if self._settle_at is None:
            # The term first: an order of a term that was not written down could be repeated.
            self._settle_at = now + cluster.policy.settle_s
            cluster.persist()
        take(event, cluster)
        if cluster.moved or now >= self.due():
            self._decide()
        return cluster.effects

    def due(self) -> float:
        """When the next `Tick` is due, if nothing else happens before."""
        deadline = self._cluster.waiting.next_deadline()
        return min(self._cluster.wake, math.inf if deadline is None else deadline)

    def _decide(self) -> None:
        cluster = self._cluster
        cluster.moved, cluster.wake = False, math.inf
        answers.expire(cluster)
        answers.grant(cluster)
        if not self._settled():
            return
        upkeep.look_after(cluster)
        warmth.choose_warm(cluster)
        room = Room(cluster)
        idling.shed(cluster, room)
        loads.bring(cluster, room)
        answers.refuse(cluster, room)
        idling.rest(cluster)
        growth.scale(cluster, room)

    def _settled(self) -> bool:
        """Whether the replicas have had time to say what they hold. Before, any lease could be
        one too many."""
        cluster = self._cluster
        assert self._settle_at is not None
        if not cluster.settled:
            heard = bool(cluster.ledger.nodes) and all(
                each.target.known and len(each.replicas) >= each.target.count
                for each in cluster.experts.values()
            )
            cluster.settled = heard or cluster.passed(self._settle_at)
        return cluster.settled

    # --- looking ----------------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """The facts, to look at."""
        return self._cluster

    def outlook(self, expert: str) -> Outlook:
        return outlook(self._cluster, self._cluster.experts[expert])

    def decisions(self) -> Iterator[Decision]:
        """The newest decisions, oldest first."""
        return iter(self._cluster.log)

    def why(self, name: str) -> list[str]:
        """In words, what became of an expert or a request and on what grounds, oldest first."""
        cluster = self._cluster
        expert = cluster.experts.get(name)
        log = cluster.log
        found = log.of_request(name) if expert is None else log.of_expert(name)
        lines = [f"{span(cluster.now - each.at)} ago: {each.expert} {each}" for each in found]
        if expert is None:
            return lines
        ahead = self.outlook(name)
        now = f"now: {name} is {ahead.state}"
        if ahead.state != "ready" and ahead.waiting:
            now += f", {ahead.waiting} wait for it, about {span(ahead.eta_s)}"
        if ahead.blocked and ahead.state != "ready":
            now += f"; {ahead.blocked}"
        return [*lines, now]
