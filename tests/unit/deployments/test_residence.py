"""The residence over a cluster in memory, with a clock that stands until it is told otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from capyra.deployments.experts import ReplicaView, State
from capyra.deployments.reports import Asked, Poll, Reply, Report, Standing, Use, Wish
from capyra.deployments.residence import FORGOTTEN_S, REMEMBERED, SILENT_S, Residence
from capyra.deployments.statuses import statuses
from capyra.engine.types import EngineStats, Progress
from capyra.orchestrator.residency import events
from capyra.orchestrator.residency.decisions import SAME_ID
from capyra.orchestrator.residency.effects import Load, Park, Persisted
from capyra.orchestrator.residency.events import NEVER
from capyra.orchestrator.residency.spec import ExpertSpec, Policy
from capyra.orchestrator.residency.traces import parse

SPECS = [
    ExpertSpec(name=name, estimate=40, process=2, keep_alive_s=300, waiting=2) for name in "abc"
]
POLICY = Policy(max_resident=2, warm=0, stay_s=1, turn_s=10, settle_s=4)


class FakeCluster:
    """Serve, Ray and the store, as far as anybody asks."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []
        self.targets = {spec.name: 1 for spec in SPECS}
        self.present = {f"{name}1" for name in self.targets}
        self.stopping: set[str] = set()
        self.failures: dict[str, str] = {}
        self.written = ""
        self.broken = False
        self.store_hangs = False
        self.open = asyncio.Event()
        """Cleared, Serve's controller is away."""
        self.open.set()

    async def poll(self) -> Poll:
        asked = {name: Asked(n, self.failures.get(name)) for name, n in self.targets.items()}
        return Poll(asked, frozenset(self.present), frozenset(self.stopping))

    async def nodes(self) -> dict[str, int]:
        return {"n": 100}

    async def write(self, text: str) -> None:
        if self.broken:
            raise OSError("the store is away")
        if self.store_hangs:
            await asyncio.Event().wait()
        self.written = text
        self.done.append(("write", Persisted.loads(text, 0)))

    async def set_target(self, expert: str, replicas: int) -> None:
        await self.open.wait()
        self.done.append(("target", expert, replicas))
        self.targets[expert] = replicas

    async def kill(self, replica: str) -> None:
        self.done.append(("kill", replica))


class House:
    """A residence, and what a test does around it."""

    def __init__(self, cluster: FakeCluster, written: str | None = None) -> None:
        self.cluster = cluster
        self.now = 1000.0
        state = Persisted.loads(written, 0) if written else Persisted()
        self.residence = Residence(cluster, state, lambda: self.now)
        self.numbers = 0
        self.acting = asyncio.create_task(self.residence.keep_acting())

    async def begin(self) -> None:
        await self.residence.configure(SPECS, POLICY, None)
        await self.look()
        for spec in SPECS:
            if spec.name + "1" in self.cluster.present:
                await self.report(spec.name)

    async def look(self) -> None:
        self.residence.see_nodes(await self.cluster.nodes())
        asked_at = self.now
        await self.residence.look(await self.cluster.poll(), asked_at)
        await self.residence.idle()

    async def report(self, expert: str, state: State = "parked", **more: object) -> None:
        """What the first replica of the expert says, having obeyed all that it was told."""
        id_ = f"{expert}1"
        self.numbers += 1
        order = await self.residence.order(id_, NEVER, 0)
        view = ReplicaView(id_, "n", 1, state, EngineStats(loaded=state == "ready"))
        report = Report(
            expert=expert,
            view=view,
            capabilities=None,
            number=self.numbers,
            bytes=40 if state == "ready" else 0,
            epoch=NEVER if order is None else order.epoch,
        )
        view_more = {name: more.pop(name) for name in list(more) if name == "in_flight"}
        report = replace(report, view=replace(view, **view_more), **more)  # type: ignore[arg-type]
        await self.residence.report(report)
        await self.residence.idle()

    async def order(self, expert: str) -> Load | Park | None:
        await self.residence.idle()
        return await self.residence.order(f"{expert}1", NEVER, 0)

    async def wait(self, expert: str, id_: str = "w", seen: Standing | None = None) -> object:
        wish = Wish(id_, expert, 60)
        return await self.residence.wait(wish, seen, 0)

    async def load(self, expert: str) -> None:
        """Ask for an expert, and see it become ready."""
        assert isinstance(await self.wait(expert, f"load {expert}"), Standing)
        await self.report(expert, "loading")
        await self.report(expert, "ready")
        assert await self.wait(expert, f"load {expert}") == Reply()

    async def close(self) -> None:
        self.residence.close()
        self.acting.cancel()
        await asyncio.wait([self.acting])


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House(FakeCluster())
    await made.begin()
    yield made
    await made.close()


