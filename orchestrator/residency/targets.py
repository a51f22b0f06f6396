"""Whose word counts for the number of an expert's replicas: Control's, or an operator's.

Both write the same target at Serve. One that Control did not write is an operator's, and holds
until it is released; so Control writes down what it is about to ask for before it asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

News = Literal["none", "confirmed", "held", "lost"]


@dataclass(slots=True)
class Target:
    initial: int
    own: int | None = None
    pending: int | None = None
    hold: int | None = None
    seen: int | None = None
    """What Serve said last."""
    set_at: float = float("-inf")

    @property
    def count(self) -> int:
        """The replicas there should be; before Serve was heard, those it begins with."""
        for known in (self.pending, self.own, self.seen):
            if known is not None:
                return known
        return self.initial

    @property
    def known(self) -> bool:
        return self.seen is not None

    @property
    def stopped(self) -> bool:
        return self.hold == 0

    def want(self, count: int, now: float) -> None:
        """Control is about to ask for so many."""
        self.pending, self.set_at = count, now

    def take_hold(self, count: int, now: float) -> None:
        """An operator told Control, which tells Serve."""
        self.hold = count
        self.want(count, now)

    def read(self, count: int, asked_at: float, resend_s: float) -> News:
        """Serve was seen with this target. `lost`: what Control asked for never got there."""
        if asked_at <= self.set_at:
            return "none"  # the poll may have been answered before our own target arrived
        self.seen = count
        if count == self.pending:
            self.own, self.pending = count, None
            return "confirmed"
        if self.pending is not None and count == self.own:
            return "lost" if asked_at - self.set_at >= resend_s else "none"
        if self.own is None and self.pending is None and count == self.initial:
            self.own = count
            return "confirmed"
        if count == self.own:
            return "none"
        self.own, self.pending, self.hold = count, None, count
        return "held"
