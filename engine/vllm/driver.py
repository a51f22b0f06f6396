"""What makes vLLM go. There are two: `inprocess`, where its engine is stepped by a thread of ours,
and `processes`, where it runs by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from capyra.engine.vllm.calls import Piece
from capyra.engine.vllm.work import Work


@dataclass(slots=True)
class Tally:
    """Counters of all loads. One thread writes; reading a number is always safe."""

    running: int = 0
    kv_used: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0

    def take(self, work: Work, piece: Piece) -> None:
        """Let the work have its piece, and count what came of it."""
        started, written = work.started, work.completion_tokens
        work.take(piece)
        self.completion_tokens += work.completion_tokens - written
        if work.started and not started:
            self.prompt_tokens += work.prompt_tokens
            self.cached_tokens += work.cached_tokens

    def rest(self) -> None:
        self.running, self.kv_used = 0, 0.0


class Driver(ABC):
    """A loaded vLLM. Every method but `run` and `close` is called on the asyncio loop."""

    weight_bytes: int
    kv_bytes: int
    block: int
    """Tokens of a K/V block."""

    @abstractmethod
    def run(self) -> None:
        """Work until `stop`; what is left then is cancelled. For a thread of its own, which has
        loaded the driver, and closes it afterwards."""

    @abstractmethod
    def submit(self, work: Work) -> None: ...

    @abstractmethod
    def abort(self, name: str) -> None:
        """Cancel the work of that name, if it is not over."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Nobody wants that work any more."""

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Give back what the load took, whatever state it is in."""
