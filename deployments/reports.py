"""What replicas tell Control, and what Control tells gateways."""

from __future__ import annotations

from dataclasses import dataclass, field

from capyra.deployments.experts import ReplicaView
from capyra.engine.types import Capabilities

REPORT_INTERVAL_S = 1.0
STALE_AFTER_S = 4.0
"""A replica that has not reported for so long is not shown any more."""


@dataclass(frozen=True, slots=True)
class Report:
    """One replica at one moment."""

    expert: str
    view: ReplicaView
    capabilities: Capabilities | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What Serve is asked for of one expert, and why it gave that up if it did."""

    replicas: int
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class ExpertReport:
    """One expert at one moment: what Serve was asked for, and what its replicas said."""

    target: int | None = None
    replicas: tuple[ReplicaView, ...] = ()
    capabilities: Capabilities | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster at one moment. `version` grows with every change."""

    version: int
    experts: dict[str, ExpertReport] = field(default_factory=dict)
