"""What goes wrong between the parts of a server, or for those who talk to it from outside; the rest
is in `engine.errors`."""

from __future__ import annotations

from capyra.engine.errors import CapacityError


class Unreachable(CapacityError):
    """Nobody answers at the address."""

    code = "unreachable"


class NotReady(CapacityError):
    """The replica takes no requests now: whoever has one asks Control for the expert. No client
    ever sees this."""

    code = "not_ready"
