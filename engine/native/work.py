"""A request in the hands of the engine's loop, whatever it asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from capyra.engine.errors import Cancelled, CapyraError
from capyra.engine.native.executor import Output
from capyra.engine.native.outlet import Outlet
from capyra.engine.native.sampler import Likelihood, Row
from capyra.engine.native.scheduler import Scheduler
from capyra.engine.native.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Choice:
    """A token to be chosen for this answer of the work."""

    answer: int
    row: Row
    line: int
    """The row of the step's logits."""
    alternatives: int | None
    """How many of the likeliest are to be told; None: not even the chosen one's likelihood."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The token that was chosen."""

    answer: int
    token: int
    likelihood: Likelihood | None


class Work(ABC):
    """The loop calls everything here, on its own thread, one call at a time."""

    def __init__(
        self,
        name: str,
        outlet: Outlet,
        clock: Callable[[], float],
        *,
        deadline: float | None = None,
    ) -> None:
        self.name = name
        self.outlet = outlet
        self.clock = clock
        self.deadline = deadline
        """The moment at which it fails, by its clock."""
        self.submitted_at = 0.0
        self.admitted_at: float | None = None
        self.over = False

    @property
    @abstractmethod
    def prompt_tokens(self) -> int: ...

    @abstractmethod
    def sequences(self) -> list[Sequence]:
        """All that it has with the scheduler, or had."""

    @abstractmethod
    def begin(self, scheduler: Scheduler) -> None:
        """Add its first sequences."""

    @abstractmethod
    def take(self, output: Output, scheduler: Scheduler) -> list[Choice]:
        """A chunk of one of its sequences is computed. What is to be chosen now."""

    def chosen(self, chosen: Chosen, scheduler: Scheduler) -> None:
        """A token that it asked for."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Somebody aborted it: end it with what there is."""
        self.fail(Cancelled("the request was aborted"))

    def pixels(self) -> Mapping[int, Tensor]:
        """The preprocessed images of its prompt by where they begin."""
        return {}

    def fail(self, error: CapyraError) -> None:
        self.over = True
        self.outlet.fail(error)
