"""Orders that nobody confirmed, loads and starts over their deadline, targets that went astray."""

from __future__ import annotations

from capyra.orchestrator.residency.cluster import Cluster
from capyra.orchestrator.residency.decisions import span
from capyra.orchestrator.residency.state import Expert, Replica

OBEY_S = 10.0
"""A replica that has not left a load so long after it was given up is ended."""


def look_after(cluster: Cluster) -> None:
    for expert in cluster.experts.values():
        here = False
        for replica in expert.replicas.values():
            here |= replica.state != "draining" or replica.parking
            if replica.order is not None or replica.state == "loading":
                _order(cluster, expert, replica)
        if not here:
            _start(cluster, expert)
        target = expert.target
        if target.hold is not None and target.known and target.count != target.hold:
            cluster.set_target(expert, target.hold)


def _order(cluster: Cluster, expert: Expert, replica: Replica) -> None:
    policy, order = cluster.policy, replica.order
    if replica.load_began is not None and replica.loading:
        if cluster.passed(replica.load_began + policy.load_deadline_s):
            replica.load_began = None
            reason = f"the load was not over in {span(policy.load_deadline_s)}"
            cluster.fail(expert, replica.node, reason)
            cluster.order_park(replica, drain=True)
        elif order is not None and replica.epoch < order.epoch:
            _say_again(cluster, expert, replica)
    elif order is None:
        return
    elif replica.epoch < order.epoch:
        _say_again(cluster, expert, replica)
    elif replica.state == "loading" and cluster.passed(order.at + OBEY_S):
        cluster.kill(replica, "it does not leave a load that was given up")
        # It is given as long again, should the killing fail.
        cluster.order_park(replica, drain=True)


def _say_again(cluster: Cluster, expert: Expert, replica: Replica) -> None:
    """Give an order that nobody confirmed again, after a while."""
    order = replica.order
    assert order is not None
    if not cluster.passed(order.at + cluster.policy.resend_s):
        return
    if order.kind == "park":
        if not order.drain and (expert.kept or expert.busy(cluster.now)):
            replica.order = None  # things have changed since; if it obeyed, it will say so
        else:
            cluster.order_park(replica, drain=order.drain)
    else:
        began = replica.load_began
        cluster.order_load(expert, replica, "nobody confirmed the order before")
        replica.load_began = began


def _start(cluster: Cluster, expert: Expert) -> None:
    if expert.target.count == 0:
        expert.started_at = None
        return
    deadline = cluster.policy.start_deadline_s
    if expert.started_at is None:
        expert.started_at = cluster.now
    if not cluster.passed(expert.started_at + deadline):
        return
    expert.started_at = cluster.now
    # The target stays while requests wait: what Serve asks for may make the cluster grow.
    wanted = cluster.waiting.length(expert.name) > 0 or expert.kept
    if wanted:
        cluster.fail(expert, "no node", f"no process came up in {span(deadline)}")
    elif expert.target.hold is None:
        cluster.note("gave_up", expert, cause=f"it did not come up in {span(deadline)}")
        cluster.set_target(expert, 0)
