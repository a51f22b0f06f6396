"""Experts behind Serve handles: retries, errors, views. The handles are fakes in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError

from capyra.deployments.cluster import ServeExperts
from capyra.deployments.experts import Call, ReplicaView
from capyra.deployments.reports import ExpertReport, Snapshot
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import CapyraError, ExpertLost, Failure, InvalidValue
from capyra.engine.types import (
    Accepted,
    Delta,
    Done,
    EngineStats,
    Failed,
    GenerateRequest,
    Rendered,
    StreamItem,
    TextPrompt,
    Usage,
)

ACCEPTED = Accepted("alpha", "r1", ready=True, waiting=0)
ANSWER = [Delta(0, "Hi"), Done(Usage(1, 1))]
REQUEST = GenerateRequest(id="1", prompt=TextPrompt("Hi"))
LOST = Failed(Failure("expert_lost", "closing"))

Script = Sequence[Sequence[StreamItem] | Exception]


class Response:
    """What a handle's call returns: batches, and perhaps an exception among them."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.cancelled = False

    async def __aiter__(self) -> AsyncIterator[Sequence[StreamItem]]:
        for step in self._script:
            if isinstance(step, Exception):
                raise step
            yield step

    def cancel(self) -> None:
        self.cancelled = True


class Answering:
    """A method's answer to a call that is no stream."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> object:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value

    def cancel(self) -> None: ...


class Method:
    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


class Handle:
    """A handle whose calls follow scripts, one after the other."""

    def __init__(self, *scripts: Script, answer: object = None) -> None:
        self._scripts = list(scripts)
        self._answer = answer
        self.responses: list[Response] = []
        self.ids: list[str] = []
        self.generate = Method(self._generate)
        self.render = Method(lambda *_: Answering(self._answer))

    def options(self, *, stream: bool) -> Handle:
        assert stream
        return self

    def _generate(self, request: GenerateRequest, _: Call) -> Response:
        self.ids.append(request.id)
        self.responses.append(Response(self._scripts.pop(0)))
        return self.responses[-1]


def experts(handle: Handle) -> ServeExperts:
    made = ServeExperts(lambda _: handle, control=Handle())
    made.configure({"alpha": ExpertConfig(engine="echo")})
    return made


def generate(handle: Handle, expert: str = "alpha") -> AsyncGenerator[Sequence[StreamItem]]:
    return experts(handle).generate(expert, REQUEST, Call())


async def items(handle: Handle) -> list[StreamItem]:
    return [item async for batch in generate(handle) for item in batch]


async def error(handle: Handle) -> CapyraError:
    with pytest.raises(CapyraError) as raised:
        await items(handle)
    return raised.value


async def test_an_answer_passes_through() -> None:
    handle = Handle([[ACCEPTED], ANSWER])
    assert await items(handle) == [ACCEPTED, *ANSWER]
    assert not handle.responses[0].cancelled, "it ended by itself"


@pytest.mark.parametrize("loss", [ActorDiedError(), [LOST]], ids=["died", "closing"])
@pytest.mark.parametrize("begun", [[], [[ACCEPTED]]], ids=["unaccepted", "accepted"])
async def test_a_lost_replica_is_replaced_while_nothing_was_said(loss: Any, begun: Any) -> None:
    handle = Handle([*begun, loss], [[ACCEPTED], ANSWER])
    assert await items(handle) == [ACCEPTED, *ANSWER]


async def test_once_tokens_were_said_a_loss_is_told() -> None:
    handle = Handle([[ACCEPTED], [ANSWER[0]], ActorDiedError()], [[ACCEPTED], ANSWER])
    lost = await error(handle)
    assert lost.code == "expert_lost"
    assert lost.retry_after_s
    assert len(handle.responses) == 1


async def test_tries_end() -> None:
    handle = Handle(*([ActorDiedError()] for _ in range(9)))
    assert (await error(handle)).code == "expert_lost"
    assert len(handle.responses) == 3
    assert len(set(handle.ids)) == 3, "the one before may still be under way somewhere"
    assert handle.ids[0] == REQUEST.id


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), "queue_full"),
        (RayTaskError("f", "trace", ValueError("secret")), "engine_fault"),
    ],
)
async def test_foreign_errors_are_mapped_without_their_words(raised: Any, code: str) -> None:
    found = await error(Handle([raised]))
    assert found.code == code
    assert "secret" not in found.message


async def test_closing_cancels_the_call() -> None:
    handle = Handle([[ACCEPTED], [ANSWER[0]], ANSWER])
    async with aclosing(generate(handle)) as batches:
        await anext(batches)
        await anext(batches)
    assert handle.responses[0].cancelled


async def test_an_unknown_expert() -> None:
    with pytest.raises(CapyraError) as raised:
        await anext(generate(Handle(), "nobody"))
    assert raised.value.code == "model_not_found"


async def test_a_failure_that_came_as_a_value_is_raised() -> None:
    refusal = Failure.of(InvalidValue("no such token", param="tokens"))
    with pytest.raises(InvalidValue, match="no such token"):
        await experts(Handle(answer=refusal)).render("alpha", TextPrompt("x"))


async def test_a_question_that_changes_nothing_is_asked_again() -> None:
    rendered = Rendered((1,), "x")

    class Asked(Handle):
        def __init__(self, *answers: object) -> None:
            super().__init__()
            self.answers = list(answers)
            self.render = Method(lambda *_: Answering(self.answers.pop(0)))

    lost = Failure("expert_lost", "closing")
    handle = Asked(ActorDiedError(), lost, rendered)
    assert await experts(handle).render("alpha", TextPrompt("x")) == rendered
    with pytest.raises(ExpertLost):
        await experts(Asked(*[lost] * 9)).render("alpha", TextPrompt("x"))


async def test_views_join_settings_and_snapshot() -> None:
    view = ReplicaView("r1", "n1", 7, "ready", EngineStats(loaded=True))
    newest = Snapshot(3, {"alpha": ExpertReport(1, (view,)), "gone": ExpertReport(1)})

    class Control:
        """Tells one snapshot, then nothing more."""

        def __init__(self) -> None:
            self.snapshot = Method(self._snapshot)

        def _snapshot(self, seen: int) -> Answering:
            return Answering(newest if seen != 3 else ActorDiedError())

    made = ServeExperts(lambda _: Handle(), control=Control())
    made.configure({"alpha": ExpertConfig(engine="echo"), "beta": ExpertConfig(engine="echo")})
    assert made.views()["alpha"].state == "unknown"
    await made.watch_once()
    assert set(made.views()) == {"alpha", "beta"}
    assert made.views()["alpha"].state == "ready"
    assert made.views()["beta"].state == "unknown"


@pytest.mark.parametrize("error", [ActorDiedError(), RuntimeError("a channel closed")])
async def test_watching_goes_on_whatever_control_does(error: Exception) -> None:
    asked = asyncio.Event()

    class Control:
        """Breaks."""

        def __init__(self) -> None:
            self.snapshot = Method(self._snapshot)

        def _snapshot(self, _: int) -> Answering:
            asked.set()
            return Answering(error)

    made = ServeExperts(lambda _: Handle(), control=Control())
    watching = asyncio.create_task(made.keep_watching())
    await asked.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not watching.done()
    watching.cancel()
    await asyncio.wait([watching])


async def test_a_request_that_waits_for_a_stopped_expert_is_told() -> None:
    class Never(Response):
        """No replica will ever take it."""

        async def __aiter__(self) -> AsyncIterator[Sequence[StreamItem]]:
            await asyncio.Event().wait()
            yield []

    class Waiting(Handle):
        def _generate(self, *_: object) -> Response:
            self.responses.append(Never([]))
            return self.responses[-1]

    class Control:
        def __init__(self) -> None:
            news = Snapshot(1, {"alpha": ExpertReport(0)})
            self.snapshot = Method(lambda _: Answering(news))

    handle = Waiting()
    made = ServeExperts(lambda _: handle, control=Control())
    made.configure({"alpha": ExpertConfig(engine="echo")})
    answer = made.generate("alpha", REQUEST, Call())
    waiting = asyncio.ensure_future(anext(answer))
    await asyncio.wait({waiting}, timeout=0.01)
    await made.watch_once()
    with pytest.raises(CapyraError) as raised:
        await waiting
    assert raised.value.code == "expert_stopped"
    assert handle.responses[0].cancelled
