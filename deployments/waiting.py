"""How a gateway waits for an expert that is not ready, and tells Control of those that are."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from ray.serve.handle import DeploymentHandle

from capyra.deployments.reports import Standing, Use, Wish
from capyra.deployments.serve_state import ask
from capyra.engine.errors import CapacityError, DeadlineExceeded
from capyra.engine.types import Accepted, Progress

logger = logging.getLogger(__name__)

PATIENCE_S = 6.0
"""How long Control may be silent: it answers after some seconds even if there is no news."""
RETRY_S = 0.2
TELL_S = 0.2
"""How often Control hears of requests that began without it."""


TRIES = 3
"""How often a request is begun whose replica is lost: again only while its client has seen no
token."""
PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Between tries of a request that Control sent to a replica that was not ready after all."""


class Turn:
    """One request on its way to a replica, over all its tries."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.granted = False
        """Whether Control sent it last."""
        self.refused = 0
        """How often a replica was not ready for it."""
        self.losses = 0
        self._clock = asyncio.get_running_loop().time
        self._until = self._clock() + wish.seconds

    def left(self) -> float:
        """Seconds until its deadline."""
        return max(self._until - self._clock(), 0.001)

    def now(self) -> Wish:
        """The wish, with the time that is left."""
        return replace(self.wish, seconds=self._until - self._clock())

    def lost(self) -> bool:
        """A replica was lost under it; whether that was once too often."""
        self.losses += 1
        return self.losses == TRIES

    async def pause(self) -> None:
        """A replica was not ready for it: Control is to send it, and at once the first time."""
        if self.granted:
            await asyncio.sleep(PAUSES_S[min(self.refused, len(PAUSES_S)) - 1])
        self.refused += 1
        self.granted = False


class Waiting:
    """Asks Control for experts. It may be away for a while: the next one is asked again."""

    def __init__(self, control: DeploymentHandle[Any]) -> None:
        self._control = control
        self._uses: Counter[tuple[str, float | None]] = Counter()

    async def until_ready(self, wish: Wish) -> AsyncGenerator[Accepted | Progress]:
        """What a client is told until the expert takes requests: `Accepted` once it waits, then
        `Progress`. Raises why it will not; nothing waits any longer when this is closed."""
        clock = asyncio.get_running_loop().time
        give_up = clock() + wish.seconds
        seen: Standing | None = None
        told = over = False
        try:
            while True:
                if clock() >= give_up:
                    raise DeadlineExceeded(
                        f"the deadline passed while the request waited for {wish.expert!r}"
                    )
                try:
                    found = await ask(self._control.wait, wish, seen, patience_s=PATIENCE_S)
                except Exception as error:  # noqa: BLE001 - whatever it died of, there is a next
                    logger.warning("Control did not answer (%r); asking again", error)
                    seen = None
                    await asyncio.sleep(RETRY_S)
                    continue
                if not isinstance(found, Standing):
                    over = True
                    if found.failure is not None:
                        raise found.failure.error()
                    return
                if not told:
                    yield Accepted(wish.expert, "", ready=False, waiting=found.waiting)
                    told = True
                seen = found
                yield found.progress
        finally:
            if not over:
                self._control.leave.remote(wish.id)

    def used(self, turn: Turn) -> None:
        """A request began on a replica. Control knows of those that it granted."""
        if not turn.granted:
            self._uses[turn.wish.expert, turn.wish.keep_alive_s] += 1

    async def ask_control(self, method: str, *arguments: object) -> Any:
        """An operator's question or word. Control may be away for a moment, and only then is it
        asked again: what it is told here may be told twice."""
        for pause_s in (RETRY_S, 1.0, 2.0, None):
            try:
                return await ask(getattr(self._control, method), *arguments, patience_s=PATIENCE_S)
            except Exception as error:
                if pause_s is None:
                    raise CapacityError(
                        "Control does not answer: try again shortly", retry_after_s=2.0
                    ) from error
                logger.warning("Control did not answer (%r); asking again", error)
                await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def keep_telling(self) -> None:
        """Tell Control who was used, for ever."""
        while True:
            await asyncio.sleep(TELL_S)
            if not self._uses:
                continue
            uses = [Use(expert, count, kept) for (expert, kept), count in self._uses.items()]
            self._uses.clear()
            try:
                await ask(self._control.used, uses, patience_s=PATIENCE_S)
            except Exception:
                # It learns from the next ones.
                logger.debug("Control did not hear who was used", exc_info=True)
