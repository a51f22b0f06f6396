"""A simulated cluster for the machine: Serve, nodes, and replicas that obey.

Time is simulated and nothing is random: what Serve chooses, it chooses as Serve does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from capyra.orchestrator.residency.effects import (
    Answer,
    Effect,
    Kill,
    Load,
    Park,
    Persist,
    Persisted,
    SetTarget,
    Written,
)
from capyra.orchestrator.residency.events import (
    NEVER,
    Configure,
    Demand,
    Epoch,
    Event,
    Gone,
    NodeSeen,
    ReplicaState,
    Report,
    Targets,
    Tick,
    Used,
)
from capyra.orchestrator.residency.machine import Machine
from capyra.orchestrator.residency.spec import ExpertSpec, Policy
from capyra.orchestrator.residency.traces import Arrival


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take in the simulated cluster."""

    start_s: float = 2.0
    load_bytes_per_s: float = 2e9
    load_least_s: float = 0.2
    park_s: float = 0.05
    order_s: float = 0.005
    """From an order to the replica that obeys it, and from a report back."""
    poll_s: float = 0.5
    patience_s: float = 120.0
    """A request waits no longer."""


@dataclass(slots=True)
class Process:
    id: str
    expert: str
    node: str
    number: int
    state: ReplicaState = "parked"
    up: bool = False
    in_flight: int = 0
    held: int = 0
    epoch: Epoch = NEVER
    stopping: bool = False
    draining: bool = False


@dataclass(slots=True)
class Tally:
    """What happened."""

    requests: int = 0
    waits: list[float] = field(default_factory=list)
    """Of every request that was granted; 0 for those that found the expert ready."""
    unserved: dict[str, int] = field(default_factory=dict)
    loads: int = 0
    parks: int = 0
    starts: int = 0
    byte_seconds: float = 0.0


