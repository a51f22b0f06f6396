"""What a replica says, against what it was told."""

from __future__ import annotations

from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.events import Report
from capyra.orchestrator.residency.state import Expert, Replica

LEARN = 0.5
"""The weight of the newest load in the learned load time."""


def report(event: Report, cluster: Cluster) -> None:
    expert = cluster.experts.get(event.expert)
    if expert is None:
        return
    replica = expert.replicas.get(event.replica)
    if replica is None:
        replica = _meet(event, expert, cluster)
    elif event.epoch < replica.epoch:
        return  # overtaken by a later one
    before = replica.state
    replica.epoch, replica.fraction = event.epoch, event.fraction
    if event.state != before:
        replica.state, replica.since = event.state, cluster.now
        cluster.moved = True
    _count(event.in_flight, replica, expert, cluster)
    _judge(event, replica, expert, cluster)
    _measure(event, replica, expert, cluster, fresh=replica.state != before)


def _meet(event: Report, expert: Expert, cluster: Cluster) -> Replica:
    replica = Replica(event.replica, expert.name, event.node, event.state, cluster.now)
    if expert.started_at is not None:
        expert.start_s = _learned(expert.start_s, cluster.now - expert.started_at)
        expert.started_at = None
    if event.state in ("loading", "ready"):
        # Another Control's order, or its own: it holds what it holds.
        replica.load_began = cluster.now if event.state == "loading" else None
        replica.lease = expert.need
        expert.idle_since = max(expert.idle_since, cluster.now)
        cluster.note(
            "adopted", expert, replica=replica.id, node=event.node, state=event.state,
            bytes=event.bytes,
        )  # fmt: skip
    expert.replicas[event.replica] = replica
    cluster.moved = True
    return replica


def _count(in_flight: int, replica: Replica, expert: Expert, cluster: Cluster) -> None:
    if in_flight == replica.in_flight:
        return
    replica.in_flight = in_flight
    under_way = sum(each.in_flight for each in expert.replicas.values())
    if not under_way:
        expert.idle_since = cluster.now
        cluster.wake_at(expert.keep_until)
        cluster.moved |= bool(len(cluster.waiting)) or expert.keep_until <= cluster.now
    # Something to scale, up or down.
    cluster.moved |= len(expert.replicas) > 1 or under_way > expert.spec.load


def _judge(event: Report, replica: Replica, expert: Expert, cluster: Cluster) -> None:
    """Whether the order that is awaited has had its outcome."""
    order = replica.order
    if order is None or event.epoch < order.epoch:
        return
    if order.kind == "load":
        if event.state == "loading":
            return
        replica.order = None
        if event.state == "parked":
            reason = event.failure or "the replica gave the load up"
            cluster.fail(expert, replica.node, reason)
    elif event.state == "parked":
        replica.order = None
        cluster.note("parked", expert, node=replica.node, bytes=replica.lease)
        expert.asked_keep_alive_s, expert.leaving = None, False
    elif event.state == "ready" and not order.drain:
        replica.order = None
        cluster.note("declined", expert, replica=replica.id)
    else:
        return
    cluster.moved = True


def _measure(
    event: Report, replica: Replica, expert: Expert, cluster: Cluster, *, fresh: bool
) -> None:
    """The lease follows what the replica holds; the next one is what this one came to."""
    before = replica.lease
    own = _own(event, replica, expert, fresh=fresh)
    replica.lease, replica.retired = own + event.retired, event.retired
    if replica.state == "ready":
        if fresh:
            _ready(replica, expert, cluster)
        if own != expert.measured and event.bytes > event.retired and not replica.stale:
            first = expert.measured is None
            expert.measured = own
            if first:
                cluster.persist()
    if replica.lease != before or replica.id not in cluster.ledger.holdings:
        cluster.charge(replica)
        cluster.moved = True


def _own(event: Report, replica: Replica, expert: Expert, *, fresh: bool) -> int:
    """The lease of its present engine: what it holds; what it was allowed, while it loads or
    where it cannot tell."""
    held, leased = event.bytes - event.retired, replica.lease - replica.retired
    if replica.state == "parked":
        if replica.loading:
            return leased
        replica.stale = False
        return held
    if replica.state == "ready" and fresh:
        return held or leased or expert.need
    if replica.state == "loading":
        return max(leased, held, expert.need)
    return max(leased, held)


def _ready(replica: Replica, expert: Expert, cluster: Cluster) -> None:
    expert.failing, expert.died = None, 0
    took = 0.0
    if replica.load_began is not None:
        took = cluster.now - replica.load_began
        if not replica.stale:
            expert.load_s = _learned(expert.load_s, took)
        replica.load_began = None
    cluster.note("ready", expert, node=replica.node, seconds=took, bytes=replica.lease)


def _learned(known: float | None, seen: float) -> float:
    return seen if known is None else known + LEARN * (seen - known)
