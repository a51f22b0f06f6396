"""The engine's thread: it owns scheduler, K/V and everything that runs, so nothing has a lock.

Calls come in through one inbox and are made between two steps; events go out to the asyncio loop
in one batch a step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

import torch

from capyra.engine.errors import DeadlineExceeded
from capyra.engine.native.executor import Executor
from capyra.engine.native.scheduler import Scheduler
from capyra.engine.native.stepper import Stepper
from capyra.engine.native.tally import Tally
from capyra.engine.native.work import Work

Call = Callable[[], None]


class Loop:
    """`run` is the thread's body. The other public methods are for the asyncio loop, and only
    post what is to be done."""

    def __init__(
        self,
        executor: Executor,
        scheduler: Scheduler,
        tally: Tally,
        readers: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._stepper = Stepper(executor, scheduler, tally, clock)
        self._tally = tally
        self._readers = readers
        self._clock = clock
        self._inbox: SimpleQueue[Call] = SimpleQueue()
        self._stopping = False

    def submit(self, work: Work) -> None:
        work.submitted_at = self._clock()
        self._inbox.put(lambda: self._stepper.begin(work))

    def abort(self, name: str) -> None:
        """End it with what there is; its reader is told."""
        self._inbox.put(lambda: self._abort(name))

    def drop(self, name: str) -> None:
        """End it: nobody reads it any more."""
        self._inbox.put(lambda: self._drop(name))

    def taken(self, name: str, count: int) -> None:
        """Its reader took so many events."""
        self._inbox.put(lambda: self._catch_up(name, count))

    def stop(self) -> None:
        """Abort everything and end the thread."""
        self._inbox.put(self._stop)

    def run(self) -> None:
        with torch.inference_mode():
            while not self._stopping:
                self._take_calls()
                self._expire()
                if self._stepper.busy and not self._stopping:
                    self._stepper.step()
                self._hand_over()

    def _take_calls(self) -> None:
        """Everything that was posted. With nothing to compute, wait for a call or a deadline."""
        if not self._stepper.busy:
            try:
                self._inbox.get(timeout=self._patience())()
            except Empty:
                return
        while not self._inbox.empty():
            self._inbox.get()()

    def _patience(self) -> float | None:
        """Seconds until something expires; None: nothing will."""
        works = self._stepper.works.values()
        moments = [work.deadline for work in works if work.deadline is not None]
        moments += [pin.until for pin in self._scheduler.cache.pins]
        return max(0.0, min(moments) - self._clock()) if moments else None

    def _expire(self) -> None:
        now = self._clock()
        self._scheduler.cache.unpin_until(now)
        for work in list(self._stepper.works.values()):
            if work.deadline is not None and work.deadline <= now and not work.over:
                self._stepper.fail(work, DeadlineExceeded("the request's time is over"))

    def _hand_over(self) -> None:
        """Give readers what is new, and forget works that are over."""
        works = self._stepper.works
        calls = []
        for work in list(works.values()):
            if (call := work.outlet.handover()) is not None:
                calls.append(call)
            if work.over:
                del works[work.name]
        running = sum(work.admitted_at is not None for work in works.values())
        self._tally.publish(running=running, kv_used=self._scheduler.cache.used)
        if calls:
            try:
                self._readers.call_soon_threadsafe(_call_all, calls)
            except RuntimeError:
                # The asyncio loop is closed: nobody is left to read.
                self._stop()

    def _abort(self, name: str) -> None:
        work = self._stepper.works.get(name)
        if work is not None and not work.over:
            work.cancel()
            self._stepper.settle(work)

    def _drop(self, name: str) -> None:
        work = self._stepper.works.get(name)
        if work is not None:
            work.over = True
            self._stepper.settle(work)

    def _catch_up(self, name: str, count: int) -> None:
        work = self._stepper.works.get(name)
        if work is None:
            return
        work.outlet.taken(count)
        if not work.outlet.slow:
            for sequence in work.sequences():
                self._scheduler.resume(sequence)

    def _stop(self) -> None:
        self._stopping = True
        for name in list(self._stepper.works):
            self._abort(name)


def _call_all(calls: list[Call]) -> None:
    for call in calls:
        call()
