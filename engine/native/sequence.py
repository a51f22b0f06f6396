"""One row of the batch: tokens, how many of them are computed, and the blocks they live in.

A request begins as one sequence, its prompt. When the prompt is computed, the other answers of
the request fork from it and share its blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from capyra.engine.native.blocks import BLOCK_TOKENS, NO_BLOCK
from capyra.engine.native.prefix import Span, block_key


class State(Enum):
    """`WAITING` and `PAUSED` sequences may hold blocks, but are the first to lose them."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    """What the scheduler knows of one answer. The loop appends tokens, the scheduler counts."""

    request: str
    root: bytes
    """The key under which its prefixes are found; see `prefix.root_key`."""
    tokens: list[int]
    index: int = 0
    tenant: str = ""
    priority: int = 0
    background: bool = False
    """Done only when nobody waits: a `prefill`."""
    spans: tuple[Span, ...] = ()
    logits_from: int | None = None
    """The first position whose logits somebody wants; None: only the last one's. No prefix hit
    goes beyond it."""
    reusable: bool = True
    """Whether K/V may come from the prefix index: not if every hidden state is wanted."""
    chooses: bool = True
    """Whether a token follows its last one, so that its logits are wanted."""

    state: State = State.WAITING
    computed: int = 0
    cached: int = 0
    """Tokens that the prefix index saved at the first admission."""
    arrival: int = 0
    passed_over: int = 0
    """Steps in which it was not computed although it could have been."""
    admitted: bool = False
    tables: list[list[int]] = field(default_factory=list)
    """For each cache group the blocks by place, `NO_BLOCK` where the window has passed."""
    keys: list[bytes] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Tokens that have no K/V yet."""
        return len(self.tokens) - self.computed

    @property
    def holds(self) -> bool:
        """Whether it holds blocks."""
        return any(self.tables)

    @property
    def decodes(self) -> bool:
        """Whether only its newest token is missing."""
        return self.computed > 0 and self.missing == 1

    def held(self, group: int) -> int:
        """Blocks of this group that it holds."""
        if not self.tables:
            return 0
        return len(self.tables[group]) - self.tables[group].count(NO_BLOCK)

    @property
    def reusable_tokens(self) -> int:
        """The longest prefix that may come from the index: one token at least is computed, no
        image is begun in its middle."""
        if not self.reusable:
            return 0
        limit = len(self.tokens) - 1
        if self.logits_from is not None:
            limit = min(limit, self.logits_from)
        return limit

    def keys_to(self, tokens: int) -> list[bytes]:
        """The keys of the full blocks among the first so many tokens."""
        for block in range(len(self.keys), tokens // BLOCK_TOKENS):
            start = block * BLOCK_TOKENS
            self.keys.append(
                block_key(
                    self.keys[-1] if self.keys else self.root,
                    self.tokens[start : start + BLOCK_TOKENS],
                    start,
                    self.spans,
                )
            )
        return self.keys[: tokens // BLOCK_TOKENS]

    def whole_images(self, position: int) -> int:
        """The position moved back so that it is not inside an image."""
        for span in self.spans:
            if span.start < position < span.end:
                return span.start
        return position

    def image_at(self, position: int) -> Span | None:
        """The image that begins here."""
        return next((span for span in self.spans if span.start == position), None)

    def fork(self, index: int) -> Sequence:
        """Another answer with the same tokens so far; its blocks are given by the cache."""
        return Sequence(
            request=self.request,
            root=self.root,
            tokens=list(self.tokens),
            index=index,
            tenant=self.tenant,
            priority=self.priority,
            background=self.background,
            spans=self.spans,
            computed=self.computed,
            cached=self.cached,
            arrival=self.arrival,
            admitted=True,
            keys=list(self.keys),
        )
