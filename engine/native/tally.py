"""Counters of one engine: the loop's thread writes them, anybody reads a moment of them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Moment:
    """All counters at one moment."""

    running: int = 0
    """Requests of which something is computed."""
    kv_used: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    prefill_s: float = 0.0
    """Seconds of steps that read prompts, too."""
    decode_s: float = 0.0
    """Seconds of steps that only wrote."""
    steps: int = 0
    preemptions: int = 0


class Tally:
    """What is counted over the life of an engine, loads and unloads included."""

    def __init__(self) -> None:
        self.moment = Moment()
        """Replaced as a whole, so that a reader on another thread needs no lock."""
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.preemptions = 0
        self._prefill_s = 0.0
        self._decode_s = 0.0
        self._steps = 0

    def step(self, seconds: float, *, prompts: bool) -> None:
        self._steps += 1
        if prompts:
            self._prefill_s += seconds
        else:
            self._decode_s += seconds

    def publish(self, *, running: int, kv_used: float) -> None:
        self.moment = replace(
            self.moment,
            running=running,
            kv_used=kv_used,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            prefill_s=self._prefill_s,
            decode_s=self._decode_s,
            steps=self._steps,
            preemptions=self.preemptions,
        )