async def test_a_request_for_a_parked_expert_orders_a_load_and_waits_for_it(house: House) -> None:
    first = await house.wait("a")
    assert isinstance(first, Standing)
    assert first.waiting == 1
    assert isinstance(await house.order("a"), Load)
    await house.report("a", "loading", progress=Progress("read", 0.5))
    second = await house.wait("a", seen=first)
    assert isinstance(second, Standing)
    assert (second.progress.stage, second.progress.fraction) == ("read", 0.5)
    assert second.progress.eta_s
    await house.report("a", "ready")
    assert await house.wait("a", seen=second) == Reply()


async def test_an_order_wakes_who_waits_for_it(house: House) -> None:
    waiting = asyncio.create_task(house.residence.order("a1", NEVER, 30))
    await asyncio.sleep(0)
    await house.wait("a")
    async with asyncio.timeout(1):
        order = await waiting
    assert isinstance(order, Load)
    assert await house.residence.order("a1", order.epoch, 0) is None, "once is enough"


async def test_the_room_of_one_that_idles_goes_to_one_that_is_asked_for(house: House) -> None:
    for name in "ab":
        await house.load(name)
        house.now += 5
    await house.wait("c")
    assert isinstance(await house.order("a"), Park), "the one that was used longest ago"
    assert await house.order("c") is None, "not before the room is there"
    await house.report("a", "parked")
    assert isinstance(await house.order("c"), Load)


async def test_a_target_is_written_down_before_it_is_set(house: House) -> None:
    house.now += POLICY.parked_keep_s + 1
    house.residence.tick()
    await house.residence.idle()
    done = house.cluster.done
    at = done.index(("target", "a", 0))
    written = [step[1] for step in done[:at] if step[0] == "write"]
    assert isinstance(written[-1], Persisted)
    assert written[-1].experts["a"].pending == 0


async def test_what_cannot_be_written_down_is_not_done_and_wanted_again(house: House) -> None:
    house.cluster.broken = True
    house.now += POLICY.parked_keep_s + 1
    house.residence.tick()
    await house.residence.idle()
    assert ("target", "a", 0) not in house.cluster.done
    house.cluster.broken = False
    for _ in range(3):
        house.now += POLICY.resend_s
        await house.look()
        house.residence.tick()
    await house.residence.idle()
    assert ("target", "a", 0) in house.cluster.done


async def test_who_waits_is_answered_although_nothing_can_be_written(house: House) -> None:
    waits = await house.wait("a")
    assert isinstance(waits, Standing)
    house.cluster.broken = True
    await house.report("a", "loading")
    await house.report("a", "ready")
    assert await house.wait("a", seen=waits) == Reply()


async def test_an_operators_zero_stops_and_one_starts(house: House) -> None:
    house.cluster.targets["a"] = 0
    house.now += 1
    await house.look()
    reply = await house.wait("a")
    assert isinstance(reply, Reply)
    assert reply.failure is not None
    assert reply.failure.code == "expert_stopped"
    assert (await house.residence.snapshot(-1, 0)).experts["a"].held == 0
    house.cluster.targets["a"] = 1
    house.now += 1
    await house.look()
    assert isinstance(await house.wait("a", "again"), Standing)


async def test_over_the_waiting_room_is_refused_with_a_time(house: House) -> None:
    for number in range(2):
        assert isinstance(await house.wait("a", str(number)), Standing)
    reply = await house.wait("a", "one too many")
    assert isinstance(reply, Reply)
    assert reply.failure is not None
    assert (reply.failure.code, bool(reply.failure.retry_after_s)) == ("queue_full", True)


async def test_who_leaves_makes_room(house: House) -> None:
    for number in range(2):
        await house.wait("a", str(number))
    house.residence.leave("0")
    assert isinstance(await house.wait("a", "next"), Standing)


async def test_a_gateway_that_died_waits_no_longer(house: House) -> None:
    await house.wait("a")
    house.now += FORGOTTEN_S + 1
    await house.look()
    assert len(house.residence.machine.cluster.waiting) == 0


async def test_a_failed_load_tells_why(house: House) -> None:
    await house.wait("a")
    await house.report("a", "loading")
    await house.report("a", "parked", failure="the disk is full")
    reply = await house.wait("a")
    assert isinstance(reply, Reply)
    assert reply.failure is not None
    assert reply.failure.code == "load_failed"
    assert "the disk is full" in reply.failure.message


