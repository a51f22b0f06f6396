"""What an engine does for one caller: calls go out to a driver, their pieces come back."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from capyra.engine.errors import Cancelled, CapyraError
from capyra.engine.native.outlet import Outlet
from capyra.engine.vllm.calls import Call, Piece

_LAG = 256


class Work(ABC):
    """Lives on its driver's thread; only `outlet.reader` is the asyncio loop's."""

    def __init__(
        self, name: str, prompt_tokens: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.clock = clock
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = 0
        self.started = False
        """Whether its prompt has been read."""
        self.outlet = Outlet(_LAG)
        self.over = False
        self.submitted_at = clock()
        self.began_at: float | None = None
        """When vLLM first computed any of its calls."""
        self.ended: list[str] = []
        """Calls that nobody wants any more, though vLLM would go on: the driver takes them."""
        self.again: list[Call] = []
        """Calls that turned out to be needed: the driver takes them."""

    @property
    def completion_tokens(self) -> int:
        """Tokens written so far, in all answers."""
        return 0

    @abstractmethod
    def calls(self) -> list[Call]:
        """What vLLM is to compute."""

    @abstractmethod
    def take(self, piece: Piece) -> None:
        """Something came back."""

    def cancel(self) -> None:
        """End now, because the caller or the operator wants it."""
        self.fail(Cancelled("the expert was unloaded before this was done"))

    def end(self) -> None:
        self.over = True
        self.outlet.finish()

    def fail(self, error: CapyraError) -> None:
        self.over = True
        self.outlet.fail(error)
