"""One step of the engine: plan, compute, choose, tell. What fails in it ends one request only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from torch import Tensor

from capyra.engine.errors import CapyraError, EngineFault
from capyra.engine.native.executor import Executor, Output, Result
from capyra.engine.native.plan import Chunk
from capyra.engine.native.sampler import Likelihood, choose, likelihoods
from capyra.engine.native.scheduler import Scheduler
from capyra.engine.native.sequence import Sequence, State
from capyra.engine.native.tally import Tally
from capyra.engine.native.work import Choice, Chosen, Work

T = TypeVar("T")


class Stepper:
    """Knows all works by name, and which sequence is whose."""

    def __init__(
        self,
        executor: Executor,
        scheduler: Scheduler,
        tally: Tally,
        clock: Callable[[], float],
    ) -> None:
        self.works: dict[str, Work] = {}
        self._executor = executor
        self._scheduler = scheduler
        self._tally = tally
        self._clock = clock

    @property
    def busy(self) -> bool:
        """Whether a step has something to do."""
        return bool(self._scheduler.running or self._scheduler.waiting)

    def begin(self, work: Work) -> None:
        self.works[work.name] = work
        self._attempt(work, partial(work.begin, self._scheduler))

    def fail(self, work: Work, error: CapyraError) -> None:
        """End it with an error. What a fault left in the K/V nobody may find."""
        work.fail(error)
        if isinstance(error, EngineFault):
            for group, blocks in enumerate(self._scheduler.cache.spoil(work.sequences())):
                if blocks:
                    self._executor.clear(group, blocks)
        self.settle(work)

    def settle(self, work: Work) -> None:
        """After anything happened to it: let go of it, or let its reader catch up."""
        if work.over:
            for sequence in work.sequences():
                self._scheduler.finish(sequence)
        elif work.outlet.slow:
            for sequence in work.sequences():
                self._scheduler.pause(sequence)

    def step(self) -> None:
        """Everything from the plan to the events."""
        begin = self._clock()
        plan = self._scheduler.plan()
        if not plan.chunks:
            self._fail_the_stuck()
            return
        self._admit(plan.chunks, begin)
        self._executor.copy(plan.copies)
        for result in self._compute(plan.chunks):
            self._take(result)
        for work in self._works_of(plan.chunks):
            self.settle(work)
        self._tally.preemptions = self._scheduler.preemptions
        self._tally.step(self._clock() - begin, prompts=plan.prompt_tokens > 0)

    def _admit(self, chunks: Iterable[Chunk], now: float) -> None:
        for chunk in chunks:
            work = self.works[chunk.sequence.request]
            if work.admitted_at is None:
                work.admitted_at = now
                self._tally.prompt_tokens += work.prompt_tokens
                self._tally.cached_tokens += chunk.sequence.cached

    def _compute(self, chunks: list[Chunk]) -> list[Result]:
        """All in one; if that fails, each alone, and only those that fail alone are ended."""
        try:
            return [self._executor.run(chunks, self._pixels)]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one request's
            if len(chunks) > 1:
                return [result for chunk in chunks for result in self._compute([chunk])]
            work = self.works[chunks[0].sequence.request]
            self.fail(work, _fault(work, error))
            return []

    def _take(self, result: Result) -> None:
        choices: list[tuple[Work, Choice]] = []
        for output in result.outputs:
            work = self.works[output.chunk.sequence.request]
            if output.chunk.sequence.state is not State.FINISHED:
                found = self._attempt(work, partial(self._read, work, output))
                choices += [(work, choice) for choice in found or ()]
        choices = [(work, choice) for work, choice in choices if not work.over]
        if not choices:
            return
        for (work, choice), (token, likelihood) in zip(
            choices, _choose(result, [choice for _, choice in choices]), strict=True
        ):
            if not work.over:
                self._tally.completion_tokens += 1
                chosen = Chosen(choice.answer, token, likelihood)
                self._attempt(work, partial(work.chosen, chosen, self._scheduler))

    def _read(self, work: Work, output: Output) -> list[Choice]:
        self._scheduler.computed(output.chunk)
        return work.take(output, self._scheduler)

    def _attempt(self, work: Work, act: Callable[[], T]) -> T | None:
        """Do it; an error is the work's own."""
        try:
            return act()
        except CapyraError as error:
            self.fail(work, error)
        except Exception as error:  # noqa: BLE001 - one request must not end the others
            self.fail(work, _fault(work, error))
        return None

    def _fail_the_stuck(self) -> None:
        """Something waits, and nothing can be done: an invariant broke. Without this the thread
        would spin for ever."""
        for sequence in [*self._scheduler.running, *self._scheduler.waiting]:
            work = self.works[sequence.request]
            if not work.over:
                self.fail(work, EngineFault(f"request {work.name!r} can never be computed"))

    def _pixels(self, sequence: Sequence) -> Mapping[int, Tensor]:
        return self.works[sequence.request].pixels()

    def _works_of(self, chunks: Iterable[Chunk]) -> list[Work]:
        return [self.works[name] for name in {chunk.sequence.request for chunk in chunks}]


def _choose(result: Result, choices: list[Choice]) -> Iterable[tuple[int, Likelihood | None]]:
    assert result.logits is not None
    lines = [choice.line for choice in choices]
    whole = lines == list(range(len(result.logits)))
    logits = result.logits if whole else result.logits[lines]
    tokens = choose(logits, [choice.row for choice in choices])
    told: list[Likelihood | None] = [None] * len(tokens)
    wanted = [
        place
        for place, choice in enumerate(choices)
        if choice.alternatives is not None and tokens[place] >= 0
    ]
    if wanted:
        counts = [choices[place].alternatives or 0 for place in wanted]
        found = likelihoods(logits[wanted], [tokens[place] for place in wanted], counts)
        for place, likelihood in zip(wanted, found, strict=True):
            told[place] = likelihood
    return zip(tokens, told, strict=True)


def _fault(work: Work, error: Exception) -> EngineFault:
    fault = EngineFault(f"the engine broke on request {work.name!r}: {error!r}")
    fault.__cause__ = error
    return fault
