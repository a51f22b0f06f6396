"""What goes wrong for those who talk to a server from outside; the rest is in `engine.errors`."""

from __future__ import annotations

from capyra.engine.errors import CapacityError


class Unreachable(CapacityError):
    """Nobody answers at the address."""

    code = "unreachable"