async def test_what_serve_gave_up_is_told_to_who_waits(house: House) -> None:
    house.cluster.present.discard("b1")
    house.now += 5
    await house.look()
    house.cluster.failures["b"] = "there is no such model"
    waits = await house.wait("b")
    assert isinstance(waits, Standing)
    await house.look()
    reply = await house.wait("b", seen=waits)
    assert isinstance(reply, Reply)
    assert reply.failure is not None
    assert "no such model" in reply.failure.message


async def test_a_replica_is_gone_when_serve_lists_it_no_more_and_it_is_silent(
    house: House,
) -> None:
    known = house.residence.machine.cluster.experts["a"].replicas
    house.cluster.present.discard("a1")
    await house.look()
    assert known, "it spoke a moment ago"
    house.now += SILENT_S + 0.1
    await house.look()
    assert not known
    await house.report("b")
    house.now += SILENT_S + 0.1
    await house.look()
    assert house.residence.machine.cluster.experts["b"].replicas, "silent, but listed"


async def test_one_that_serve_is_stopping_takes_nothing_new(house: House) -> None:
    await house.load("a")
    house.cluster.stopping.add("a1")
    await house.look()
    state = house.residence.machine.cluster.experts["a"].state
    assert state == "draining"
    await house.report("a", "ready")
    assert house.residence.machine.cluster.experts["a"].state == "draining"


async def test_a_report_that_was_overtaken_is_no_news(house: House) -> None:
    await house.load("a")
    view = ReplicaView("a1", "n", 1, "parked", EngineStats(loaded=False))
    await house.residence.report(Report("a", view, None, number=1))
    assert house.residence.machine.outlook("a").state == "ready"


async def test_a_further_replica_shows_itself_when_it_is_loaded(house: House) -> None:
    assert not house.residence.is_further("a", "a2")
    await house.load("a")
    assert house.residence.is_further("a", "a2")
    assert not house.residence.is_further("a", "a1")


async def test_uses_keep_an_expert(house: House) -> None:
    await house.load("a")
    house.now += 200
    house.residence.used([Use("a", 3)])
    house.now += 200
    house.residence.tick()
    assert not isinstance(await house.order("a"), Park)
    house.residence.used([Use("a", 1, keep_alive_s=10)])
    house.now += 11
    house.residence.tick()
    assert isinstance(await house.order("a"), Park)


async def test_a_new_control_tells_nothing_before_it_has_heard() -> None:
    house = House(FakeCluster())
    await house.residence.configure(SPECS, POLICY, None)
    assert not (await house.residence.snapshot(5, 0)).experts
    await house.begin()
    assert set((await house.residence.snapshot(5, 0)).experts) == {"a", "b", "c"}
    await house.close()


async def test_a_new_control_hears_its_replicas_before_an_operator() -> None:
    house = House(FakeCluster())
    await house.residence.configure(SPECS, POLICY, None)
    await house.look()
    unloading = asyncio.create_task(house.residence.instruct(events.Unload("a")))
    await asyncio.sleep(0)
    for name in "abc":
        await house.report(name, "ready")
    async with asyncio.timeout(1):
        assert await unloading is None
    assert isinstance(await house.order("a"), Park)
    await house.close()


async def test_the_next_control_knows_its_own_targets_from_an_operators(house: House) -> None:
    house.now += POLICY.parked_keep_s + 1
    house.residence.tick()
    await house.look()
    assert house.cluster.targets["a"] == 0
    house.cluster.present.clear()
    house.cluster.targets["b"] = 3
    later = House(house.cluster, house.cluster.written)
    later.now = house.now + 1
    await later.begin()
    later.now += POLICY.settle_s + 1
    later.residence.tick()
    experts = later.residence.machine.cluster.experts
    assert (experts["a"].target.hold, experts["b"].target.hold) == (None, 3)
    assert isinstance(await later.wait("a"), Standing), "a request brings it back"
    await later.residence.idle()
    assert house.cluster.targets["a"] == 1
    await later.close()


async def test_a_lost_node_takes_its_replicas(house: House) -> None:
    house.residence.see_nodes({})
    assert not any(each.replicas for each in house.residence.machine.cluster.experts.values())


async def test_a_load_that_is_given_up_and_goes_on_is_ended(house: House) -> None:
    await house.wait("a")
    await house.report("a", "loading")
    house.now += POLICY.load_deadline_s + 1
    house.residence.tick()
    assert isinstance(await house.order("a"), Park)
    await house.report("a", "loading")
    house.now += 11
    house.residence.tick()
    await house.residence.idle()
    assert ("kill", "a1") in house.cluster.done


