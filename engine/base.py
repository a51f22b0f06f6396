"""The Engine contract. Whoever implements it passes `tests/contract`.

An engine serves one expert in one process. Its life: constructed (everything but weights:
tokenizer, template, configuration; this is a *parked* process) → `load` → serving → `unload`
(parked again, the memory given back to the system) → … → `close`.

All methods are called on one asyncio loop; an engine that computes does so on threads of its
own and never blocks that loop for more than a few milliseconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence

from capyra.engine.types import (
    Capabilities,
    Embeddings,
    EmbedRequest,
    EngineStats,
    Event,
    GenerateRequest,
    Prefilled,
    Progress,
    Prompt,
    Rendered,
    Score,
)

ProgressSink = Callable[[Progress], None]
"""Called from the loop, or from a thread of the engine's: it must be safe from both."""


class Engine(ABC):
    """One expert's model, whatever computes it."""

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this engine can do for this expert. Needs no weights and never changes."""

    @abstractmethod
    def render(self, prompt: Prompt) -> Rendered:
        """The prompt as the model will see it. Needs no weights.

        Raises `InvalidValue` for a conversation that the template refuses, `Unsupported` for
        parts that the model has no eyes for. Token ids out of the vocabulary are an
        `InvalidValue` too.
        """

    @abstractmethod
    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """The text's tokens. With `special`, names of control tokens in it become those tokens;
        without, they are ordinary text: no prompt can smuggle one in."""

    @abstractmethod
    def detokenize(self, token_ids: Sequence[int]) -> str:
        """The text of these tokens, which is what an answer of them says: control tokens have
        none, and bytes that are no UTF-8 become U+FFFD."""

    @abstractmethod
    async def load(self, progress: ProgressSink) -> None:
        """Bring the weights in; a no-op when they are. Reports progress at every stage.

        Callers at the same time share one load, which ends when the last of them leaves, or
        with `LoadFailed` at an unload. Cancelling it, or a failure (`ModelError`, `LoadFailed`),
        leaves the engine parked: a later load starts afresh.
        """

    @abstractmethod
    def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """Answer: `Started`, then for each of the `n` answers any number of `Delta` and
        `ToolCallDelta` and one `Finished`, interleaved; at last `Done`.

        Raises before the first event what is wrong with the request (`ContextTooLong`,
        `Unsupported`, `InvalidValue`, which an id in use is too), `DeadlineExceeded` when its
        time is over, and `EngineFault` when the engine broke; such a failure never touches other
        requests.
        Closing the iterator, or cancelling the task that reads it, ends the work within one
        step and frees what it held. A reader that is slow slows its own answer only.
        The same request gives the same tokens if it is greedy or has a seed, whatever else
        the engine does at that moment. Requires loaded weights: `EngineFault` otherwise.
        """

    @abstractmethod
    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each input, in order."""

    @abstractmethod
    async def score(
        self, prompt: Prompt, continuations: Sequence[str], *, cache_salt: str = ""
    ) -> list[Score]:
        """How likely each continuation is after the prompt, which is computed once."""

    @abstractmethod
    async def prefill(self, prefix: Prompt, *, ttl_s: float, cache_salt: str = "") -> Prefilled:
        """Compute the K/V of a prefix that is likely to be asked for within `ttl_s`.

        A chat prefix is rendered without the marks that open an answer. Work for waiting
        requests always comes first.
        """

    @abstractmethod
    def abort(self, request_id: str) -> bool:
        """End a request now: its stream ends with `Finished(reason="cancelled")` for what was
        not finished, then `Done`; one that had not begun has no `Started`. False if no such
        request is running or waiting."""

    @abstractmethod
    async def unload(self) -> None:
        """Give the weights and the K/V back to the system; a no-op when parked.

        Running requests are aborted: the caller drains first. Evicting nothing is always safe.
        """

    @abstractmethod
    def stats(self) -> EngineStats:
        """This moment, from counters: cheap enough to be asked ten times a second."""

    async def close(self) -> None:
        """Unload, and end the engine's threads. The engine is not used again."""
        await self.unload()
