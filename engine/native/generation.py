"""A request that writes answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from capyra.engine.errors import EngineFault
from capyra.engine.native.answer import Answer
from capyra.engine.native.executor import Output
from capyra.engine.native.outlet import Outlet
from capyra.engine.native.prefix import Span
from capyra.engine.native.sampler import IMPOSSIBLE, likelihoods
from capyra.engine.native.scheduler import Scheduler
from capyra.engine.native.sequence import Sequence as Tokens
from capyra.engine.native.words import Words
from capyra.engine.native.work import Choice, Chosen, Work
from capyra.engine.types import Delta, Done, GenerateRequest, Started, TokenLogprob, Usage


@dataclass(frozen=True, slots=True)
class Read:
    """A prompt, ready to be computed."""

    tokens: Sequence[int]
    spans: tuple[Span, ...] = ()
    images: Mapping[int, Tensor] | None = None
    """Preprocessed pixels by the position where each image begins."""
    text: str = ""


class Generation(Work):
    """First the prompt, then all answers side by side."""

    def __init__(
        self,
        request: GenerateRequest,
        prompt: Read,
        answers: Sequence[Answer],
        outlet: Outlet,
        clock: Callable[[], float],
        *,
        words: Words,
        root: Callable[[int], bytes],
        deadline: float | None,
        preamble: str = "",
    ) -> None:
        super().__init__(request.id, outlet, clock, deadline=deadline)
        self._request = request
        self._prompt = prompt
        self._answers = answers
        self._words = words
        self._root = root
        self._preamble = preamble
        self._rows: dict[int, Tokens] = {}
        """The sequence of each answer."""
        self._prompt_logprobs: dict[int, TokenLogprob] = {}
        self._started_at: float | None = None

    @property
    def started(self) -> bool:
        return self._started_at is not None

    @property
    def prompt_tokens(self) -> int:
        return len(self._prompt.tokens)

    @property
    def cached_tokens(self) -> int:
        return self._rows[0].cached if self._rows else 0

    @property
    def completion_tokens(self) -> int:
        return sum(answer.written for answer in self._answers)

    def sequences(self) -> list[Tokens]:
        return list(self._rows.values())

    def pixels(self) -> Mapping[int, Tensor]:
        return self._prompt.images or {}

    def begin(self, scheduler: Scheduler) -> None:
        request = self._request
        self._rows[0] = Tokens(
            request=request.id,
            root=self._root(self.prompt_tokens),
            tokens=list(self._prompt.tokens),
            tenant=request.cache_salt,
            priority=request.priority,
            spans=self._prompt.spans,
            logits_from=None if request.prompt_logprobs is None else 0,
        )
        scheduler.add(self._rows[0])

    def take(self, output: Output, scheduler: Scheduler) -> list[Choice]:
        chunk = output.chunk
        if not self.started:
            self._read_logprobs(output)
        if chunk.end < len(chunk.sequence.tokens):
            return []
        if self.started:
            return self._choices([self._answers[chunk.sequence.index]], output.line)
        self._start(scheduler)
        return self._choices([one for one in self._answers if not one.finished], output.line)

    def chosen(self, chosen: Chosen, scheduler: Scheduler) -> None:
        if chosen.token == IMPOSSIBLE:
            raise EngineFault(f"the model gave no usable probabilities to request {self.name!r}")
        answer = self._answers[chosen.answer]
        sequence = self._rows[chosen.answer]
        self.outlet.put(answer.write(chosen.token, chosen.likelihood))
        if answer.finished:
            scheduler.finish(sequence)
            self._end_if_all_are()
            return
        sequence.tokens.append(chosen.token)
        root = self._root(len(sequence.tokens))
        if root != sequence.root:
            scheduler.restart(sequence, root)

    def cancel(self) -> None:
        for answer in self._answers:
            if not answer.finished:
                self.outlet.put(answer.finish("cancelled"))
        self._end_if_all_are()

    def _start(self, scheduler: Scheduler) -> None:
        first = self._rows[0]
        self._started_at = self.clock()
        first.logits_from = None
        told = None
        if self._request.prompt_logprobs is not None:
            places = range(self.prompt_tokens)
            told = tuple(self._prompt_logprobs.get(place) for place in places)
            self._prompt_logprobs.clear()
        self.outlet.put([Started(self.prompt_tokens, first.cached, told)])
        for answer in self._answers:
            if self._preamble:
                self.outlet.put([Delta(answer.index, self._preamble)])
            if answer.full:
                self.outlet.put(answer.finish("length"))
            elif answer.index:
                self._rows[answer.index] = scheduler.fork(first, answer.index)
        if self._answers[0].finished:
            scheduler.finish(first)
        self._end_if_all_are()

    def _choices(self, answers: Sequence[Answer], line: int) -> list[Choice]:
        count = self._request.logprobs
        return [Choice(answer.index, answer.prepare(), line, count) for answer in answers]

    def _read_logprobs(self, output: Output) -> None:
        """Each row of logits says how likely the token after it was."""
        count = self._request.prompt_logprobs
        if count is None or output.logits is None:
            return
        following = self._prompt.tokens[output.first + 1 : output.chunk.end + 1]
        if following:
            lines = output.logits[: len(following)]
            found = likelihoods(lines, following, [count] * len(following))
            for place, likelihood in enumerate(found, start=output.first + 1):
                self._prompt_logprobs[place] = self._words.logprob(likelihood)

    def _end_if_all_are(self) -> None:
        if self.over or not all(answer.finished for answer in self._answers):
            return
        self.over = True
        now = self.clock()
        admitted = now if self.admitted_at is None else self.admitted_at
        started = now if self._started_at is None else self._started_at
        timing = {
            "queue": admitted - self.submitted_at,
            "prefill": started - admitted,
            "decode": now - started,
        }
        usage = Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens, timing)
        self.outlet.put([Done(usage)])
        self.outlet.finish()
