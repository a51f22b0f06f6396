"""Which requests the echo engine works on, and how far each gets in a turn.

No clock and no loop of its own: whoever drives it says what time it is.
"""

from __future__ import annotations

import itertools
import math
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from capyra.engine.echo.answer import Answer
from capyra.engine.echo.cache import PrefixCache
from capyra.engine.errors import CapyraError, EngineFault
from capyra.engine.types import Delta, Done, Event, Started, TokenLogprob, Usage

TURN = 512
"""Tokens that a turn makes in all: at some 0.5 µs each the loop stays free."""
SHARE = 32
"""Tokens of one answer in a turn: enough that waking its reader costs little."""
LAG = 256
"""Events that wait for a slow reader before its request steps aside."""


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """One request on its way. A prefix that is only to be read has no answers."""

    id: str
    salt: str
    prompt: list[int]
    answers: Sequence[Answer] = ()
    preamble: str = ""
    """Text that comes before each answer."""
    prompt_logprobs: Callable[[], tuple[TokenLogprob | None, ...]] | None = None
    priority: float = 0
    keep_s: float = 0.0
    """How long the prompt's blocks are safe from eviction."""
    notify: Callable[[], None] = lambda: None
    """Called when there are new events, or the job is over."""

    events: deque[Event] = field(default_factory=deque)
    over: bool = False
    error: CapyraError | None = None
    cached: int = 0
    arrival: int = 0
    arrived_at: float = 0.0
    admitted_at: float = -1.0
    read_at: float = math.inf
    """When its prompt has been read."""
    started_at: float = -1.0
    paced_from: float = 0.0
    """When its first token would have come, had it never stepped aside."""

    @property
    def started(self) -> bool:
        return self.started_at >= 0

    @property
    def lags(self) -> bool:
        return len(self.events) >= LAG

    @property
    def completion_tokens(self) -> int:
        return sum(len(answer.written) for answer in self.answers)


