"""What operators are told of residency."""

from __future__ import annotations

import math

from capyra.deployments.experts import ExpertStatus, Lease
from capyra.orchestrator.residency.machine import Machine
from capyra.orchestrator.residency.state import Expert


def statuses(machine: Machine) -> list[ExpertStatus]:
    return [_status(machine, each) for each in machine.cluster.experts.values()]


def _status(machine: Machine, expert: Expert) -> ExpertStatus:
    cluster, ahead = machine.cluster, machine.outlook(expert.name)
    return ExpertStatus(
        name=expert.name,
        state=ahead.state,
        held=expert.target.hold,
        pinned=expert.pinned,
        keep_alive_s=expert.keep_alive_s,
        bytes=expert.need,
        measured=expert.measured is not None,
        waiting=ahead.waiting,
        eta_s=round(ahead.eta_s, 2),
        blocked=ahead.blocked,
        idle_s=_finite(cluster.now - expert.idle_since),
        next_use_s=_finite(cluster.demand.next_use(expert.name, cluster.now)),
        leases=tuple(
            Lease(each.id, each.node, each.state, each.lease, each.in_flight)
            for each in expert.replicas.values()
        ),
    )


def _finite(seconds: float) -> float | None:
    return round(seconds, 1) if math.isfinite(seconds) else None
