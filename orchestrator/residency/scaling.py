"""How many replicas an expert's load is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

from capyra.orchestrator.residency.spec import ExpertSpec


@dataclass(slots=True)
class Load:
    """Since when an expert has had too much to do, or too little.

    Up needs the load to last, so that a burst which is over before a load would be starts none;
    down goes to the highest need within the delay, so that a short lull takes nothing away.
    """

    over_since: float | None = None
    under_since: float | None = None
    peak: int = 1

    def wanted(self, spec: ExpertSpec, under_way: int, replicas: int, now: float) -> int:
        """Replicas for these requests under way; `replicas` unless it lasted long enough."""
        need = min(max(math.ceil(under_way / spec.load), spec.least), spec.most)
        if need >= replicas:
            self.under_since = None
        if need <= replicas:
            self.over_since = None
        if need > replicas:
            if self.over_since is None:
                self.over_since = now
            if replicas < spec.least or now - self.over_since >= spec.up_delay_s:
                return need
        if need < replicas:
            if self.under_since is None:
                self.under_since, self.peak = now, need
            self.peak = max(self.peak, need)
            if now - self.under_since >= spec.down_delay_s:
                self.under_since = None
                return self.peak
        return replicas

    def due(self, spec: ExpertSpec) -> float | None:
        """When the answer may change although the load does not."""
        if self.over_since is not None:
            return self.over_since + spec.up_delay_s
        if self.under_since is not None:
            return self.under_since + spec.down_delay_s
        return None
