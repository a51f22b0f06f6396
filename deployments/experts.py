"""What the gateway knows of the experts, and how it reaches them: the one seam between HTTP and
the cluster. `cluster.py` implements it on Ray Serve; tests implement it in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from capyra.engine.config import ExpertConfig
from capyra.engine.errors import CapacityError, ExpertStopped, LoadFailed
from capyra.engine.types import (
    Capabilities,
    Embeddings,
    EmbedRequest,
    EngineStats,
    GenerateRequest,
    Prompt,
    Rendered,
    StreamItem,
)
from capyra.orchestrator.residency.events import Hold, KeepAlive, Pin, Release, Unload

State = Literal["cold", "loading", "ready", "draining", "parked", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One process of an expert, as it last reported."""

    id: str
    node: str
    pid: int
    state: State
    stats: EngineStats
    in_flight: int = 0
    rss_bytes: int = 0
    problem: str | None = None
    """Why it does not serve with its newest settings, but with those before."""


@dataclass(frozen=True, slots=True)
class ExpertView:
    """One expert, as the gateway shows it. `capabilities` is None until a replica told them."""

    name: str
    config: ExpertConfig
    state: State = "unknown"
    target: int | None = None
    """Replicas that Serve is asked for; None while unknown."""
    replicas: tuple[ReplicaView, ...] = ()
    capabilities: Capabilities | None = None
    failure: str | None = None
    """Why Serve could not start it."""
    held: int | None = None
    """Replicas that an operator asked for; None: as its use needs. 0 is a stop."""


@dataclass(frozen=True, slots=True)
class Call:
    """The part of a request that concerns its handling, not its answer."""

    keep_alive_s: float | None = None
    """How long weights stay after this request; None: the expert's own."""
    trace: Mapping[str, str] = field(default_factory=dict)
    shown_id: str = ""
    """What the client was told that its request's id is."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What one replica holds, or may."""

    replica: str
    node: str
    state: State
    bytes: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class ExpertStatus:
    """One expert, as Control sees it."""

    name: str
    state: State
    held: int | None
    pinned: bool
    keep_alive_s: float
    """-1: for ever."""
    bytes: int
    """One replica's weights and K/V."""
    measured: bool
    """Whether a load has shown the bytes; if not, they are an estimate."""
    waiting: int
    eta_s: float
    blocked: str
    idle_s: float | None
    """Since its last request; None if there was none."""
    next_use_s: float | None
    """Until it is likely to be used again; None where nobody can tell."""
    leases: tuple[Lease, ...]


Word = Hold | Release | Pin | KeepAlive | Unload
"""What an operator tells Control."""


def unusable(view: ExpertView) -> CapacityError | None:
    """What a request hears whose expert nobody is going to start."""
    if view.held == 0:
        return stopped(view.name)
    if view.state == "failed":
        return LoadFailed(f"the expert {view.name!r} did not start: {view.failure}", param="model")
    return None


def stopped(name: str) -> ExpertStopped:
    """What a request hears whose expert the operator holds at zero replicas."""
    return ExpertStopped(
        f"the expert {name!r} is stopped: its operator starts it with `capyra scale {name} 1`",
        param="model",
    )


class Experts(Protocol):
    """The cluster, seen from the gateway. Every method raises errors of the one tree only."""

    def views(self) -> Mapping[str, ExpertView]:
        """All experts by name, from the newest snapshot; never waits."""

    def generate(
        self, expert: str, request: GenerateRequest, call: Call
    ) -> AsyncGenerator[Sequence[StreamItem], None]:
        """The answer, in batches as they come: `Accepted` first, unless it is refused.

        What fails comes as `Failed`, the last item, or as an exception if no replica could be
        reached or it is lost. Closing the iterator cancels the work behind it, wherever it is.
        """

    async def embed(self, expert: str, request: EmbedRequest, call: Call) -> Embeddings: ...

    async def render(self, expert: str, prompt: Prompt) -> Rendered:
        """The prompt's tokens: in a replica of the expert, which may be parked."""

    async def detokenize(self, expert: str, token_ids: Sequence[int]) -> str: ...

    # --- operators ------------------------------------------------------------------------

    async def statuses(self) -> Sequence[ExpertStatus]:
        """All experts, as Control sees them now."""

    async def load(self, expert: str, seconds: float) -> None:
        """Return when it takes requests; raises why it will not."""

    async def instruct(self, word: Word) -> None:
        """Give an operator's word to Control."""

    async def why(self, name: str) -> Sequence[str]:
        """What became of an expert or a request and on what grounds, oldest first; nothing where
        nobody remembers."""

    async def trace(self) -> Sequence[str]:
        """The requests of the last while, as lines of JSON for `capyra replay`."""
