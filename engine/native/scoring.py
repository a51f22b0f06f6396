"""How likely continuations are after one prompt, which is computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from capyra.engine.native.executor import Output
from capyra.engine.native.generation import Read
from capyra.engine.native.outlet import Outlet
from capyra.engine.native.sampler import likelihoods
from capyra.engine.native.scheduler import Scheduler
from capyra.engine.native.sequence import Sequence as Tokens
from capyra.engine.native.work import Choice, Work
from capyra.engine.types import Score


class Scoring(Work):
    """The prompt's last token says how likely the first one of each continuation is; the rest
    of each is computed in a fork. Equal continuations are computed once, and score the same."""

    def __init__(
        self,
        name: str,
        prompt: Read,
        continuations: Sequence[tuple[int, ...]],
        outlet: Outlet,
        clock: Callable[[], float],
        *,
        root: Callable[[int], bytes],
        tenant: str,
        deadline: float | None = None,
    ) -> None:
        super().__init__(name, outlet, clock, deadline=deadline)
        self._prompt = prompt
        self._wanted = continuations
        self._different = list(dict.fromkeys(continuations))
        self._scores: list[dict[int, float]] = [{} for _ in self._different]
        """For each continuation the log-probability of each of its tokens, by place."""
        self._root = root
        self._tenant = tenant
        self._trunk: Tokens | None = None
        self._forks: list[Tokens] = []

    @property
    def prompt_tokens(self) -> int:
        return len(self._prompt.tokens)

    def sequences(self) -> list[Tokens]:
        return [*self._forks, *([self._trunk] if self._trunk else [])]

    def pixels(self) -> Mapping[int, Tensor]:
        return self._prompt.images or {}

    def begin(self, scheduler: Scheduler) -> None:
        self._trunk = Tokens(
            request=self.name,
            root=self._root(self.prompt_tokens),
            tokens=list(self._prompt.tokens),
            tenant=self._tenant,
            spans=self._prompt.spans,
        )
        scheduler.add(self._trunk)

    def take(self, output: Output, scheduler: Scheduler) -> list[Choice]:
        sequence = output.chunk.sequence
        complete = output.chunk.end == len(sequence.tokens)
        if sequence is not self._trunk:
            self._read(output)
        elif complete:
            self._branch(output, scheduler)
        if complete:
            scheduler.finish(sequence)
        self._end_if_complete()
        return []

    def _branch(self, output: Output, scheduler: Scheduler) -> None:
        assert output.logits is not None
        assert self._trunk is not None
        for index, tokens in enumerate(self._different):
            if tokens:
                found = likelihoods(output.logits[-1:], tokens[:1], [0])
                self._scores[index][0] = found[0].logprob
            if len(tokens) > 1:
                fork = scheduler.fork(self._trunk, index)
                fork.tokens.extend(tokens[:-1])
                fork.logits_from, fork.chooses = self.prompt_tokens, False
                root = self._root(len(fork.tokens))
                if root != fork.root:
                    scheduler.restart(fork, root)
                self._forks.append(fork)

    def _read(self, output: Output) -> None:
        if output.logits is None:
            return
        index = output.chunk.sequence.index
        begin = output.first + 1 - self.prompt_tokens
        following = self._different[index][begin : begin + len(output.logits)]
        found = likelihoods(output.logits, following, [0] * len(following))
        for place, likelihood in enumerate(found, start=begin):
            self._scores[index][place] = likelihood.logprob

    def _end_if_complete(self) -> None:
        pairs = zip(self._different, self._scores, strict=True)
        if self.over or any(len(tokens) != len(scores) for tokens, scores in pairs):
            return
        self.over = True
        scores = {
            tokens: tuple(found[place] for place in range(len(tokens)))
            for tokens, found in zip(self._different, self._scores, strict=True)
        }
        self.outlet.put([[Score(sum(scores[one]), scores[one]) for one in self._wanted]])
        self.outlet.finish()
