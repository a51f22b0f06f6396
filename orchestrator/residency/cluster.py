"""Everything the machine knows, and the few things it can do about it.

What it does is written down at once as if the cluster had heard it: a lease is charged when the
load is ordered, and given back when the replica says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from capyra.engine.errors import Failure
from capyra.orchestrator.residency.decisions import DecisionLog, Value
from capyra.orchestrator.residency.demand import Demand
from capyra.orchestrator.residency.effects import (
    Effect,
    Kill,
    Load,
    Park,
    Persist,
    Persisted,
    SetTarget,
    Verdict,
    Withdraw,
)
from capyra.orchestrator.residency.events import Epoch
from capyra.orchestrator.residency.ledger import Holding, Ledger
from capyra.orchestrator.residency.spec import Policy
from capyra.orchestrator.residency.state import Expert, Failing, Order, Replica
from capyra.orchestrator.residency.waiting import WaitingRoom


class Cluster:
    def __init__(self, written: Persisted, policy: Policy) -> None:
        self.policy = policy
        self.written = dict(written.experts)
        self.term = written.term + 1
        self.now = -math.inf
        self.experts: dict[str, Expert] = {}
        self.ledger = Ledger()
        self.waiting = WaitingRoom()
        self.demand = Demand()
        self.log = DecisionLog(policy.log)
        self.warm: list[str] = []
        self.warm_at = -math.inf
        """When the warm set is chosen anew."""
        self.settled = False
        self.wake = math.inf
        """When something is due although nothing happens."""
        self.moved = False
        """Whether something happened that may lead to a decision."""
        self.effects: list[Effect] = []
        self._number = 0

    # --- looking ----------------------------------------------------------------------------

    def present(self) -> list[Expert]:
        """The experts that have processes."""
        return [each for each in self.experts.values() if each.replicas]

    def replicas(self) -> Iterator[Replica]:
        for expert in self.experts.values():
            yield from expert.replicas.values()

    def regret(self, expert: Expert) -> float:
        """Seconds of waiting that each second without its weights is expected to cost."""
        return self.demand.rate(expert.name, self.now) * expert.load_seconds

    def persisted(self) -> Persisted:
        written = {name: expert.written() for name, expert in self.experts.items()}
        return Persisted(self.term, self.written | written)

    def wake_at(self, moment: float) -> None:
        self.wake = min(self.wake, moment)

    def passed(self, moment: float) -> bool:
        """Whether the moment has come; if not, the machine will be woken then."""
        if moment <= self.now:
            return True
        self.wake_at(moment)
        return False

    # --- doing ------------------------------------------------------------------------------

    def persist(self) -> None:
        self.effects.append(Persist(self.persisted()))

    def set_target(self, expert: Expert, count: int) -> None:
        expert.target.want(count, self.now)
        if count and not expert.staying:
            expert.started_at = self.now
        self.persist()
        self.effects.append(SetTarget(expert.name, count, self._epoch()))
        self.wake_at(self.now + self.policy.resend_s)

    def withdraw(self, expert: Expert) -> None:
        """What Serve was to be asked for is not wanted any longer."""
        self.effects.append(Withdraw(expert.name, self._epoch()))

    def order_load(self, expert: Expert, replica: Replica, cause: str) -> None:
        free = self.ledger.nodes[replica.node].free
        replica.order = Order("load", self._epoch(), self.now)
        replica.load_began = self.now
        replica.lease, replica.stale = expert.need + replica.retired, False
        replica.fraction = 0.0
        self.charge(replica)
        self.effects.append(Load(expert.name, replica.id, expert.need, replica.order.epoch))
        self.note(
            "loaded", expert, replica=replica.id, node=replica.node, bytes=expert.need,
            free=free, cause=cause,
        )  # fmt: skip
        expert.blocked = ""
        self.wake_at(self.now + self.policy.resend_s)

    def order_park(self, replica: Replica, *, drain: bool = False) -> None:
        replica.order = Order("park", self._epoch(), self.now, drain)
        self.effects.append(Park(replica.expert, replica.id, replica.order.epoch, drain))
        self.wake_at(self.now + self.policy.resend_s)

    def kill(self, replica: Replica, cause: str) -> None:
        expert = self.experts[replica.expert]
        self.note("killed", expert, replica=replica.id, node=replica.node, cause=cause)
        self.effects.append(Kill(replica.expert, replica.id))
        self.wake_at(self.now + self.policy.resend_s)

    def fail(self, expert: Expert, node: str, reason: str) -> None:
        """Not tried again for a while; whoever waits is told why."""
        count = 1 if expert.failing is None else expert.failing.count + 1
        delay = min(self.policy.retry_s * 2 ** min(count - 1, 32), self.policy.longest_retry_s)
        expert.failing = Failing(count, reason, self.now + delay)
        self.note("failed", expert, node=node, cause=reason, count=count, seconds=delay)
        self.wake_at(self.now + delay)

    def forget(self, replica: Replica, cause: str) -> None:
        """Its process has ended."""
        expert = self.experts[replica.expert]
        self.ledger.release(replica.id)
        del expert.replicas[replica.id]
        if replica.in_flight and not expert.busy(self.now):
            expert.idle_since = self.now
        if not expert.staying and expert.target.count:
            expert.started_at = self.now
        if not expert.resident:
            expert.leaving = False
        if expert.target.count:
            self.note("lost", expert, replica=replica.id, node=replica.node, cause=cause)
            if replica.loading and not replica.parking and replica.state != "draining":
                self._died(expert, replica.node)
        self.moved = True

    def _died(self, expert: Expert, node: str) -> None:
        """A process ended while it loaded. Once is an accident; more often, it is the load."""
        expert.died += 1
        if expert.died > 1:
            self.fail(expert, node, "its process died while it loaded")

    def answer(self, waiter: str, verdict: Verdict, failure: Failure | None = None) -> None:
        answer = self.waiting.answer(waiter, verdict, self.now, failure)
        if answer is None:
            return
        self.effects.append(answer)
        cause = "" if failure is None else failure.message
        self.log.add(self.now, verdict, answer.expert, waiter, waited=answer.waited_s, cause=cause)

    def charge(self, replica: Replica) -> None:
        process = self.experts[replica.expert].spec.process
        self.ledger.charge(replica.id, Holding(replica.node, process, replica.lease))

    def note(self, kind: str, expert: Expert, **inputs: Value) -> None:
        self.log.add(self.now, kind, expert.name, None, **inputs)

    def _epoch(self) -> Epoch:
        self._number += 1
        return Epoch(self.term, self._number)
