"""Events become facts. Nothing is decided here but what needs no thought."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from capyra.engine.errors import ExpertStopped, Failure, QueueFull, UnknownExpert
from capyra.orchestrator.residency import events
from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.decisions import Value
from capyra.orchestrator.residency.outlook import outlook
from capyra.orchestrator.residency.reports import report
from capyra.orchestrator.residency.state import Expert
from capyra.orchestrator.residency.targets import Target
from capyra.orchestrator.residency.waiting import Waiter


@singledispatch
def take(event: object, _cluster: Cluster) -> None:
    raise AssertionError(f"no such event: {event!r}")


@take.register
def _configure(event: events.Configure, cluster: Cluster) -> None:
    before = cluster.experts
    cluster.policy = event.policy
    cluster.written |= {name: expert.written() for name, expert in before.items()}
    cluster.experts = {}
    for spec in event.experts:
        expert = before.get(spec.name)
        if expert is None:
            expert = Expert(spec, Target(spec.initial))
            if spec.name in cluster.written:
                expert.recall(cluster.written[spec.name])
        expert.change(spec)
        cluster.experts[spec.name] = expert
    cluster.demand.keep(cluster.experts)
    cluster.warm = [name for name in cluster.warm if name in cluster.experts]
    for name in before:
        if name not in cluster.experts:
            _turn_away(cluster, name)
            # What it weighs is still true if it comes back; its target goes with its application.
            written = cluster.written[name]
            cluster.written[name] = replace(
                written, own=None, pending=None, hold=None, deployed=None
            )
    cluster.moved = True


@take.register
def _demand(event: events.Demand, cluster: Cluster) -> None:
    if event.id in cluster.waiting:
        return  # said again by a gateway that was not sure to be heard
    expert = cluster.experts.get(event.expert)
    waiter = Waiter(
        id=event.id,
        expert=event.expert,
        arrived=cluster.now,
        deadline=event.deadline,
        priority=event.priority,
        keep_alive_s=event.keep_alive_s,
    )
    cluster.waiting.enter(waiter)
    if expert is None:
        message = f"there is no expert {event.expert!r}"
        cluster.answer(event.id, "refused", Failure(UnknownExpert.code, message, "model"))
        return
    cluster.demand.used(event.expert, 1, cluster.now)
    ahead = outlook(cluster, expert)
    inputs: dict[str, Value] = {"state": ahead.state, "eta": ahead.eta_s}
    cluster.log.add(cluster.now, "waits", event.expert, event.id, event.shown_id, **inputs)
    if expert.target.stopped:
        cluster.answer(event.id, "refused", stopped(expert))
    elif (
        cluster.waiting.length(event.expert) > expert.spec.waiting
        or len(cluster.waiting) > cluster.policy.waiting
    ):
        message = (
            f"{cluster.waiting.length(event.expert) - 1} requests wait for expert "
            f"{event.expert!r} already, {len(cluster.waiting) - 1} in all: try again later"
        )
        failure = Failure(QueueFull.code, message, retry_after_s=ahead.eta_s)
        cluster.answer(event.id, "refused", failure)
    else:
        cluster.moved = True


@take.register
def _cancel(event: events.Cancel, cluster: Cluster) -> None:
    cluster.answer(event.id, "cancelled")


@take.register
def _used(event: events.Used, cluster: Cluster) -> None:
    expert = cluster.experts.get(event.expert)
    if expert is None:
        return
    cluster.demand.used(event.expert, event.count, cluster.now)
    if event.keep_alive_s is not None:
        expert.asked_keep_alive_s = event.keep_alive_s
    expert.idle_since = max(expert.idle_since, cluster.now)
    cluster.wake_at(expert.keep_until)


take.register(events.Report, report)


@take.register
def _gone(event: events.Gone, cluster: Cluster) -> None:
    for replica in cluster.replicas():
        if replica.id == event.replica:
            cluster.forget(replica, "its process ended")
            return
    cluster.ledger.release(event.replica)


@take.register
def _node_seen(event: events.NodeSeen, cluster: Cluster) -> None:
    account = cluster.ledger.nodes.get(event.node)
    if account is None or account.capacity != event.capacity:
        cluster.ledger.open(event.node, event.capacity)
        cluster.moved = True


@take.register
def _node_lost(event: events.NodeLost, cluster: Cluster) -> None:
    for replica in [each for each in cluster.replicas() if each.node == event.node]:
        cluster.forget(replica, "its node is lost")
    cluster.ledger.close(event.node)
    cluster.moved = True


@take.register
def _targets(event: events.Targets, cluster: Cluster) -> None:
    for name, count in event.counts.items():
        expert = cluster.experts.get(name)
        if expert is None:
            continue
        target = expert.target
        known, fresh, deployed = target.known, target.own is None, target.deployed
        resend_s = cluster.policy.resend_s
        deploy = event.deployed.get(name)
        deploying = name in event.deploying
        news = target.read(count, event.asked_at, resend_s, deploy, deploying=deploying)
        if news == "lost":
            target.pending = None
        if news == "held":
            cluster.note("held", expert, replicas=count)
            cluster.withdraw(expert)
        if news == "reset":
            wanted = target.count if target.hold is None else target.hold
            cluster.note("reset", expert, before=count, after=wanted)
            cluster.set_target(expert, wanted)
        if news != "none" or target.deployed != deployed:
            # Nothing waits for it: a crash before it is only more careful than it need be.
            cluster.persist()
            cluster.moved = True
        if not known:
            cluster.moved = True
        waited = cluster.waiting.length(name)
        idle = count and not waited and not expert.resident
        if news == "confirmed" and fresh and expert.spec.resting and idle:
            cluster.note("gave_up", expert, cause="it is to begin without one")
            cluster.set_target(expert, 0)


@take.register
def _hold(event: events.Hold, cluster: Cluster) -> None:
    expert = cluster.experts.get(event.expert)
    if expert is None:
        return
    expert.target.hold = event.replicas
    expert.leaving &= event.replicas == 0
    cluster.note("held", expert, replicas=event.replicas)
    cluster.set_target(expert, event.replicas)
    cluster.moved = True


@take.register
def _release(event: events.Release, cluster: Cluster) -> None:
    expert = cluster.experts.get(event.expert)
    if expert is None or expert.target.hold is None:
        return
    expert.target.hold = None
    cluster.note("released", expert)
    cluster.persist()
    cluster.moved = True


@take.register
def _pin(event: events.Pin, cluster: Cluster) -> None:
    expert = cluster.experts.get(event.expert)
    if expert is None:
        return
    expert.own_pin = event.on
    expert.leaving &= not event.on
    cluster.note("pinned" if expert.pinned else "unpinned", expert)
    cluster.persist()
    cluster.moved = True


@take.register
def _keep_alive(event: events.KeepAlive, cluster: Cluster) -> None:
    expert = cluster.experts.get(event.expert)
    if expert is None:
        return
    expert.own_keep_alive_s, expert.asked_keep_alive_s = event.seconds, None
    cluster.persist()
    cluster.moved = True


@take.register
def _unload(event: events.Unload, cluster: Cluster) -> None:
    expert = cluster.experts.get(event.expert)
    if expert is not None and expert.resident:
        expert.leaving = True
        cluster.moved = True


@take.register
def _tick(_event: events.Tick, cluster: Cluster) -> None:
    cluster.moved = True


def stopped(expert: Expert) -> Failure:
    message = (
        f"the expert {expert.name!r} is stopped: its operator starts it with "
        f"`capyra scale {expert.name} 1`"
    )
    return Failure(ExpertStopped.code, message, "model")


def _turn_away(cluster: Cluster, name: str) -> None:
    """The expert is configured no longer; its processes are charged until they have ended."""
    message = f"the expert {name!r} is served no longer"
    for waiter in cluster.waiting.queue(name):
        cluster.answer(waiter.id, "refused", Failure(UnknownExpert.code, message, "model"))