class World:
    def __init__(
        self,
        experts: tuple[ExpertSpec, ...],
        policy: Policy,
        nodes: Mapping[str, int],
        timing: Timing,
    ) -> None:
        # As after a Control that gave every process up: what is there is ours, not an operator's.
        gone = Persisted(0, {spec.name: Written(own=0) for spec in experts})
        self.machine = Machine(gone, policy)
        self.tally = Tally()
        self.now = 0.0
        self._timing = timing
        self._specs = {spec.name: spec for spec in experts}
        self._nodes = dict.fromkeys(nodes, 0)
        self._targets = dict.fromkeys(self._specs, 0)
        self._processes: dict[str, dict[str, Process]] = {name: {} for name in self._specs}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._held = 0
        self._counted_to = 0.0
        self._arrivals: dict[str, Arrival] = {}
        self.tell(Configure(experts, policy))
        for node, capacity in nodes.items():
            self.tell(NodeSeen(node, capacity))
        self.tell(Targets(dict(self._targets), 0.0))

    # --- time -------------------------------------------------------------------------------

    def later(self, delay: float, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (self.now + delay, self._number, act))

    def run(self, until: float) -> None:
        """Let everything happen that happens before `until`, and the machine's ticks in time."""
        while True:
            due = self.machine.due()
            first = self._agenda[0][0] if self._agenda else until
            moment = min(due, first)
            if moment > until or (moment == until and not self._agenda):
                break
            self._pass(max(moment, self.now))
            if first <= due:
                _, _, act = heapq.heappop(self._agenda)
                act()
            else:
                self.tell(Tick())
        self._pass(until)

    def _pass(self, moment: float) -> None:
        self.tally.byte_seconds += self._held * (moment - self._counted_to)
        self._counted_to = self.now = moment

    # --- requests ---------------------------------------------------------------------------

    def arrive(self, arrival: Arrival) -> None:
        self.tally.requests += 1
        process = self._free(arrival.expert)
        if process is not None:
            self.tally.waits.append(0.0)
            self.tell(Used(arrival.expert, 1, arrival.keep_alive_s))
            self._begin(process, arrival)
            return
        name = f"r{self.tally.requests}"
        self._arrivals[name] = arrival
        self.tell(
            Demand(
                id=name,
                expert=arrival.expert,
                deadline=self.now + self._timing.patience_s,
                priority=arrival.priority,
                keep_alive_s=arrival.keep_alive_s,
            )
        )

    def _free(self, expert: str) -> Process | None:
        ready = [
            each
            for each in self._processes[expert].values()
            if each.state == "ready" and not each.stopping and not each.draining
        ]
        return min(ready, key=lambda each: each.in_flight, default=None)

    def _begin(self, process: Process, arrival: Arrival) -> None:
        process.in_flight += 1
        self._report(process)
        self.later(arrival.busy_s, lambda: self._finish(process))

    def _finish(self, process: Process) -> None:
        process.in_flight -= 1
        if process.in_flight == 0 and process.stopping:
            self._end(process)
        elif process.in_flight == 0 and process.draining:
            self._park(process)
        elif process.up:
            self._report(process)

    def _answered(self, answer: Answer) -> None:
        arrival = self._arrivals.pop(answer.id)
        process = self._free(answer.expert)
        if answer.verdict != "granted":
            unserved = self.tally.unserved
            unserved[answer.verdict] = unserved.get(answer.verdict, 0) + 1
        elif process is None:
            self.tally.requests -= 1
            self.later(self._timing.order_s, lambda: self.arrive(arrival))
        else:
            self.tally.waits.append(answer.waited_s)
            self._begin(process, arrival)

    # --- the machine's hand -----------------------------------------------------------------

    def tell(self, event: Event) -> None:
        for effect in self.machine.handle(event, self.now):
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Persist():
                pass
            case SetTarget():
                self._targets[effect.expert] = effect.replicas
                self._reconcile(effect.expert)
                self.later(self._timing.poll_s, self._poll)
            case Answer():
                # Not at once: the machine is in the midst of an event.
                self.later(0.0, lambda: self._answered(effect))
            case Kill():
                process = self._processes[effect.expert][effect.replica]
                self.later(0.0, lambda: self._end(process))
            case Load() | Park():
                process = self._processes[effect.expert][effect.replica]
                self.later(self._timing.order_s, lambda: self._obey(process, effect))

    def _poll(self) -> None:
        self.tell(Targets(dict(self._targets), self.now))

    def _obey(self, process: Process, order: Load | Park) -> None:
        if not process.up or order.epoch <= process.epoch:
            return
        process.epoch = order.epoch
        if isinstance(order, Load):
            if process.state == "parked":
                self._load(process)
        elif process.in_flight and order.drain:
            process.draining = True
        elif not process.in_flight and process.state == "ready":
            process.draining = True
            self.later(self._timing.park_s, lambda: self._park(process))
        self._report(process)

    # --- processes --------------------------------------------------------------------------

    def _reconcile(self, expert: str) -> None:
        processes = [each for each in self._processes[expert].values() if not each.stopping]
        for _ in range(len(processes), self._targets[expert]):
            self._start(expert)
        surplus = len(processes) - self._targets[expert]
        # Serve stops those that do not run yet, then the newest.
        processes.sort(key=lambda each: (each.up, -each.number))
        for process in processes[: max(0, surplus)]:
            process.stopping = True
            if process.in_flight == 0:
                self.later(self._timing.order_s, partial(self._end, process))
            self._report(process)

    def _start(self, expert: str) -> None:
        node = min(self._nodes, key=lambda name: (self._nodes[name], name))
        self._nodes[node] += 1
        self._number += 1
        self.tally.starts += 1
        process = Process(f"{expert}#{self._number}", expert, node, self._number)
        self._processes[expert][process.id] = process
        self.later(self._timing.start_s, lambda: self._come_up(process))

    def _come_up(self, process: Process) -> None:
        if process.id in self._processes[process.expert]:
            process.up = True
            self._report(process)

    def _end(self, process: Process) -> None:
        if self._processes[process.expert].pop(process.id, None) is not None:
            self._nodes[process.node] -= 1
            process.up = False
            self._hold(process, 0)
            self.tell(Gone(process.id))
            self._reconcile(process.expert)

    def _load(self, process: Process) -> None:
        process.state = "loading"
        self.tally.loads += 1
        need = self._specs[process.expert].estimate
        self._hold(process, need)
        seconds = max(self._timing.load_least_s, need / self._timing.load_bytes_per_s)
        self.later(seconds, lambda: self._loaded(process))

    def _loaded(self, process: Process) -> None:
        if process.up and process.state == "loading":
            process.state = "ready"
            self._report(process)

    def _park(self, process: Process) -> None:
        if process.up and process.draining:
            process.draining = False
            process.state = "parked"
            self.tally.parks += 1
            self._hold(process, 0)
            self._report(process)

    def _hold(self, process: Process, held: int) -> None:
        self._held += held - process.held
        process.held = held

    def _report(self, process: Process) -> None:
        if not process.up:
            return
        leaving = process.stopping or process.draining
        self.tell(
            Report(
                expert=process.expert,
                replica=process.id,
                node=process.node,
                state="draining" if leaving else process.state,
                in_flight=process.in_flight,
                bytes=process.held,
                epoch=process.epoch,
            )
        )
