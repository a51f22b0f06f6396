"""Who hosts what: the pure part of Control. Reports and targets in, snapshots out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from capyra.deployments.experts import State
from capyra.deployments.reports import STALE_AFTER_S, Asked, ExpertReport, Report, Snapshot

# The best state that any replica has is the expert's.
_RANK: tuple[State, ...] = ("ready", "loading", "parked", "draining")


@dataclass(slots=True)
class _Known:
    asked: Asked | None = None
    held: int | None = None
    reports: dict[str, tuple[float, Report]] = field(default_factory=dict)


class Roster:
    """The newest word of every replica, and Serve's targets. Time is a parameter."""

    def __init__(self, version: int = 0) -> None:
        self._experts: dict[str, _Known] = {}
        self._snapshot = Snapshot(version)

    def configure(self, experts: Iterable[str]) -> None:
        """These experts there are, and no others."""
        self._experts = {name: self._experts.get(name, _Known()) for name in experts}
        self._renew()

    def report(self, report: Report, now: float) -> None:
        known = self._experts.get(report.expert)
        if known is not None:
            known.reports[report.view.id] = (now, report)
            self._renew(report.expert)

    def retarget(self, asked: Mapping[str, Asked], now: float) -> None:
        """What Serve is asked for now; replicas that fell silent are forgotten on the way."""
        for name, known in self._experts.items():
            known.asked = asked.get(name)
            known.reports = {
                replica: (heard, report)
                for replica, (heard, report) in known.reports.items()
                if now - heard <= STALE_AFTER_S
            }
        self._renew()

    def hold(self, held: Mapping[str, int | None]) -> None:
        """The numbers of replicas that operators asked for."""
        for name, known in self._experts.items():
            if known.held != held.get(name):
                known.held = held.get(name)
                self._renew(name)

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def _renew(self, only: str | None = None) -> None:
        """Make the snapshot anew if it is another: all of it, or one expert's part."""
        if only is None:
            experts = {name: _summary(known) for name, known in self._experts.items()}
        else:
            experts = self._snapshot.experts | {only: _summary(self._experts[only])}
        if experts != self._snapshot.experts:
            self._snapshot = Snapshot(self._snapshot.version + 1, experts)


def _summary(known: _Known) -> ExpertReport:
    reports = [report for _, report in known.reports.values()]
    told = [report.capabilities for report in reports if report.capabilities is not None]
    return ExpertReport(
        target=known.asked.replicas if known.asked else None,
        replicas=tuple(sorted((report.view for report in reports), key=lambda view: view.id)),
        capabilities=told[-1] if told else None,
        failure=known.asked.failure if known.asked else None,
        held=known.held,
    )


def state_of(report: ExpertReport) -> State:
    """The expert's state, from its replicas'."""
    states = {view.state for view in report.replicas}
    for state in _RANK:
        if state in states:
            return state
    if report.target == 0:
        return "cold"
    if report.failure is not None:
        return "failed"
    return "unknown" if report.target is None else "loading"
