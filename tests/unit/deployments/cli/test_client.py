"""What the server says, as events and errors."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from capyra.deployments.cli.client import (
    CallPiece,
    ChatEvent,
    Client,
    Counted,
    Ended,
    Text,
    Waiting,
)
from capyra.deployments.errors import Unreachable
from capyra.engine.errors import (
    CapacityError,
    CapyraError,
    DeadlineExceeded,
    ExpertLost,
    InvalidValue,
    QueueFull,
    RequestError,
    Unauthenticated,
    UnknownExpert,
)
from scripted_server import Reply, Server, as_json, ending, error, event, piece

BODY = {"model": "echo", "messages": []}


def ask(server: Server, reply: Reply) -> list[ChatEvent]:
    server.answer = lambda *_: reply
    with Client(server.url) as client:
        return list(client.chat(BODY))


def test_an_answer_comes_in_its_pieces(server: Server) -> None:
    calls = {"index": 1, "function": {"name": "add", "arguments": "{"}}
    said = [
        b": waiting\n\n",
        b': capyra {"stage": "weights", "fraction": 0.5, "eta_s": 2}\n\n',
        event({"choices": [{"delta": {"role": "assistant", "reasoning_content": "hm"}}]}),
        piece("Hel"),
        piece("lo"),
        event({"choices": [{"delta": {"tool_calls": [calls]}}]}),
        *ending(3, 2),
    ]
    found = ask(server, Reply(chunks=said))
    assert found[:-1] == [
        Waiting(),
        Waiting("weights", 0.5, 2),
        Text("hm", thinking=True),
        Text("Hel"),
        Text("lo"),
        CallPiece(1, "add", "{"),
        Ended("stop"),
    ]
    assert isinstance(found[-1], Counted)
    assert (found[-1].prompt, found[-1].completion, found[-1].cached) == (3, 2, 0)


def test_progress_and_usage_are_asked_for_and_the_key_is_sent(server: Server) -> None:
    server.answer = lambda *_: Reply(chunks=ending(1, 1))
    with Client(server.url, "secret") as client:
        list(client.chat(BODY))
    path, body, headers = server.asked[0]
    assert path == "/v1/chat/completions"
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert headers["x-capyra-progress"] == "1"
    assert headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (error(404, "model_not_found", "No x."), UnknownExpert, "No x"),
        (error(429, "queue_full", "Full.", retry_after="3"), QueueFull, "Full"),
        (error(400, "somebody_elses", "Odd."), CapyraError, "Odd"),
        (
            as_json({"error": {"message": "m", "type": "invalid_request_error"}}, 400),
            RequestError,
            "m",
        ),
        (as_json("what", 401), Unauthenticated, "CAPYRA_API_KEY"),
        (Reply(502, [b"<html>\nbad gateway"], "text/html"), CapyraError, "502: <html>"),
        (as_json({"error": "text"}, 500), CapyraError, "500"),
    ],
)
def test_refusals(server: Server, reply: Reply, kind: type[CapyraError], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        ask(server, reply)
    assert raised.value.retry_after_s == (3 if kind is QueueFull else None)


def test_an_error_in_the_stream_keeps_its_class_after_the_text(server: Server) -> None:
    lost = event({"error": {"message": "The replica is gone.", "code": "expert_lost"}})
    server.answer = lambda *_: Reply(chunks=[piece("Hal"), lost])
    with Client(server.url) as client:
        events = client.chat(BODY)
        assert next(events) == Text("Hal")
        with pytest.raises(ExpertLost, match="gone"):
            next(events)


@pytest.mark.parametrize("cut", [True, False])
def test_half_an_answer_is_no_answer(server: Server, cut: bool) -> None:
    with pytest.raises(CapacityError):
        ask(server, Reply(chunks=[piece("Hal")], cut=cut))


@pytest.mark.parametrize(
    "chunk", [b"data: {nonsense\n\n", b"data: [1]\n\n", event({"error": {"code": "cancelled"}})]
)
def test_nonsense_in_the_stream_is_an_error(server: Server, chunk: bytes) -> None:
    with pytest.raises(CapyraError):
        ask(server, Reply(chunks=[chunk, *ending(1, 1)]))


def test_what_is_no_stream_is_refused(server: Server) -> None:
    with pytest.raises(CapyraError, match="no event stream"):
        ask(server, as_json({"choices": []}))


@pytest.mark.parametrize("value", ["list", {"data": 3}, {"data": ["x"]}])
def test_what_lists_no_models_is_refused(server: Server, value: object) -> None:
    server.answer = lambda *_: as_json(value)
    with Client(server.url) as client, pytest.raises(CapyraError, match=server.url):
        client.models()


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (httpx.ConnectError("refused"), Unreachable),
        (httpx.ConnectTimeout("late"), Unreachable),
        (httpx.ReadTimeout("late"), DeadlineExceeded),
        (httpx.ReadError("reset"), CapacityError),
        (httpx.UnsupportedProtocol("gopher"), InvalidValue),
    ],
)
def test_errors_of_the_transport_are_ours(raised: Exception, kind: type[CapyraError]) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise raised

    client = Client("http://server", transport=httpx.MockTransport(fail))
    with pytest.raises(kind):
        client.models()
    with pytest.raises(kind):
        list(client.chat(BODY))


def test_leaving_early_drops_the_connection() -> None:
    class Body(httpx.SyncByteStream):
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            yield piece("one")
            raise AssertionError("read on after the client left")

        def close(self) -> None:
            self.closed = True

    body = Body()
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=body))
    events = Client("http://server", transport=transport).chat(BODY)
    assert next(events) == Text("one")
    events.close()
    assert body.closed
