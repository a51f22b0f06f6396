"""The warm set: experts kept ready although nobody asks for them now."""

from __future__ import annotations

from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.state import Expert

CHOOSE_EVERY_S = 30.0
LEAST_RATE = 1 / 86400
"""Who is expected less than once a day is not kept."""
LOYALTY = 1.5
"""A member is replaced by one that is likelier by this factor: a close race moves nothing."""


def choose_warm(cluster: Cluster) -> None:
    if not cluster.passed(cluster.warm_at):
        return
    cluster.warm_at = cluster.now + CHOOSE_EVERY_S
    before = cluster.warm
    cluster.warm = _likeliest(cluster)
    for name in before:
        if name not in cluster.warm:
            cluster.note("cooled", cluster.experts[name])
    for name in cluster.warm:
        if name not in before:
            next_use = cluster.demand.next_use(name, cluster.now)
            cluster.note("warmed", cluster.experts[name], next_use=next_use)
    if cluster.warm:
        cluster.wake_at(cluster.warm_at)


def _likeliest(cluster: Cluster) -> list[str]:
    kept = sum(each.kept for each in cluster.experts.values())
    places = max(0, cluster.policy.warm - kept)
    rated = []
    for expert in cluster.experts.values():
        rate = cluster.demand.rate(expert.name, cluster.now)
        if rate >= LEAST_RATE and _eligible(expert):
            loyalty = LOYALTY if expert.name in cluster.warm else 1.0
            rated.append((-rate * loyalty, expert.name))
    return [name for _, name in sorted(rated)[:places]]


def _eligible(expert: Expert) -> bool:
    """Pinned ones are kept anyway; who says `keep_alive: 0` wants to leave at once."""
    return not (
        expert.kept
        or expert.leaving
        or expert.target.stopped
        or expert.keep_alive_s == 0
        or expert.failing is not None
    )
