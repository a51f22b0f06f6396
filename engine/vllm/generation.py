"""A request that writes answers."""

from __future__ import annotations

from collections.abc import Sequence

from capyra.engine.errors import EngineFault, InvalidValue
from capyra.engine.types import (
    Delta,
    Done,
    GenerateRequest,
    OutputFormat,
    Started,
    TokenLogprob,
    Usage,
)
from capyra.engine.vllm import sampling
from capyra.engine.vllm.answer import Answer
from capyra.engine.vllm.calls import Call, Piece
from capyra.engine.vllm.language import Language
from capyra.engine.vllm.work import Work


class Generation(Work):
    """Each answer is a call of its own: its prompt is found in the prefix cache, and its seed and
    its end are ours."""

    def __init__(
        self,
        request: GenerateRequest,
        prompt: Sequence[int],
        language: Language,
        *,
        limit: int,
        shape: OutputFormat,
        preamble: str = "",
    ) -> None:
        super().__init__(request.id, len(prompt))
        self._request = request
        self._prompt = tuple(prompt)
        self._language = language
        self._limit = limit
        self._shape = shape
        self._preamble = preamble
        ends = () if request.limits.ignore_eos and shape.kind == "text" else language.ends
        self._answers = [
            Answer(request, index, limit=limit, language=language, ends=ends)
            for index in range(request.n)
        ]
        self._early: list[Piece] = []
        """What other answers wrote before the first one's prompt was read."""
        self._started_at = 0.0

    @property
    def completion_tokens(self) -> int:
        return sum(answer.written for answer in self._answers)

    def calls(self) -> list[Call]:
        request = self._request
        return [
            Call(
                id=self._id(answer.index),
                tokens=self._prompt,
                salt=request.cache_salt,
                priority=-request.priority,
                sampling=sampling.answer(
                    request,
                    answer.index,
                    limit=self._limit,
                    ends=self._language.ends,
                    shape=self._shape,
                ),
            )
            for answer in self._answers
        ]

    def take(self, piece: Piece) -> None:
        if piece.finished == "error":
            self._give_up()
            return
        index = int(piece.call.rpartition("/")[2])
        if not self.started:
            if index:
                self._early.append(piece)
                return
            self._start(piece)
            for each in (piece, *self._early):
                self._write(each)
            self._early.clear()
        else:
            self._write(piece)
        self._end_if_all_are()

    def cancel(self) -> None:
        for answer in self._answers:
            if not answer.finished:
                self.outlet.put(answer.finish("cancelled"))
        self._end_if_all_are()

    def _start(self, piece: Piece) -> None:
        self.started = True
        self._started_at = self.clock()
        self.cached_tokens = piece.cached
        self.outlet.put([Started(len(self._prompt), piece.cached, self._told(piece))])
        for answer in self._answers:
            if self._preamble:
                self.outlet.put([Delta(answer.index, self._preamble)])
            if answer.full:
                self.outlet.put(answer.finish("length"))
                self.ended.append(self._id(answer.index))

    def _told(self, piece: Piece) -> tuple[TokenLogprob | None, ...] | None:
        count = self._request.prompt_logprobs
        if count is None or piece.prompt_logprobs is None:
            return None
        return tuple(
            None if found is None else self._language.logprob(token, found, count)
            for token, found in zip(self._prompt, piece.prompt_logprobs, strict=True)
        )

    def _write(self, piece: Piece) -> None:
        answer = self._answers[int(piece.call.rpartition("/")[2])]
        self.outlet.put(answer.take(piece))
        if answer.finished and piece.finished is None:
            self.ended.append(piece.call)

    def _give_up(self) -> None:
        if self._shape.kind == "text":
            self.fail(EngineFault(f"vLLM gave request {self.name!r} up"))
        else:
            self.fail(InvalidValue("the format cannot be followed", param="response_format"))

    def _end_if_all_are(self) -> None:
        if self.over or not all(answer.finished for answer in self._answers):
            return
        now = self.clock()
        began = now if self.began_at is None else self.began_at
        started = self._started_at if self.started else now
        timing = {
            "queue": began - self.submitted_at,
            "prefill": max(0.0, started - began),
            "decode": now - started,
        }
        usage = Usage(len(self._prompt), self.completion_tokens, self.cached_tokens, timing)
        self.outlet.put([Done(usage)])
        self.end()

    def _id(self, index: int) -> str:
        return f"{self.name}/{index}"
