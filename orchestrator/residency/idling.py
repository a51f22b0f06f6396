"""Who goes though nobody needs the room: the idle, those parked for long, those too many."""

from __future__ import annotations

from collections import defaultdict

from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.eviction import choose, evict, regret, spare, victims
from capyra.orchestrator.residency.room import Room
from capyra.orchestrator.residency.state import Expert


def rest(cluster: Cluster) -> None:
    for expert in cluster.present():
        if expert.leaving:
            _unload(cluster, expert)
        elif expert.resident:
            _idle(cluster, expert)
        elif spare(cluster, expert) and not expert.kept:
            (replica,) = expert.replicas.values()
            if cluster.passed(replica.since + cluster.policy.parked_keep_s):
                parked = cluster.now - replica.since
                cluster.note("gave_up", expert, cause=f"parked for {parked:.0f} s")
                cluster.set_target(expert, 0)


def _unload(cluster: Cluster, expert: Expert) -> None:
    if not expert.resident:
        expert.leaving = False
    elif _shrunk(cluster, expert):
        (replica,) = expert.staying
        if replica.order is None and replica.state in ("ready", "loading"):
            cluster.note("unloaded", expert)
            cluster.order_park(replica, drain=True)


def _idle(cluster: Cluster, expert: Expert) -> None:
    if not cluster.passed(expert.keep_until):
        return
    if expert.kept or expert.name in cluster.warm or cluster.waiting.length(expert.name):
        return
    if any(each.order is not None or each.state != "ready" for each in expert.staying):
        return
    if expert.busy(cluster.now):
        return
    if _shrunk(cluster, expert):
        (replica,) = expert.staying
        idle = cluster.now - expert.idle_since
        cluster.note("idle", expert, idle=idle, keep_alive=expert.keep_alive_s)
        cluster.order_park(replica)


def _shrunk(cluster: Cluster, expert: Expert) -> bool:
    """Whether one replica is left, which may park; if not, Serve is asked for no more."""
    if expert.target.count > 1:
        if (expert.target.hold or 0) <= 1:
            cluster.set_target(expert, 1)
        return False
    return len(expert.staying) == 1


def shed(cluster: Cluster, room: Room) -> None:
    """Nodes that hold more than they may, because they shrank, a load took more than was known,
    or Serve placed processes there."""
    _thin_out(cluster)
    for node, account in cluster.ledger.nodes.items():
        if account.capacity is None:
            continue
        missing = room.missing(node, 0, places=0)
        if not missing:
            continue
        over = max(missing.bytes, missing.total, 0)
        for victim in choose(victims(cluster, node, None, starved=False), missing) or []:
            cluster.note("shed", victim.expert, node=node, over=over)
            evict(cluster, victim)
            room.expect(victim.expert)


def _thin_out(cluster: Cluster) -> None:
    """No more processes without weights than there may be on a node."""
    parked: dict[str, list[Expert]] = defaultdict(list)
    for expert in cluster.present():
        if spare(cluster, expert):
            (replica,) = expert.replicas.values()
            parked[replica.node].append(expert)
    for node, experts in parked.items():
        surplus = len(experts) - cluster.policy.parked
        if surplus <= 0:
            continue
        experts.sort(key=lambda each: (each.kept, regret(cluster, each), each.name))
        for expert in experts[:surplus]:
            if not expert.kept:
                cluster.note("gave_up", expert, cause=f"{node} keeps {len(experts)} parked")
                cluster.set_target(expert, 0)
