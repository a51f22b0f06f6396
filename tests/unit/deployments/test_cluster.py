"""Experts behind Serve handles: retries, errors, views. The handles are fakes in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError

from capyra.deployments.cluster import ServeExperts
from capyra.deployments.experts import Call, ReplicaView
from capyra.deployments.reports import ExpertReport, Reply, Snapshot, Standing, Use, Wish
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import (
    CapyraError,
    DeadlineExceeded,
    ExpertLost,
    Failure,
    InvalidValue,
)
from capyra.engine.types import (
    Accepted,
    Delta,
    Done,
    EmbedRequest,
    EngineStats,
    Failed,
    GenerateRequest,
    Progress,
    Rendered,
    StreamItem,
    TextPrompt,
    Usage,
)
from capyra.orchestrator.residency.events import Unload

ACCEPTED = Accepted("alpha", "r1", ready=True, waiting=0)
ANSWER = [Delta(0, "Hi"), Done(Usage(1, 1))]
REQUEST = GenerateRequest(id="1", prompt=TextPrompt("Hi"))
LOST = Failed(Failure("expert_lost", "closing"))
NOT_READY = [Failed(Failure("not_ready", "parked"))]

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


VIEW = ReplicaView("r1", "n1", 7, "ready", EngineStats(loaded=True))
READY = ExpertReport(1, (VIEW,))
COLD = ExpertReport(0)


class Control:
    """Tells one snapshot, and gives each wish the next of its replies."""

    def __init__(self, *replies: object, told: ExpertReport = READY) -> None:
        self._replies = list(replies)
        self.wishes: list[Wish] = []
        self.left: list[str] = []
        self.uses: list[Use] = []
        self.heard = asyncio.Event()
        news = Snapshot(1, {"alpha": told})
        self.snapshot = Method(lambda _: Answering(news))
        self.wait = Method(self._wait)
        self.leave = Method(self.left.append)
        self.used = Method(self._used)

    def _wait(self, wish: Wish, _seen: Standing | None) -> Answering:
        self.wishes.append(wish)
        return Answering(self._replies.pop(0))

    def _used(self, uses: list[Use]) -> Answering:
        self.uses += uses
        self.heard.set()
        return Answering(None)


async def experts(handle: Handle, control: Control | None = None) -> ServeExperts:
    made = ServeExperts(lambda _: handle, control=control or Control())  # type: ignore[arg-type]
    made.configure({"alpha": ExpertConfig(engine="echo")})
    await made.watch_once()
    return made


async def generate(
    handle: Handle, expert: str = "alpha", control: Control | None = None
) -> AsyncGenerator[Sequence[StreamItem]]:
    made = await experts(handle, control)
    call = Call(keep_alive_s=7, shown_id="shown")
    async with aclosing(made.generate(expert, REQUEST, call)) as batches:
        async for batch in batches:
            yield batch


async def items(handle: Handle, control: Control | None = None) -> list[StreamItem]:
    return [item async for batch in generate(handle, control=control) for item in batch]


async def error(handle: Handle, control: Control | None = None) -> CapyraError:
    with pytest.raises(CapyraError) as raised:
        await items(handle, control)
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
        await (await experts(Handle(answer=refusal))).render("alpha", TextPrompt("x"))


async def test_a_question_that_changes_nothing_is_asked_again() -> None:
    rendered = Rendered((1,), "x")

    class Asked(Handle):
        def __init__(self, *answers: object) -> None:
            super().__init__()
            self.answers = list(answers)
            self.render = Method(lambda *_: Answering(self.answers.pop(0)))

    lost = Failure("expert_lost", "closing")
    handle = Asked(ActorDiedError(), lost, rendered)
    assert await (await experts(handle)).render("alpha", TextPrompt("x")) == rendered
    with pytest.raises(ExpertLost):
        await (await experts(Asked(*[lost] * 9))).render("alpha", TextPrompt("x"))


async def test_views_join_settings_and_snapshot() -> None:
    newest = Snapshot(3, {"alpha": ExpertReport(1, (VIEW,), held=1), "gone": ExpertReport(1)})
    control = Control()
    control.snapshot = Method(
        lambda seen: Answering(newest if seen != 3 else Snapshot(3)),
    )
    made = ServeExperts(lambda _: Handle(), control=control)  # type: ignore[arg-type]
    made.configure({"alpha": ExpertConfig(engine="echo"), "beta": ExpertConfig(engine="echo")})
    assert made.views()["alpha"].state == "unknown"
    await made.watch_once()
    await made.watch_once()
    assert set(made.views()) == {"alpha", "beta"}
    assert (made.views()["alpha"].state, made.views()["alpha"].held) == ("ready", 1)
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


class Never(Response):
    """No replica will ever take it."""

    async def __aiter__(self) -> AsyncIterator[Sequence[StreamItem]]:
        await asyncio.Event().wait()
        yield []


class Untaken(Handle):
    """Nobody takes its first call."""

    def _generate(self, request: GenerateRequest, call: Call) -> Response:
        if self.responses:
            return super()._generate(request, call)
        self.responses.append(Never([]))
        return self.responses[-1]


@pytest.mark.parametrize(
    ("told", "code"),
    [(ExpertReport(0, held=0), "expert_stopped"), (ExpertReport(1, failure="no"), "load_failed")],
)
async def test_a_request_that_nobody_takes_is_told_that_its_expert_is_gone(
    told: ExpertReport, code: str
) -> None:
    handle, control = Untaken(), Control()
    made = await experts(handle, control)
    answer = made.generate("alpha", REQUEST, Call())
    waiting = asyncio.ensure_future(anext(answer))
    await asyncio.wait({waiting}, timeout=0.01)
    control.snapshot = Method(lambda _: Answering(Snapshot(2, {"alpha": told})))
    await made.watch_once()
    with pytest.raises(CapyraError) as raised:
        await waiting
    assert raised.value.code == code
    assert handle.responses[0].cancelled


async def test_a_request_that_nobody_takes_is_asked_for_at_control() -> None:
    handle, control = Untaken([[ACCEPTED], ANSWER]), Control(Reply())
    made = await experts(handle, control)
    answer = made.generate("alpha", REQUEST, Call())
    waiting = asyncio.ensure_future(anext(answer))
    await asyncio.wait({waiting}, timeout=0.01)
    control.snapshot = Method(lambda _: Answering(Snapshot(2, {"alpha": COLD})))
    await made.watch_once()
    assert await waiting == [ACCEPTED]
    assert [wish.id for wish in control.wishes] == [REQUEST.id]
    await answer.aclose()


# --- experts that are not ready -----------------------------------------------------------------

LOADING = Standing(Progress("read", 0.5, 1.0), waiting=2)


async def test_a_cold_expert_is_waited_for() -> None:
    handle, control = Handle([[ACCEPTED], ANSWER]), Control(LOADING, Reply(), told=COLD)
    found = await items(handle, control)
    waits = Accepted("alpha", "", ready=False, waiting=2)
    assert found == [waits, LOADING.progress, *ANSWER]
    assert not control.left
    assert (control.wishes[0].keep_alive_s, control.wishes[0].shown_id) == (7, "shown")


async def test_a_replica_that_is_not_ready_sends_its_request_to_control() -> None:
    handle = Handle([NOT_READY], [[ACCEPTED], ANSWER])
    control = Control(LOADING, Reply())
    assert (await items(handle, control))[-2:] == ANSWER
    assert len(control.wishes) == 2


async def test_a_replica_that_is_never_ready_is_given_up_at_the_deadline() -> None:
    handle = Handle(*[[NOT_READY]] * 99)
    control = Control(*[Reply()] * 99)
    made = await experts(handle, control)
    with pytest.raises(DeadlineExceeded):
        async for _ in made.generate("alpha", replace(REQUEST, deadline_s=0.3), Call()):
            pass
    assert len(control.wishes) < 10, "with pauses"


async def test_what_control_refuses_is_refused() -> None:
    full = Reply(Failure("queue_full", "80 wait", retry_after_s=9))
    refused = await error(Handle(), Control(full, told=COLD))
    assert (refused.code, refused.retry_after_s) == ("queue_full", 9)


async def test_a_control_that_dies_is_asked_again() -> None:
    handle = Handle([[ACCEPTED], ANSWER])
    control = Control(LOADING, ActorDiedError(), LOADING, Reply(), told=COLD)
    assert (await items(handle, control))[-2:] == ANSWER
    assert len({wish.id for wish in control.wishes}) == 1


async def test_who_leaves_waits_no_longer() -> None:
    control = Control(LOADING, told=COLD)
    async with aclosing(generate(Handle(), control=control)) as batches:
        await anext(batches)
    assert control.left == [REQUEST.id]


async def test_embeddings_wait_too() -> None:
    class Embedding(Handle):
        """Is not ready at first."""

        def __init__(self) -> None:
            super().__init__()
            answers = [Failure("not_ready", "parked"), "vectors"]
            self.embed = Method(lambda *_: Answering(answers.pop(0)))

    control = Control(LOADING, Reply())
    made = await experts(Embedding(), control)
    asked = EmbedRequest(id="1", inputs=(TextPrompt("a"),))
    assert await made.embed("alpha", asked, Call()) == "vectors"  # type: ignore[comparison-overlap]


async def test_control_hears_who_was_used_without_it() -> None:
    handle = Handle(*[[[ACCEPTED], ANSWER]] * 3, [NOT_READY], [[ACCEPTED], ANSWER])
    control = Control(Reply())
    made = await experts(handle, control)
    for _ in range(4):
        async for _ in made.generate("alpha", REQUEST, Call(keep_alive_s=7)):
            pass
    telling = asyncio.create_task(made.keep_telling())
    async with asyncio.timeout(5):
        await control.heard.wait()
    telling.cancel()
    assert control.uses == [Use("alpha", 3, 7)]


# --- operators ----------------------------------------------------------------------------------


async def test_an_operators_word_reaches_control_and_its_refusal_comes_back() -> None:
    control = Control()
    refusals = [None, Failure("invalid_value", "it is pinned")]
    heard: list[object] = []

    def instruct(word: object) -> Answering:
        heard.append(word)
        return Answering(refusals.pop(0))

    control.instruct = Method(instruct)  # type: ignore[attr-defined]
    made = await experts(Handle(), control)
    await made.instruct(Unload("alpha"))
    with pytest.raises(InvalidValue, match="pinned"):
        await made.instruct(Unload("alpha"))
    assert heard == [Unload("alpha")] * 2


async def test_an_operator_hears_of_a_control_that_is_away_for_a_moment_only() -> None:
    control = Control()
    answers = [ActorDiedError(), ["because"]]
    control.why = Method(lambda _: Answering(answers.pop(0)))  # type: ignore[attr-defined]
    assert await (await experts(Handle(), control)).why("alpha") == ["because"]


async def test_a_load_by_hand_waits_and_tells_why_it_failed() -> None:
    full = Reply(Failure("load_failed", "no memory"))
    control = Control(LOADING, Reply(), LOADING, full)
    made = await experts(Handle(), control)
    await made.load("alpha", 10)
    with pytest.raises(CapyraError, match="no memory"):
        await made.load("alpha", 10)
