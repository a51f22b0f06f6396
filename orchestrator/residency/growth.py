"""Replicas follow the load, where there is room for them."""

from __future__ import annotations

from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.room import Room
from capyra.orchestrator.residency.state import Expert

PATIENCE_S = 10.0
"""A further replica that found no room in this time is given back."""


def scale(cluster: Cluster, room: Room) -> None:
    for expert in cluster.present():
        if _steady(expert):
            continue
        if expert.state != "ready" or expert.target.hold is not None or expert.leaving:
            continue
        staying = expert.staying
        if len(staying) != expert.target.count:
            continue
        usable = sum(each.usable for each in staying)
        if usable < len(staying):
            _give_back(cluster, expert, usable)
            continue
        under_way = sum(each.in_flight for each in staying)
        wanted = expert.load.wanted(expert.spec, under_way, len(staying), cluster.now)
        due = expert.load.due(expert.spec)
        if due is not None and due > cluster.now:
            cluster.wake_at(due)
        if wanted > len(staying):
            # Who waits for a first replica goes before who would like another.
            more = 0 if len(cluster.waiting) else _rooms(cluster, room, expert)
            wanted = min(wanted, len(staying) + more)
        if wanted != len(staying):
            cluster.note("scaled", expert, before=len(staying), after=wanted, under_way=under_way)
            cluster.set_target(expert, wanted)


def _steady(expert: Expert) -> bool:
    """What holds for most: one replica, with no more to do than it should have."""
    if len(expert.replicas) != 1 or expert.target.count != 1 or expert.spec.least > 1:
        return False
    (replica,) = expert.replicas.values()
    if replica.in_flight > expert.spec.load:
        return False
    expert.load.over_since = expert.load.under_since = None
    return True


def _rooms(cluster: Cluster, room: Room, expert: Expert) -> int:
    """How many more replicas fit, each on a node of its own choice of Serve's: so few."""
    need = expert.need + expert.spec.process
    return sum(
        account.capacity is not None and room.fits(node, need)
        for node, account in cluster.ledger.nodes.items()
    )


def _give_back(cluster: Cluster, expert: Expert, usable: int) -> None:
    parked = [each for each in expert.staying if each.state == "parked" and each.order is None]
    if parked and cluster.passed(min(each.since for each in parked) + PATIENCE_S):
        cluster.note("gave_up", expert, cause="there is no room for another replica's weights")
        cluster.set_target(expert, max(1, usable))
