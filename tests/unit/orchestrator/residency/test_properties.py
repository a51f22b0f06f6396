"""What must hold whatever happens, in whatever order: orders lost, late and repeated, processes
killed, operators at both ends, Control dying.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from capyra.orchestrator.residency.effects import Load
from capyra.orchestrator.residency.events import (
    Cancel,
    Hold,
    NodeLost,
    NodeSeen,
    Pin,
    Release,
    Targets,
    Tick,
    Unload,
    Used,
)
from capyra.orchestrator.residency.machine import Machine
from rough_cluster import CAPACITY, POLICY, SPECS, RoughCluster

NAMES = [spec.name for spec in SPECS]

expert_names = st.sampled_from(NAMES)
any_index = st.integers(0, 1000)
seldom = st.sampled_from([False] * 7 + [True])


class Adversary(RoughCluster, RuleBasedStateMachine):
    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        RoughCluster.__init__(self)

    # --- requests ---------------------------------------------------------------------------

    @rule(name=expert_names, priority=st.integers(0, 2), patience=st.integers(1, 60),
          keep=st.sampled_from([None, None, 0.0, 5.0, -1.0]))  # fmt: skip
    def demand(self, name: str, priority: int, patience: int, keep: float | None) -> None:
        self.ask(name, priority, patience, keep)

    @precondition(lambda self: self.waiting)
    @rule(index=any_index)
    def cancel(self, index: int) -> None:
        self.tell(Cancel(list(self.waiting)[index % len(self.waiting)]))

    @precondition(lambda self: self.admitting())
    @rule(index=any_index, tells=st.booleans())
    def use(self, index: int, tells: bool) -> None:
        process = self.admitting()[index % len(self.admitting())]
        process.in_flight += 1
        self.tell(Used(process.expert))
        if tells:
            self.report(process)

    @precondition(lambda self: self.busy())
    @rule(index=any_index, tells=st.booleans())
    def finish(self, index: int, tells: bool) -> None:
        process = self.busy()[index % len(self.busy())]
        self.finish_one(process)
        if tells:
            self.report(process)

    # --- replicas ---------------------------------------------------------------------------

    @precondition(lambda self: self.processes)
    @rule(index=any_index, count=st.integers(1, 6))
    def reports(self, index: int, count: int) -> None:
        for offset in range(count):
            processes = list(self.processes.values())
            self.report(processes[(index + offset) % len(processes)])

    @precondition(lambda self: any(each.inbox for each in self.processes.values()))
    @rule(index=any_index, lost=seldom, tells=st.booleans())
    def deliver(self, index: int, lost: bool, tells: bool) -> None:
        addressed = [each for each in self.processes.values() if each.inbox]
        process = addressed[index % len(addressed)]
        # Not in order: the newest may overtake.
        order = process.inbox.pop(index % len(process.inbox))
        if not lost:
            self.obey(process, order)
        if tells:
            self.report(process)

    @precondition(lambda self: self.loading())
    @rule(index=any_index, fails=seldom, tells=st.booleans())
    def load_ends(self, index: int, fails: bool, tells: bool) -> None:
        process = self.loading()[index % len(self.loading())]
        process.state = "parked" if fails else "ready"
        process.failure = "the file is corrupt" if fails else None
        if tells:
            self.report(process)

    @precondition(lambda self: self.busy())
    @rule(index=any_index, really=st.booleans())
    def settings_change(self, index: int, really: bool) -> None:
        process = self.busy()[index % len(self.busy())]
        if really and process.shown == "ready":
            self.change_settings(process)

    # --- Serve ------------------------------------------------------------------------------

    @rule(index=any_index)
    def reconciles(self, index: int) -> None:
        self.reconcile(index)

    @rule()
    def poll_begins(self) -> None:
        self.polled = (dict(self.targets), self.now)

    @rule()
    def poll_ends(self) -> None:
        """What it found may be old by now."""
        self.tell(Targets(*self.polled))

    @precondition(lambda self: self.processes)
    @rule(index=any_index, really=seldom)
    def kill(self, index: int, really: bool) -> None:
        if really:
            self.end(list(self.processes.values())[index % len(self.processes)])

    @rule(node=st.sampled_from(list(CAPACITY)), really=seldom)
    def lose_node(self, node: str, really: bool) -> None:
        if really and len(self.nodes) > 1 and node in self.nodes:
            del self.nodes[node]
            for process in [each for each in self.processes.values() if each.node == node]:
                del self.processes[process.id]
            self.tell(NodeLost(node))

    @rule(node=st.sampled_from(list(CAPACITY)), capacity=st.sampled_from([50, 100, 120, 150]))
    def see_node(self, node: str, capacity: int) -> None:
        self.disturbed |= capacity < self.nodes.get(node, 0)
        self.nodes[node] = capacity
        self.tell(NodeSeen(node, capacity))

    # --- people -----------------------------------------------------------------------------

    @rule(name=expert_names, count=st.integers(0, 3), asks_serve=st.booleans(), really=seldom)
    def hold(self, name: str, count: int, asks_serve: bool, really: bool) -> None:
        if not really:
            self.tell(Release(name))
        elif asks_serve:
            self.targets[name] = count
            self.tell(Targets(dict(self.targets), self.now))
        else:
            self.tell(Hold(name, count))

    @rule(name=expert_names)
    def release(self, name: str) -> None:
        self.tell(Release(name))

    @rule(name=expert_names, on=st.sampled_from([True, False, None, None, None]))
    def pin(self, name: str, on: bool | None) -> None:
        self.tell(Pin(name, on))

    @rule(name=expert_names)
    def unload(self, name: str) -> None:
        self.tell(Unload(name))

    # --- a cluster at its best -------------------------------------------------------------

    @rule(index=any_index, name=expert_names, uses=st.integers(0, 3))
    def flows(self, index: int, name: str, uses: int) -> None:
        self.ask(name, 0, 60, None)
        for _ in range(4):
            self.flow(index)
            for process in self.admitting():
                if process.expert == name and uses:
                    uses -= 1
                    process.in_flight += 1
                    self.tell(Used(name))
                    self.report(process)

    @rule(index=any_index)
    def flows_on(self, index: int) -> None:
        for _ in range(3):
            self.flow(index)
            self.wait(3.0)

    # --- time -------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 40.0, 400.0]))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(2000):
            due = self.machine.due()
            if due > until:
                break
            self.now = max(self.now, due)
            self.tell(Tick())
        else:
            raise AssertionError("the machine wants to be woken without end")
        self.now = until

    @rule(really=seldom)
    def control_dies(self, really: bool) -> None:
        if really:
            self.disturbed = True
            self.waiting.clear()
            self.begin()

    # --- what always holds ------------------------------------------------------------------

    @invariant()
    def the_ledger_charges_at_least_what_is_held(self) -> None:
        """For all that the machine was told of."""
        ledger = self.machine.cluster.ledger
        for process in self.processes.values():
            known = self.machine.cluster.experts[process.expert].replicas.get(process.id)
            if known is None:
                continue
            if process.held and known.state == process.shown:
                assert ledger.lease(process.id) >= process.held
            for order in process.inbox:
                if isinstance(order, Load) and known.order and known.order.epoch == order.epoch:
                    assert ledger.lease(process.id) >= order.bytes, "allowed, and not charged"
        assert ledger.used == sum(each.lease + each.process for each in ledger.holdings.values())
        for name, account in ledger.nodes.items():
            held = [each for each in ledger.holdings.values() if each.node == name]
            assert account.used == sum(each.lease + each.process for each in held)
            assert account.residents == sum(each.lease > 0 for each in held)

    @invariant()
    def no_node_holds_more_weights_than_it_may(self) -> None:
        if not self.disturbed:
            for node, capacity in self.nodes.items():
                held = [each.held for each in self.processes.values() if each.node == node]
                assert sum(held) <= capacity
                assert sum(map(bool, held)) <= POLICY.max_resident

    @invariant()
    def who_waits_is_in_the_waiting_room(self) -> None:
        waiting = self.machine.cluster.waiting
        assert len(waiting) == len(self.waiting) <= POLICY.waiting
        assert all(name in waiting for name in self.waiting)

    @invariant()
    def every_decision_can_be_told(self) -> None:
        if self.count % 10 == 0:
            for name in NAMES:
                assert all(self.machine.why(name))

    def teardown(self) -> None:
        """Everyone is answered, and the same events have the same effects."""
        self.wait(60.0)
        assert not self.waiting
        for written, told in self.lives:
            again = Machine(written, POLICY)
            for event, now, effects in told:
                assert again.handle(event, now) == effects


def run(examples: int, steps: int) -> Any:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        # A failure says which step broke what; to make it smaller takes minutes.
        phases=(Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


class TestAdversary(Adversary.TestCase):
    settings = run(40, 100)


@pytest.mark.slow
class TestAdversaryForLong(Adversary.TestCase):
    settings = run(600, 200)
