"""A cluster that is no friend: it has its own truth, and a machine of residency learns of it only
when told. What no effect may ever do is asserted here, at each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from capyra.orchestrator.residency.effects import (
    Answer,
    Effect,
    Kill,
    Load,
    Park,
    Persist,
    Persisted,
    SetTarget,
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
)
from capyra.orchestrator.residency.machine import Machine
from capyra.orchestrator.residency.spec import ExpertSpec, Policy

SPECS = (
    ExpertSpec(name="a", estimate=40, process=2, load=2, most=3, up_delay_s=2, down_delay_s=10),
    ExpertSpec(name="b", estimate=40, process=2, keep_alive_s=20),
    ExpertSpec(name="c", estimate=60, process=2, keep_alive_s=0),
    ExpertSpec(name="d", estimate=25, process=2, pin=True),
    ExpertSpec(name="e", estimate=90, process=2, keep_alive_s=-1, waiting=3),
)
POLICY = Policy(
    max_resident=3,
    total_memory=170,
    warm=1,
    parked=2,
    parked_keep_s=120,
    stay_s=3,
    turn_s=10,
    waiting=8,
    loads=2,
    start_deadline_s=30,
    load_deadline_s=30,
    log=200,
)
CAPACITY = {"n1": 100, "n2": 120}
SPEC = {spec.name: spec for spec in SPECS}


@dataclass
class Process:
    id: str
    expert: str
    node: str
    state: ReplicaState = "parked"
    in_flight: int = 0
    epoch: Epoch = NEVER
    stopping: bool = False
    draining: bool = False
    failure: str | None = None
    retired: int = 0
    """What an engine of earlier settings holds, until the last request has ended."""
    inbox: list[Load | Park] = field(default_factory=list)

    @property
    def shown(self) -> ReplicaState:
        return "draining" if self.stopping or self.draining else self.state

    @property
    def held(self) -> int:
        return self.retired + (0 if self.state == "parked" else SPEC[self.expert].estimate)


class RoughCluster:
    """What each process holds and runs, what Serve was asked for, which orders are under way."""

    def __init__(self) -> None:
        self.now = 0.0
        self.processes: dict[str, Process] = {}
        self.targets = {spec.name: spec.initial for spec in SPECS}
        self.nodes = dict(CAPACITY)
        self.polled = (dict(self.targets), self.now)
        self.disturbed = False
        """Whether a node shrank, or a Control died whose orders may still be under way: then more
        may be held than may be, until it is shed."""
        self.written = Persisted()
        self.lives: list[tuple[Persisted, list[tuple[Event, float, list[Effect]]]]] = []
        self.waiting: dict[str, str] = {}
        self.pins = {spec.name: spec.pin for spec in SPECS}
        self.newest = NEVER
        self.count = 0
        self.begin()

    def begin(self) -> None:
        self.machine = Machine(self.written, POLICY)
        self.lives.append((self.written, []))
        self.tell(Configure(SPECS, POLICY))
        for node, capacity in self.nodes.items():
            self.tell(NodeSeen(node, capacity))
        self.tell(Targets(dict(self.targets), self.now))

    def tell(self, event: Event) -> None:
        effects = self.machine.handle(event, self.now)
        self.lives[-1][1].append((event, self.now, effects))
        if isinstance(event, Demand) and event.id not in self.waiting:
            self.waiting[event.id] = event.expert
        for effect in effects:
            self.carry_out(effect)

    # --- what the machine wants -------------------------------------------------------------------

    def carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Persist):
            self.written = effect.state
        elif isinstance(effect, Answer):
            assert self.waiting.pop(effect.id) == effect.expert, "answered twice"
            assert (effect.failure is not None) == (effect.verdict in ("refused", "expired"))
            if effect.verdict == "granted":
                assert any(
                    each.state == "ready" for each in self.processes.values()
                    if each.expert == effect.expert
                ) or self.machine.outlook(effect.expert).state == "ready"  # fmt: skip
        elif isinstance(effect, SetTarget):
            self.ordered(effect.epoch)
            written = self.written.experts[effect.expert]
            assert written.pending == effect.replicas, "set, but not written down"
            assert written.hold in (None, effect.replicas), "an operator's word was overruled"
            self.targets[effect.expert] = effect.replicas
        elif isinstance(effect, Load):
            self.ordered(effect.epoch)
            self.check_lease(effect)
            self.deliverable(effect)
        elif isinstance(effect, Park):
            self.ordered(effect.epoch)
            self.check_park(effect)
            self.deliverable(effect)
        elif isinstance(effect, Kill) and effect.replica in self.processes:
            self.processes[effect.replica].stopping = True

    def ordered(self, epoch: Epoch) -> None:
        assert epoch > self.newest, "an order older than one before"
        self.newest = epoch

    def deliverable(self, order: Load | Park) -> None:
        if order.replica in self.processes:
            self.processes[order.replica].inbox.append(order)

    def check_lease(self, load: Load) -> None:
        """Never over a budget: by what processes hold, and by what they were allowed."""
        cluster = self.machine.cluster
        replica = cluster.experts[load.expert].replicas[load.replica]
        account = cluster.ledger.nodes[replica.node]
        again = len([1 for e in self.orders() if isinstance(e, Load) and e.replica == load.replica])
        if again > 1 and account.used > (account.capacity or 0):
            return  # said again: it was within the budget when it was said first
        assert account.used <= (account.capacity or 0)
        assert account.residents <= POLICY.max_resident
        assert POLICY.total_memory is not None
        assert cluster.ledger.used <= POLICY.total_memory

    def orders(self) -> list[Effect]:
        return [each for _, _, effects in self.lives[-1][1][-200:] for each in effects]

    def check_park(self, park: Park) -> None:
        expert = self.machine.cluster.experts[park.expert]
        replica = expert.replicas[park.replica]
        if park.drain:
            return
        assert replica.in_flight == 0, "a busy one was evicted"
        assert not expert.kept, "a pinned one was evicted"

    # --- what the cluster does --------------------------------------------------------------------

    def ask(self, name: str, priority: int, patience: int, keep: float | None) -> None:
        self.count += 1
        self.tell(
            Demand(
                id=f"r{self.count}",
                expert=name,
                deadline=self.now + patience,
                priority=priority,
                keep_alive_s=keep,
            )
        )

    def admitting(self) -> list[Process]:
        return [each for each in self.processes.values() if each.shown == "ready"]

    def busy(self) -> list[Process]:
        return [each for each in self.processes.values() if each.in_flight]

    def loading(self) -> list[Process]:
        return [each for each in self.processes.values() if each.state == "loading"]

    def finish_one(self, process: Process) -> None:
        process.in_flight -= 1
        if process.in_flight == 0:
            process.retired = 0
        if process.in_flight == 0 and process.draining:
            process.state, process.draining = "parked", False

    def report(self, process: Process) -> None:
        self.tell(
            Report(
                expert=process.expert,
                replica=process.id,
                node=process.node,
                state=process.shown,
                in_flight=process.in_flight,
                bytes=process.held,
                retired=process.retired,
                epoch=process.epoch,
                failure=process.failure,
            )
        )

    def obey(self, process: Process, order: Load | Park) -> None:
        if order.epoch <= process.epoch:
            return
        process.epoch = order.epoch
        process.failure = None
        if isinstance(order, Load):
            if process.state == "parked":
                process.state = "loading"
        elif process.state == "loading":
            process.state = "parked"
        elif process.in_flight and order.drain and process.state == "ready":
            process.draining = True
        elif not process.in_flight:
            process.state = "parked"

    def change_settings(self, process: Process) -> None:
        """Another engine takes over; the one before ends what it began."""
        process.retired += SPEC[process.expert].estimate if process.in_flight else 0
        process.state = "parked"
        process.inbox.clear()
        self.report(process)

    def reconcile(self, index: int) -> None:
        """Serve starts and stops what its targets say, and chooses which and where."""
        for name, target in self.targets.items():
            there = [each for each in self.processes.values() if each.expert == name]
            staying = [each for each in there if not each.stopping]
            for _ in range(len(staying), target):
                if self.nodes:
                    self.count += 1
                    node = list(self.nodes)[(index + self.count) % len(self.nodes)]
                    process = Process(f"{name}/{self.count}", name, node)
                    self.processes[process.id] = process
                    self.report(process)
            for offset in range(len(staying) - target):
                staying[(index + offset) % len(staying)].stopping = True
            for process in there:
                if process.stopping and not process.in_flight:
                    self.end(process)

    def end(self, process: Process) -> None:
        del self.processes[process.id]
        self.tell(Gone(process.id))

    def flow(self, index: int) -> None:
        """Orders arrive, loads succeed, half of the requests end, and all is reported."""
        for process in list(self.processes.values()):
            while process.inbox:
                self.obey(process, process.inbox.pop(0))
            self.report(process)
            if process.state == "loading" and process.id in self.processes:
                process.state = "ready"
                self.report(process)
        for offset, process in enumerate(self.busy()):
            if (index + offset) % 2:
                self.finish_one(process)
                self.report(process)
        self.reconcile(index)
        self.now += 0.1
        self.tell(Targets(dict(self.targets), self.now))
