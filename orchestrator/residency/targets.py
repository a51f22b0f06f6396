"""Whose word counts for the number of an expert's replicas: Control's, or an operator's.

Both write the same target at Serve. One that Control did not write is an operator's, and holds
until it is released; so Control writes down what it is about to ask for before it asks. A deploy
of an expert's other settings writes it too, back to where the expert begins: that is nobody's word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

News = Literal["none", "confirmed", "held", "lost", "reset"]

DEPLOY_S = 60.0
"""How long a deploy's number is not an operator's, if Serve says so long that it is under way."""
BEGUN_S = 5.0
"""And after it said so last, or told of the deploy: its number comes some moments later."""


@dataclass(slots=True)
class Target:
    initial: int
    own: int | None = None
    pending: int | None = None
    hold: int | None = None
    seen: int | None = None
    """What Serve said last."""
    set_at: float = float("-inf")
    deployed: float | None = None
    """When Serve was told last of a deploy that is over; the next Control goes by it."""
    deploying: float | None = None
    """When it was told of one that may be under way."""
    deploy_began_at: float = float("-inf")
    deploy_over_at: float = float("-inf")
    reset: bool = False
    """Whether that one set the target, which it does once."""

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

    def read(
        self,
        count: int,
        asked_at: float,
        resend_s: float,
        deployed: float | None = None,
        *,
        deploying: bool = False,
    ) -> News:
        """Serve was seen with this target, and with a deploy of that time, perhaps under way.

        `lost`: what Control asked for never got there. `reset`: a deploy took its place.
        """
        if asked_at <= self.set_at:
            return "none"  # the poll may have been answered before our own target arrived
        deploys = self._deploys(asked_at, deployed, deploying)
        news = self._read(count, asked_at - self.set_at >= resend_s, deploys=deploys)
        if news == "reset":
            self.reset = True
            self._begin_deploy(asked_at)
        if news == "confirmed" and self.reset:
            self._end_deploy()
        return news

    def _read(self, count: int, overdue: bool, *, deploys: bool) -> News:
        self.seen = count
        if count == self.pending or (self.own is None and self.pending is None):
            # What nothing was written of is taken as it is: no operator is known to have set it.
            self.own, self.pending = count, None
            return "confirmed"
        if self.pending is not None and count == self.own:
            return "lost" if overdue else "none"
        if count == self.own:
            return "none"
        if deploys and count == self.initial:
            return "reset" if self.pending is None or overdue else "none"
        self.own, self.pending, self.hold = count, None, count
        return "held"

    def _deploys(self, asked_at: float, deployed: float | None, deploying: bool) -> bool:
        """Whether a deploy may have set the target a moment ago."""
        if deployed is None or deployed == self.deployed:
            return False
        if self.deployed is not None and deployed != self.deploying:
            self.reset = False
            self._begin_deploy(asked_at)
        self.deploying = deployed
        if deploying and asked_at < self.deploy_began_at + DEPLOY_S:
            self.deploy_over_at = asked_at + BEGUN_S
        if asked_at < self.deploy_over_at:
            return True
        self._end_deploy()
        return False

    def _begin_deploy(self, asked_at: float) -> None:
        self.deploy_began_at, self.deploy_over_at = asked_at, asked_at + BEGUN_S

    def _end_deploy(self) -> None:
        self.deployed, self.deploying, self.reset = self.deploying, None, False