@dataclass(slots=True)
class Totals:
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Batch:
    """Up to `size` requests at once; the others wait, by priority and then by arrival.

    A request whose reader is slow steps aside and gives its place to another, until `resume`.
    """

    def __init__(
        self, size: int, cache: PrefixCache, *, decode_speed: float = 0, prefill_speed: float = 0
    ) -> None:
        self._size = size
        self._cache = cache
        self._decode_speed = decode_speed
        self._prefill_speed = prefill_speed
        self._jobs: dict[str, Job] = {}
        self._running: list[Job] = []
        self._waiting: list[Job] = []
        self._aside: set[Job] = set()
        self._arrivals = itertools.count()
        self._reader_free_at = 0.0
        self.totals = Totals()

    @property
    def busy(self) -> bool:
        """Whether a turn would have something to do."""
        return bool(self._running or self._waiting)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running) + len(self._aside)

    @property
    def completion_tokens(self) -> int:
        """Of all requests so far, those under way too."""
        return self.totals.completion_tokens + sum(
            job.completion_tokens for job in self._jobs.values()
        )

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    @property
    def jobs(self) -> list[Job]:
        return list(self._jobs.values())

    def submit(self, job: Job, now: float) -> None:
        assert job.id not in self._jobs, job.id
        job.arrival, job.arrived_at = next(self._arrivals), now
        self._jobs[job.id] = job
        self._enqueue(job)

    def resume(self, job: Job, now: float) -> bool:
        """Its reader has caught up: whether the job had stepped aside, and now is back."""
        if job not in self._aside:
            return False
        self._aside.remove(job)
        if self._decode_speed:
            written = max(len(answer.written) for answer in job.answers)
            job.paced_from = max(job.paced_from, now - written / self._decode_speed)
        self._enqueue(job)
        return True

    def abort(self, job_id: str, now: float) -> bool:
        """End the job's answers where they are."""
        job = self._jobs.get(job_id)
        if job is None:
            return False
        for answer in job.answers:
            if not answer.finished:
                job.events.extend(answer.finish("cancelled"))
        self._finish(job, now)
        return True

    def fail(self, job: Job, error: CapyraError) -> None:
        if not job.over:
            job.error = error
            self.drop(job)
            job.notify()

    def drop(self, job: Job) -> None:
        """Forget the job: nobody wants its events any more."""
        job.over = True
        if self._jobs.pop(job.id, None) is None:
            return
        self._aside.discard(job)
        for place in (self._running, self._waiting):
            if job in place:
                place.remove(job)
        self.totals.completion_tokens += job.completion_tokens

    def turn(self, now: float) -> float:
        """Every running request goes on a little. When the next turn has something to do."""
        while self._waiting and len(self._running) < self._size:
            self._admit(self._waiting.pop(0), now)
        share = max(1, min(SHARE, TURN // max(1, len(self._running))))
        due = math.inf
        for job in tuple(self._running):
            try:
                due = min(due, self._go_on(job, now, share))
            except CapyraError as error:
                self.fail(job, error)
            except Exception as error:  # noqa: BLE001 - one request must not end the others
                fault = EngineFault(f"an invariant of the echo engine broke: {error!r}")
                fault.__cause__ = error
                self.fail(job, fault)
        return now if self._waiting and len(self._running) < self._size else due

    def _enqueue(self, job: Job) -> None:
        insort(self._waiting, job, key=lambda job: (-job.priority, job.arrival))

    def _admit(self, job: Job, now: float) -> None:
        self._running.append(job)
        if job.started or job.admitted_at >= 0:
            return
        job.admitted_at = now
        # The last token is always computed: it is what the first of the answer follows from.
        job.cached = self._cache.match(job.salt, job.prompt[:-1])
        cost = 0.0
        if self._prefill_speed:
            cost = (len(job.prompt) - job.cached) / self._prefill_speed
        self._reader_free_at = max(self._reader_free_at, now) + cost
        job.read_at = self._reader_free_at

    def _go_on(self, job: Job, now: float, share: int) -> float:
        if not job.started:
            if now < job.read_at:
                return job.read_at
            self._start(job, now)
        count, due = share, now
        if self._decode_speed:
            count, due = self._pace(job, now, share)
        for answer in job.answers:
            if not answer.finished:
                job.events.extend(answer.write(count))
        if all(answer.finished for answer in job.answers):
            self._finish(job, now)
            return math.inf
        if job.lags:
            self._running.remove(job)
            self._aside.add(job)
            due = math.inf
        if job.events:
            job.notify()
        return due

    def _pace(self, job: Job, now: float, share: int) -> tuple[int, float]:
        """How many tokens of each answer are due, and when the next one is."""
        written = max((len(answer.written) for answer in job.answers), default=0)
        # A whole number of tokens must not be missed for the last bit of a float.
        allowed = 1 + math.floor((now - job.paced_from) * self._decode_speed + 1e-6)
        count = min(share, max(0, allowed - written))
        return count, job.paced_from + (written + count) / self._decode_speed

    def _start(self, job: Job, now: float) -> None:
        job.started_at = job.paced_from = now
        self._cache.insert(job.salt, job.prompt, now, now + job.keep_s if job.keep_s else 0.0)
        self.totals.prompt_tokens += len(job.prompt)
        self.totals.cached_tokens += job.cached
        self.totals.prefill_s += now - job.admitted_at
        logprobs = job.prompt_logprobs() if job.prompt_logprobs else None
        job.events.append(Started(len(job.prompt), job.cached, logprobs))
        if job.preamble:
            job.events.extend(Delta(index, job.preamble) for index in range(len(job.answers)))

    def _finish(self, job: Job, now: float) -> None:
        timing = {"queue": now - job.arrived_at}
        if job.admitted_at >= 0:
            timing = {"queue": job.admitted_at - job.arrived_at, "prefill": now - job.admitted_at}
        if job.started:
            timing |= {
                "prefill": job.started_at - job.admitted_at,
                "decode": now - job.started_at,
            }
            self.totals.decode_s += timing["decode"]
            for answer in job.answers:
                self._cache.insert(job.salt, job.prompt + answer.written, now)
        usage = Usage(len(job.prompt), job.completion_tokens, job.cached, timing)
        job.events.append(Done(usage))
        self.drop(job)
        job.notify()
