"""The requests that an engine has accepted, from then to their end."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from capyra.engine.errors import InvalidValue


class Ends(Protocol):
    """Work that knows when it is over."""

    over: bool


W = TypeVar("W", bound=Ends)


@dataclass(slots=True)
class Ticket(Generic[W]):
    """It has no work while its prompt is read."""

    work: W | None = None
    aborted: bool = False

    @property
    def open(self) -> bool:
        return self.work is None or not self.work.over


class Tickets(Generic[W]):
    """By the requests' names, of which no two are equal."""

    def __init__(self) -> None:
        self._tickets: dict[str, Ticket[W]] = {}
        self._numbers = itertools.count()

    @property
    def open(self) -> int:
        return sum(ticket.open for ticket in self._tickets.values())

    @property
    def works(self) -> list[W]:
        return [ticket.work for ticket in self._tickets.values() if ticket.work is not None]

    def take(self, name: str) -> Ticket[W]:
        if name in self._tickets:
            raise InvalidValue(f"a request with the id {name!r} is under way", param="id")
        ticket = self._tickets[name] = Ticket()
        return ticket

    def find(self, name: str) -> Ticket[W] | None:
        """The ticket of a request that is not over."""
        ticket = self._tickets.get(name)
        return ticket if ticket is not None and ticket.open else None

    def give_back(self, name: str) -> None:
        del self._tickets[name]

    def unused(self, kind: str) -> str:
        """A name for a request that came without one."""
        names = (f"{kind}-{number}" for number in self._numbers)
        return next(name for name in names if name not in self._tickets)
