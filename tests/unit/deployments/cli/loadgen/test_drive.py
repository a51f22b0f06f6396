"""Loads on a server that says what it is told to."""

from __future__ import annotations

import asyncio
import threading

import pytest

from capyra.deployments.cli.loadgen.drive import Driver, Outcome
from capyra.deployments.cli.loadgen.figures import figures
from capyra.deployments.cli.loadgen.plan import Plan
from capyra.deployments.cli.loadgen.stub import answer
from capyra.deployments.cli.loadgen.wire import Target
from capyra.deployments.errors import Unreachable
from capyra.engine.errors import CapyraError, UnknownExpert
from scripted_server import Reply, Server, as_json, ending, error, piece


def talk(path: str, body: dict[str, object]) -> Reply:
    words = str(body["messages"]).count(" ") + 1
    return Reply(chunks=[piece("a"), piece("b"), *ending(2 * words + 5, 2)])


async def load(server: Server, plan: Plan) -> Outcome:
    driver = Driver(Target.of(server.url, "k"), plan)
    try:
        await driver.prepare()
        return await driver.run()
    finally:
        driver.close()


async def test_clients_ask_until_the_number_is_reached(server: Server) -> None:
    server.answer = talk
    outcome = await load(server, Plan(model="m", requests=20, concurrency=4, warmup=2))
    assert sorted(shot.index for shot in outcome.shots) == list(range(20))
    assert all(shot.ok and shot.tokens == 2 for shot in outcome.shots)
    assert len(server.asked) == 2 + 2 + 20
    assert server.asked[0][2]["authorization"] == "Bearer k"


async def test_prompts_have_the_wanted_length_in_the_servers_tokens(server: Server) -> None:
    server.answer = talk
    outcome = await load(server, Plan(model="m", requests=3, prompt_tokens=205))
    assert outcome.words.measured
    assert all(abs((shot.prompt_tokens or 0) - 205) <= 2 for shot in outcome.shots)


async def test_a_rate_sends_without_waiting_for_answers(server: Server) -> None:
    together = threading.Barrier(8, timeout=10)

    def meet(path: str, body: dict[str, object]) -> Reply:
        if "x" in str(body["messages"]):
            together.wait()
        return talk(path, body)

    server.answer = meet
    plan = Plan(model="m", requests=8, rate=1e6, prompts=("x",), warmup=0)
    outcome = await load(server, plan)
    assert sum(shot.ok for shot in outcome.shots) == 8


async def test_waiting_for_room_counts_as_latency(server: Server) -> None:
    server.answer = talk
    plan = Plan(model="m", requests=30, rate=1e6, most_in_flight=1, prompts=("x",), warmup=0)
    outcome = await load(server, plan)
    told = figures(outcome)
    assert told["ttft_ms"]["max"] > told["sent_late_ms"]["max"] > told["sent_late_ms"]["p50"] > 0
    last = max(outcome.shots, key=lambda shot: shot.index)
    assert last.sent > sorted(shot.ended for shot in outcome.shots)[-2]


async def test_a_duration_ends_the_asking_and_finishes_what_was_begun(server: Server) -> None:
    server.answer = talk
    outcome = await load(server, Plan(model="m", requests=None, seconds=0.3, concurrency=3))
    assert outcome.shots
    assert all(shot.ok for shot in outcome.shots)
    assert all(shot.intended - outcome.start < 0.3 for shot in outcome.shots)


async def test_failures_in_the_middle_are_results(server: Server) -> None:
    replies = iter(
        [
            Reply(chunks=ending(1, 1)),
            error(429, "queue_full", "Full."),
            Reply(chunks=[piece("a")], cut=True),
            Reply(chunks=[piece("a")]),
            talk("", {"messages": "x"}),
        ]
    )
    server.answer = lambda *_: next(replies)
    outcome = await load(server, Plan(model="m", requests=4, prompts=("x",), warmup=1))
    assert [shot.failure for shot in outcome.shots] == [
        "429 queue_full",
        "cut",
        "stream without end",
        None,
    ]


async def test_a_load_that_nobody_would_serve_is_refused_at_once(server: Server) -> None:
    server.answer = lambda *_: error(404, "model_not_found", "There is no model.")
    with pytest.raises(UnknownExpert, match="There is no model"):
        await load(server, Plan(model="m"))
    server.answer = lambda *_: as_json({}, 500)
    with pytest.raises(CapyraError, match="500"):
        await load(server, Plan(model="m", prompts=("x",)))


async def test_nobody_there() -> None:
    driver = Driver(Target.of("http://127.0.0.1:1"), Plan(model="m"))
    with pytest.raises(Unreachable, match="port 1"):
        await driver.prepare()


async def test_interrupted_it_tells_what_it_has(server: Server) -> None:
    enough = asyncio.Event()
    server.answer = talk
    plan = Plan(model="m", requests=None, seconds=60, concurrency=2, prompts=("x",))
    driver = Driver(Target.of(server.url), plan, watch=lambda _: enough.set())
    task = asyncio.create_task(driver.run())
    await enough.wait()
    task.cancel()
    outcome = await task
    assert outcome.interrupted
    assert outcome.shots
    assert len(asyncio.all_tasks()) == 1


def test_the_stubs_answers_are_what_they_claim() -> None:
    stream, whole = answer(3)
    assert stream.count(b'"content": " so"') == 3
    head, _, body = whole.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