async def test_a_controller_that_is_away_holds_up_no_order(house: House) -> None:
    house.cluster.open.clear()
    house.residence.tell(events.Hold("b", 2))
    await house.wait("a")
    async with asyncio.timeout(1):
        assert isinstance(await house.residence.order("a1", NEVER, 1), Load)
    house.cluster.open.set()
    await house.residence.idle()
    assert ("target", "b", 2) in house.cluster.done


async def test_an_operators_word(house: House) -> None:
    pin = await house.residence.instruct(events.Pin("a", on=True))
    assert pin is None
    assert isinstance(await house.order("a"), Load)
    await house.report("a", "loading")
    await house.report("a", "ready")
    told = {each.name: each for each in statuses(house.residence.machine)}
    assert (told["a"].state, told["a"].pinned, told["a"].bytes) == ("ready", True, 40)
    assert [lease.replica for lease in told["a"].leases] == ["a1"]
    assert (told["b"].idle_s, told["b"].next_use_s) == (None, None)
    refused = await house.residence.instruct(events.Unload("a"))
    assert refused is not None
    assert refused.code == "invalid_value"
    nobody = await house.residence.instruct(events.Pin("x", on=True))
    assert nobody is not None
    assert nobody.code == "model_not_found"


async def test_requests_can_be_replayed(house: House) -> None:
    await house.load("a")
    house.now += 5
    house.residence.used([Use("a", 2, keep_alive_s=10)])
    found = list(parse(house.residence.trace()))
    assert [(each.at, each.expert) for each in found] == [(0, "a"), (5, "a"), (5, "a")]
    assert found[-1].keep_alive_s == 10


async def test_a_hold_is_seen_at_once(house: House) -> None:
    await house.residence.instruct(events.Hold("a", 0))
    assert (await house.residence.snapshot(-1, 0)).experts["a"].held == 0


async def test_the_timer_is_the_machines(house: House) -> None:
    """Nobody ticks here: the wait expires by itself."""
    wish = Wish("w", "a", 0.05)
    assert isinstance(await house.residence.wait(wish, None, 0), Standing)
    house.now += 1
    house.residence.tell(events.Used("b"))
    async with asyncio.timeout(2):
        reply = await house.residence.wait(wish, Standing(Progress("", 0), 0), 1)
    assert isinstance(reply, Reply)
    assert reply.failure is not None
    assert reply.failure.code == "deadline_exceeded"


async def test_a_word_that_is_not_safe_is_not_acknowledged(house: House) -> None:
    house.cluster.broken = True
    failure = await house.residence.instruct(events.Pin("a", on=True))
    assert failure is not None
    assert failure.code == "unavailable"
    house.cluster.broken = False
    assert await house.residence.instruct(events.Pin("a", on=True)) is None
    assert Persisted.loads(house.cluster.written, 0).experts["a"].pin


async def test_a_store_that_hangs_holds_up_no_answer(house: House) -> None:
    house.cluster.store_hangs = True
    for on in (True, False, True):
        house.residence.tell(events.Pin("b", on=on))
    async with asyncio.timeout(1):
        reply = await house.wait("nobody")
    assert isinstance(reply, Reply)
    assert reply.failure is not None
    assert reply.failure.code == "model_not_found"


async def test_the_record_of_requests_is_bounded(house: House) -> None:
    await house.load("a")
    house.residence.used([Use("b", 7), Use("a", 10**9), Use("b", 2)])
    lines = list(parse(house.residence.trace()))
    assert len(lines) == REMEMBERED
    assert [each.expert for each in lines[-3:]] == ["a", "b", "b"]


async def test_why_knows_a_request_by_what_its_client_was_told(house: House) -> None:
    for number in range(20):
        wish = Wish(f"own {number}", "a", 60, shown_id="shown")
        await house.residence.wait(wish, None, 0)
        house.residence.leave(wish.id)
    lines = house.residence.machine.why("shown")
    assert sum("its client left" in line for line in lines) == SAME_ID, "the newest of them"
    assert "its client left" in "".join(house.residence.machine.why("own 0"))


async def test_what_serve_was_not_asked_for_yet_gives_way_to_an_operators_number(
    house: House,
) -> None:
    house.cluster.open.clear()
    house.residence.tell(events.Hold("b", 2))
    house.residence.tell(events.Hold("a", 2))
    house.now += 1
    house.cluster.targets["a"] = 3
    house.residence.see_nodes(await house.cluster.nodes())
    await house.residence.look(await house.cluster.poll(), house.now)
    house.cluster.open.set()
    await house.residence.idle()
    assert ("target", "b", 2) in house.cluster.done
    assert house.cluster.targets["a"] == 3
