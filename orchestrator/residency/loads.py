"""What is loaded next, and who makes room for it.

The order: who has waited for a turn, oldest first; other requests by priority, then by how many
are helped for each second of loading; pinned experts; further replicas; the warm set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.decisions import size, span
from capyra.orchestrator.residency.eviction import Victim, choose, evict, regret, spare, victims
from capyra.orchestrator.residency.room import Room
from capyra.orchestrator.residency.state import Expert, Replica


@dataclass(frozen=True, slots=True)
class Wish:
    expert: Expert
    cause: str
    starved: bool = False
    guess: bool = False
    """Nobody asked: it takes free room only. Replayed, guesses that evict cost more than they save
    (docs/decisions/0014)."""


def wishes(cluster: Cluster) -> list[Wish]:
    """Whose weights should come, the most urgent first."""
    waited = []
    for name in cluster.waiting.wanted():
        expert = cluster.experts[name]
        queue = cluster.waiting.queue(name)
        oldest = queue[0]
        starved = cluster.passed(oldest.arrived + cluster.policy.turn_s)
        rank = (
            not starved,
            0 if starved else -max(each.priority for each in queue),
            0 if starved else -len(queue) / expert.load_seconds,
            oldest.arrived,
            name,
        )
        cause = f"{len(queue)} waiting, the first for {span(cluster.now - oldest.arrived)}"
        waited.append((rank, Wish(expert, cause, starved)))
    waited.sort(key=lambda each: each[0])
    return [wish for _, wish in waited] + list(_unasked(cluster))


def _unasked(cluster: Cluster) -> Iterator[Wish]:
    waiting = cluster.waiting
    for expert in cluster.experts.values():
        if expert.kept and not expert.leaving and not waiting.length(expert.name):
            yield Wish(expert, "it is pinned, or held at several replicas")
    for expert in cluster.present():
        if len(expert.replicas) > 1 and expert.state == "ready" and not expert.kept:
            yield Wish(expert, "its load is worth another replica", guess=True)
    if not len(cluster.waiting):
        for name in cluster.warm:
            expert = cluster.experts[name]
            if not expert.kept and not expert.resident:
                yield Wish(expert, "it is likely to be asked for soon", guess=True)


def bring(cluster: Cluster, room: Room) -> None:
    for wish in wishes(cluster):
        expert = wish.expert
        if expert.target.stopped:
            continue
        if expert.failing is not None and not cluster.passed(expert.failing.retry_at):
            continue
        if not expert.staying:
            _start(cluster, wish)
        for replica in expert.staying:
            if replica.state == "parked" and replica.order is None:
                _place(cluster, room, wish, replica)


# --- a process ------------------------------------------------------------------------------


def _start(cluster: Cluster, wish: Wish) -> None:
    expert = wish.expert
    if expert.target.count > 0:
        if expert.started_at is None:
            expert.started_at = cluster.now
        return
    if expert.replicas:
        return  # Serve is stopping the last one: it comes back when that has ended
    if not _slot(cluster, wish):
        _block(cluster, expert, "every node holds as many processes without weights as it may")
        return
    waiting = cluster.waiting.length(expert.name)
    cluster.note("started", expert, waiting=waiting)
    cluster.set_target(expert, 1)


def _slot(cluster: Cluster, wish: Wish) -> bool:
    """Whether one more process may come up without weights; makes room for a request's."""
    policy = cluster.policy
    nodes = sum(account.capacity is not None for account in cluster.ledger.nodes.values())
    slots = nodes * max(policy.parked, policy.loads)
    taken = sum(
        each.target.count > 0 and not each.resident and each.target.hold is None
        for each in cluster.experts.values()
    )
    if taken < slots:
        return True
    idle = [each for each in cluster.experts.values() if spare(cluster, each)]
    if idle and not wish.guess:
        least = min(idle, key=lambda each: (regret(cluster, each), each.name))
        cluster.note("gave_up", least, cause=f"{wish.expert.name} needs its place")
        cluster.set_target(least, 0)
    return False


# --- its weights ----------------------------------------------------------------------------


def _place(cluster: Cluster, room: Room, wish: Wish, replica: Replica) -> None:
    expert, node = wish.expert, replica.node
    account = cluster.ledger.nodes[node]
    if account.capacity is None:
        _block(cluster, expert, f"nobody told yet what {node} can hold")
        return
    if not room.possible(node, expert):
        _misplaced(cluster, room, expert, node)
        return
    loading = sum(each.loading and each.node == node for each in cluster.replicas())
    if loading >= cluster.policy.loads:
        _block(cluster, expert, f"{loading} others are loading on {node}")
        return
    # It has its place already while an engine that retired serves on in it.
    places = int(not replica.lease)
    if room.fits(node, expert.need, places):
        cluster.order_load(expert, replica, wish.cause)
        return
    missing = room.missing(node, expert.need, places)
    if not missing:
        room.promise(node, expert.need)
        _block(cluster, expert, f"others are leaving {node} to make room for it")
        return
    if wish.guess:
        _block(cluster, expert, f"{node} is full, and a guess takes nobody's room")
        return
    chosen = choose(victims(cluster, node, expert, starved=wish.starved), missing)
    if chosen is None:
        if wish.starved:
            room.promise(node, expert.need)
        lacks = f"{size(missing.bytes)} are missing" if missing.bytes > 0 else "no place is free"
        cause = f"{lacks} on {node}, and whoever could go is busy or has just come"
        _block(cluster, expert, cause)
        return
    for victim in chosen:
        _make_way(cluster, room, wish, victim)
    room.promise(node, expert.need)


def _make_way(cluster: Cluster, room: Room, wish: Wish, victim: Victim) -> None:
    expert = victim.expert
    nodes = ", ".join(sorted({each.node for each in expert.replicas.values()}))
    if expert.busy(cluster.now):
        oldest = cluster.waiting.oldest(wish.expert.name)
        assert oldest is not None, "only a request makes others yield"
        cluster.note(
            "yields", expert, other=wish.expert.name, waited=cluster.now - oldest.arrived,
            stay=cluster.now - (expert.loaded_since or cluster.now),
        )  # fmt: skip
    elif expert.resident:
        cluster.note(
            "evicted", expert, nodes=nodes, other=wish.expert.name, bytes=wish.expert.need,
            idle=cluster.now - expert.idle_since,
            next_use=cluster.demand.next_use(expert.name, cluster.now),
            load=expert.load_seconds,
        )  # fmt: skip
    else:
        cluster.note("gave_up", expert, cause=f"{wish.expert.name} needs its memory")
    evict(cluster, victim)
    room.expect(expert)


def _misplaced(cluster: Cluster, room: Room, expert: Expert, node: str) -> None:
    """Serve chose a node that can never hold it: try another one, if there is any."""
    elsewhere = any(
        room.possible(other, expert)
        for other, account in cluster.ledger.nodes.items()
        if account.capacity is not None
    )
    reason = f"{node}, where its process is, cannot hold its {size(expert.need)}"
    if elsewhere and expert.target.hold is None and expert.state != "ready":
        cluster.fail(expert, node, reason)
        cluster.note("gave_up", expert, cause=reason)
        cluster.set_target(expert, 0)
    else:
        _block(cluster, expert, reason)


def _block(cluster: Cluster, expert: Expert, cause: str) -> None:
    if expert.blocked != cause:
        expert.blocked = cause
        cluster.note("blocked", expert, cause=cause)
