"""The roster: reports and targets in, snapshots out."""

from __future__ import annotations

from capyra.deployments.experts import ReplicaView, State
from capyra.deployments.reports import STALE_AFTER_S, Asked, ExpertReport, Report
from capyra.deployments.roster import Roster, state_of
from capyra.engine.types import Capabilities, EngineStats

CAPABILITIES = Capabilities(context=128, max_batch=4)


def view(id_: str, state: State = "ready", running: int = 0) -> ReplicaView:
    stats = EngineStats(loaded=state == "ready", running=running)
    return ReplicaView(id_, "node", 1, state, stats)


def report(expert: str, id_: str, state: State = "ready", running: int = 0) -> Report:
    return Report(expert, view(id_, state, running), CAPABILITIES)


def roster(*experts: str) -> Roster:
    made = Roster()
    made.configure(experts)
    return made


def test_reports_become_a_snapshot() -> None:
    made = roster("a", "b")
    made.report(report("a", "r2"), 0)
    made.report(report("a", "r1", "loading"), 0)
    found = made.snapshot.experts
    assert [each.id for each in found["a"].replicas] == ["r1", "r2"]
    assert found["a"].capabilities == CAPABILITIES
    assert found["b"] == ExpertReport()


def test_the_version_grows_only_with_change() -> None:
    made = roster("a")
    made.report(report("a", "r1"), 0)
    version = made.snapshot.version
    made.report(report("a", "r1"), 1)
    assert made.snapshot.version == version
    made.report(report("a", "r1", running=1), 2)
    assert made.snapshot.version > version


def test_unknown_experts_are_not_shown() -> None:
    made = roster("a")
    made.report(report("stranger", "r1"), 0)
    assert set(made.snapshot.experts) == {"a"}


def test_removed_experts_leave_and_others_keep_their_replicas() -> None:
    made = roster("a", "b")
    made.report(report("a", "r1"), 0)
    made.configure(["a", "c"])
    assert set(made.snapshot.experts) == {"a", "c"}
    assert made.snapshot.experts["a"].replicas


def test_silent_replicas_are_forgotten() -> None:
    made = roster("a")
    made.report(report("a", "r1"), 0)
    made.retarget({"a": Asked(1)}, STALE_AFTER_S)
    assert made.snapshot.experts["a"].replicas
    made.retarget({"a": Asked(1)}, STALE_AFTER_S + 0.1)
    assert not made.snapshot.experts["a"].replicas


def test_an_experts_state_is_the_best_of_its_replicas() -> None:
    def of(target: int | None, *states: State) -> State:
        return state_of(ExpertReport(target, tuple(view(s, s) for s in states)))

    assert of(1, "parked", "ready") == "ready"
    assert of(1, "parked", "loading") == "loading"
    assert of(1, "parked") == "parked"
    assert of(0) == "cold"
    assert of(0, "draining") == "draining"
    assert of(1) == "loading"
    assert of(None) == "unknown"


def test_what_serve_gave_up_has_failed() -> None:
    made = roster("a", "b")
    made.retarget({"a": Asked(1, "there is no such model"), "b": Asked(1)}, 0)
    found = made.snapshot.experts
    assert found["a"].failure == "there is no such model"
    assert (state_of(found["a"]), state_of(found["b"])) == ("failed", "loading")
    made.report(report("a", "r1"), 0)
    assert state_of(made.snapshot.experts["a"]) == "ready", "an older replica still serves"
