"""What a request for an expert would have to wait for, and how long."""

from __future__ import annotations

from dataclasses import dataclass

from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.state import Expert, ExpertState


@dataclass(frozen=True, slots=True)
class Outlook:
    state: ExpertState
    fraction: float
    """How far its load is."""
    eta_s: float
    """Seconds until it is ready, as far as anybody can tell."""
    waiting: int
    blocked: str
    """Why it does not load now; empty if nothing is in its way."""


def outlook(cluster: Cluster, expert: Expert) -> Outlook:
    loads = [each for each in expert.replicas.values() if each.loading]
    fraction = max((each.fraction for each in loads), default=0.0)
    state = expert.state
    return Outlook(
        state=state,
        fraction=1.0 if state == "ready" else fraction,
        eta_s=_eta(cluster, expert, fraction),
        waiting=cluster.waiting.length(expert.name),
        blocked=expert.blocked,
    )


def _eta(cluster: Cluster, expert: Expert, fraction: float) -> float:
    if expert.state == "ready":
        return 0.0
    if expert.failing is not None and expert.failing.retry_at > cluster.now:
        return expert.failing.retry_at - cluster.now + expert.load_seconds
    began = [each.load_began for each in expert.replicas.values() if each.load_began is not None]
    if began:
        by_time = expert.load_seconds - (cluster.now - min(began))
        return max(0.1, min(by_time, expert.load_seconds * (1 - fraction)))
    eta = expert.load_seconds
    if not expert.staying:
        eta += expert.start_seconds
    if expert.blocked:
        oldest = cluster.waiting.oldest(expert.name)
        waited = 0.0 if oldest is None else cluster.now - oldest.arrived
        eta += max(0.0, cluster.policy.turn_s - waited)
    return eta
