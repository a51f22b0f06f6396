"""Who waits no longer: the expert is ready, cannot become so, or the time is over."""

from __future__ import annotations

from capyra.engine.errors import CapacityError, DeadlineExceeded, Failure, LoadFailed
from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.decisions import size
from capyra.orchestrator.residency.intake import stopped
from capyra.orchestrator.residency.outlook import outlook
from capyra.orchestrator.residency.room import Room
from capyra.orchestrator.residency.state import Expert


def expire(cluster: Cluster) -> None:
    for waiter in cluster.waiting.overdue(cluster.now):
        expert = cluster.experts[waiter.expert]
        ahead = outlook(cluster, expert)
        because = ahead.blocked or f"it is {ahead.state}"
        message = f"the deadline passed while the request waited for {waiter.expert!r}: {because}"
        failure = Failure(DeadlineExceeded.code, message, retry_after_s=ahead.eta_s)
        cluster.answer(waiter.id, "expired", failure)


def grant(cluster: Cluster) -> None:
    """Everyone whose expert takes requests."""
    for name in cluster.waiting.wanted():
        expert = cluster.experts[name]
        if expert.state != "ready" or expert.leaving or expert.target.stopped:
            continue
        expert.expected_until = cluster.now + cluster.policy.arrival_s
        expert.idle_since = cluster.now
        for waiter in cluster.waiting.queue(name):
            if waiter.keep_alive_s is not None:
                expert.asked_keep_alive_s = waiter.keep_alive_s
            cluster.answer(waiter.id, "granted")


def refuse(cluster: Cluster, room: Room) -> None:
    """Everyone whose expert is stopped, failed a moment ago, or fits nowhere."""
    for name in cluster.waiting.wanted():
        expert = cluster.experts[name]
        failure = _refusal(cluster, room, expert)
        if failure is not None:
            for waiter in cluster.waiting.queue(name):
                cluster.answer(waiter.id, "refused", failure)


def _refusal(cluster: Cluster, room: Room, expert: Expert) -> Failure | None:
    if expert.target.stopped:
        return stopped(expert)
    if any(each.loading and not each.parking for each in expert.replicas.values()):
        return None
    failing = expert.failing
    if failing is not None and failing.retry_at > cluster.now:
        return Failure(
            LoadFailed.code,
            f"expert {expert.name!r} could not be loaded: {failing.reason}",
            retry_after_s=failing.retry_at - cluster.now,
        )
    nodes = [name for name, account in cluster.ledger.nodes.items() if account.capacity is not None]
    if nodes and not any(room.possible(node, expert) for node in nodes):
        return Failure(
            CapacityError.code,
            f"expert {expert.name!r} needs {size(expert.need)} and {size(expert.spec.process)} for "
            "its process; no node has so much beside what is pinned there",
        )
    return None
