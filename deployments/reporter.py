"""How long work tells a person what it does."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Told of stages one after the other; shows them as its output allows."""

    def stage(self, name: str) -> None:
        """A new stage begins; the one before has ended."""

    def update(self, fraction: float, text: str = "") -> None:
        """How far the stage is, 0 to 1."""

    def done(self, text: str = "") -> None:
        """The stage ended well."""

    def note(self, text: str) -> None:
        """Something worth knowing that is no stage."""

    def ready(self, url: str, example: str) -> None:
        """The server answers at `url`; `example` is a command to try."""


class Quiet:
    """Tells nobody."""

    def stage(self, name: str) -> None: ...

    def update(self, fraction: float, text: str = "") -> None: ...

    def done(self, text: str = "") -> None: ...

    def note(self, text: str) -> None: ...

    def ready(self, url: str, example: str) -> None: ...
