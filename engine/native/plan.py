"""What the scheduler decides: one step of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from capyra.engine.native.cache import Copy
from capyra.engine.native.sequence import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The bounds of one step."""

    tokens: int
    """All tokens of a step."""
    chunk: int
    """Prompt tokens of a step in which something decodes."""
    running: int
    """Sequences that are in work at one time."""
    scored: int = 128
    """Prompt tokens of a sequence that wants all their logits: each costs a vocabulary row."""
    decode_steps_between_admissions: int = 0
    patience: int = 2048
    """Steps after which a sequence has waited long enough to come before all others."""

    def __post_init__(self) -> None:
        assert 0 < self.chunk <= self.tokens - self.running, "prompts would find no room"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute `count` tokens of the sequence, from `start`, after its copies."""

    sequence: Sequence
    start: int
    count: int
    decode: bool
    copies: tuple[Copy, ...] = ()

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def last(self) -> bool:
        """Whether it computes the newest token, so that the next one can be chosen."""
        return self.end == len(self.sequence.tokens)


@dataclass(slots=True)
class StepPlan:
    """Chunks of different sequences, for one batch. Empty: nothing can be done now."""

    chunks: list[Chunk] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return sum(chunk.count for chunk in self.chunks)

    @property
    def prompt_tokens(self) -> int:
        return sum(chunk.count for chunk in self.chunks if not chunk.decode)

    @property
    def copies(self) -> list[Copy]:
        return [copy for chunk in self.chunks for copy in chunk.copies]

    def has(self, sequence: Sequence) -> bool:
        return any(chunk.sequence is sequence for chunk in self.chunks)

    def drop(self, sequence: Sequence) -> None:
        self.chunks = [chunk for chunk in self.chunks if chunk.sequence is not sequence]
