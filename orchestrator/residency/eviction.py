"""Who goes when room is needed: those whose absence is expected to cost the least."""

from __future__ import annotations

from dataclasses import dataclass

from capyra.engine.config import FOREVER
from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.room import Amount
from capyra.orchestrator.residency.state import Expert, Replica

Rank = tuple[bool, bool, float, str]


@dataclass(frozen=True, slots=True)
class Victim:
    expert: Expert
    frees: Amount
    rank: Rank
    """Lower goes first: idle before busy, then those not kept for ever, then by regret."""


def quantum(cluster: Cluster, expert: Expert) -> float:
    """How long its weights stay at least: no shorter than their load took, so that at worst
    half of the time is spent loading; no longer than a turn."""
    policy = cluster.policy
    return min(max(policy.stay_s, expert.load_seconds), policy.turn_s)


def victims(cluster: Cluster, node: str, wanting: Expert | None, *, starved: bool) -> list[Victim]:
    """Who might make room on this node (or elsewhere, for the total), the least regretted first.

    With `starved` those that are busy count too, if they had their turn.
    """
    found = []
    for expert in cluster.present():
        if expert is wanting or expert.kept:
            continue
        victim = _weights(cluster, expert, node, starved) or _process(cluster, expert, node)
        if victim is not None:
            found.append(victim)
    return sorted(found, key=lambda each: each.rank)


def choose(candidates: list[Victim], missing: Amount) -> list[Victim] | None:
    """The first of them that together free what is missing; None if all of them do not."""
    chosen = []
    left = missing
    for victim in candidates:
        if not left:
            break
        if left.helped_by(victim.frees):
            chosen.append(victim)
            left = left.less(victim.frees)
    if left:
        return None
    # A later one may have made an earlier one needless: spare the most regretted of those.
    for victim in reversed(chosen[:-1]):
        without = left.less(_negative(victim.frees))
        if not without:
            chosen.remove(victim)
            left = without
    return chosen


def evict(cluster: Cluster, victim: Victim) -> None:
    """Tell it to go: its weights, or its process if it has none. Its bytes come when it says so."""
    expert = victim.expert
    if not expert.resident:
        cluster.set_target(expert, 0)
    elif len(expert.staying) > 1:
        cluster.set_target(expert, 1)
    else:
        (replica,) = expert.staying
        cluster.order_park(replica, drain=expert.busy(cluster.now))


def regret(cluster: Cluster, expert: Expert) -> float:
    """What to compare when one of two must go."""
    if cluster.policy.eviction == "lru":
        return cluster.demand.last(expert.name) or 0.0
    return cluster.regret(expert)


def _weights(cluster: Cluster, expert: Expert, node: str, starved: bool) -> Victim | None:
    since = expert.loaded_since
    if since is None or not all(_settled(each) for each in expert.staying):
        return None
    if len(expert.staying) > max(1, expert.target.count):
        return None  # it shrinks already, and parks when one is left
    busy = expert.busy(cluster.now)
    if busy and not starved:
        return None
    if not cluster.passed(since + (cluster.policy.turn_s if busy else quantum(cluster, expert))):
        return None
    frees = Amount()
    for replica in expert.resident:
        here = replica.node == node
        frees.bytes += replica.lease * here
        frees.places += here
        frees.total += replica.lease
    forever = expert.keep_alive_s == FOREVER
    return Victim(expert, frees, (busy, forever, regret(cluster, expert), expert.name))


def _process(cluster: Cluster, expert: Expert, node: str) -> Victim | None:
    if not spare(cluster, expert):
        return None
    (replica,) = expert.replicas.values()
    process = expert.spec.process
    # Its weights are not there: only the process would have to come back.
    cost = cluster.demand.rate(expert.name, cluster.now) * expert.start_seconds
    if cluster.policy.eviction == "lru":
        cost = regret(cluster, expert)
    frees = Amount(process if replica.node == node else 0, 0, process)
    return Victim(expert, frees, (False, False, cost, expert.name))


def spare(cluster: Cluster, expert: Expert) -> bool:
    """Whether it is a parked process that nobody waits for, and that Control may give up."""
    if len(expert.replicas) != 1:
        return False
    replica = next(iter(expert.replicas.values()))
    return (
        replica.state == "parked"
        and replica.order is None
        and not replica.retired
        and expert.target.hold is None
        and expert.target.count == 1
        and not cluster.waiting.length(expert.name)
    )


def _settled(replica: Replica) -> bool:
    return replica.state == "ready" and replica.order is None


def _negative(amount: Amount) -> Amount:
    return Amount().less(amount)
