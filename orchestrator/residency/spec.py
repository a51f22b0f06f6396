"""What the machine is told before all else: the experts, and the rules for all of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from capyra.engine.config import LIGHT, ExpertConfig
from capyra.orchestrator.config import Residency

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertSpec:
    """One expert's settings, as far as residency goes. Bytes are those of one replica."""

    name: str
    estimate: int
    """Weights and K/V, until a load was measured."""
    process: int = 256 * MIB
    """A process without weights."""
    keep_alive_s: float = 300.0
    pin: bool = False
    initial: int = 1
    """What Serve starts a fresh deployment with: a target of Capyra's, not of an operator's."""
    resting: bool = False
    """Whether it is to begin without a process, of which Serve starts one at least."""
    least: int = 1
    """Replicas while it is in memory."""
    most: int = 4
    load: int = 16
    """Requests under way that one replica is meant to have."""
    up_delay_s: float = 5.0
    down_delay_s: float = 60.0
    waiting: int = 80
    """Requests that may wait for it to be ready."""
    digest: str = ""
    """Of all that an engine sees: with another one, a load takes other memory and time."""

    @classmethod
    def of(
        cls, name: str, config: ExpertConfig, estimate: int, model: Path | None = None
    ) -> ExpertSpec:
        """From the experts file; `estimate` is for an expert whose memory nobody stated."""
        replicas, stated = config.replicas, config.resources.memory
        return cls(
            name=name,
            estimate=estimate if stated is None else stated,
            process=config.resources.parked_memory,
            keep_alive_s=config.keep_alive,
            pin=config.pin,
            initial=max(1, replicas.initial),
            resting=replicas.initial == 0,
            least=replicas.min,
            most=replicas.max,
            load=replicas.load or config.queue.running,
            up_delay_s=replicas.up_delay,
            down_delay_s=replicas.down_delay,
            waiting=config.queue.running + config.queue.waiting,
            digest=_digest(config, estimate, model),
        )


def _digest(config: ExpertConfig, estimate: int, model: Path | None) -> str:
    seen = [config.model_dump(exclude=LIGHT), estimate, model]
    text = json.dumps(seen, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for all experts together. Durations are seconds."""

    max_resident: int = 5
    """Most replicas with weights on one node."""
    total_memory: int | None = None
    warm: int = 2
    parked: int = 5
    parked_keep_s: float = 1800.0
    stay_s: float = 5.0
    """A loaded expert is not evicted sooner, nor sooner than its load took."""
    turn_s: float = 30.0
    """Who waited so long takes the room of one that is busy, if it had as long a turn."""
    waiting: int = 4096
    """Requests that may wait, for all experts together."""
    loads: int = 4
    """Loads at a time on one node: more of them only share its disk."""
    eviction: Literal["regret", "lru"] = "regret"
    start_deadline_s: float = 300.0
    load_deadline_s: float = 600.0
    retry_s: float = 2.0
    """Wait after a first failed load; each further one doubles it, up to `longest_retry_s`."""
    longest_retry_s: float = 300.0
    resend_s: float = 3.0
    """An order that nobody confirmed is given again after so long."""
    settle_s: float = 4.0
    """How long a new Control listens before it orders anything."""
    arrival_s: float = 2.0
    """How long a granted request may be under way to its replica."""
    log: int = 4096

    @classmethod
    def of(cls, settings: Residency) -> Policy:
        return cls(
            max_resident=settings.max_resident,
            total_memory=settings.total_memory,
            warm=min(settings.warm, settings.max_resident),
            parked=settings.parked,
            parked_keep_s=settings.parked_keep_alive,
            stay_s=min(settings.stay, settings.turn),
            turn_s=settings.turn,
            waiting=settings.waiting,
            start_deadline_s=settings.start_deadline,
            load_deadline_s=settings.load_deadline,
        )
