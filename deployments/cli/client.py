"""A client of the server's HTTP: what was sent back as small events, what failed as our errors."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from capyra.deployments.cli.sse import Comment, Data, SseParser
from capyra.deployments.errors import Unreachable
from capyra.engine.errors import (
    BY_CODE,
    CapacityError,
    CapyraError,
    DeadlineExceeded,
    Failure,
    InvalidValue,
    Unauthenticated,
)

CONNECT_S = 5.0
ANSWER_S = 15.0
SILENCE_S = 600.0
"""The longest silence inside an answer. Our own server breaks silence itself; others load."""

PROGRESS = "capyra "


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer; or of the thinking before it."""

    text: str
    thinking: bool = False


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a tool call."""

    call: int
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The server is there, the answer is not; with how far the expert's load is, if it told."""

    stage: str = ""
    fraction: float | None = None
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of the answer, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What the server counted."""

    usage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> int:
        return int(self.usage.get("prompt_tokens") or 0)

    @property
    def completion(self) -> int:
        return int(self.usage.get("completion_tokens") or 0)

    @property
    def cached(self) -> int:
        return int((self.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)


ChatEvent = Text | CallPiece | Waiting | Ended | Counted


class Client:
    """One server. `transport` is the seam for tests."""

    def __init__(
        self, server: str, key: str | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.server = server
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(
            base_url=server,
            headers=headers,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            transport=transport,
            # Certificates take longer to read than most answers to make.
            verify=server.startswith("https:"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """What `GET /v1/models` lists."""
        found = self.get("/v1/models").get("data")
        if not isinstance(found, list) or not all(isinstance(card, dict) for card in found):
            raise CapyraError(f"{self.server} does not list models as OpenAI's API does")
        return found

    def chat(self, body: Mapping[str, Any]) -> Generator[ChatEvent, None, None]:
        """The answer as it is made. Closing the iterator drops the connection, which ends the
        work on the server."""
        sent = {**body, "stream": True, "stream_options": {"include_usage": True}}
        request = self._http.build_request(
            "POST",
            "/v1/chat/completions",
            json=sent,
            headers={"x-capyra-progress": "1"},
            timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
        )
        with _mapped(self.server):
            answer = self._http.send(request, stream=True)
            try:
                if answer.is_error:
                    answer.read()
                    raise refusal(answer.status_code, answer.text, answer.headers)
                yield from self._events(answer)
            finally:
                answer.close()

    def get(self, path: str) -> dict[str, Any]:
        """What a route tells."""
        return self._call("GET", path)

    def lines(self, path: str) -> str:
        """What a route tells in lines."""
        with _mapped(self.server):
            answer = self._http.get(path)
            if answer.is_error:
                raise refusal(answer.status_code, answer.text, answer.headers)
            return answer.text

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a route answers to an operator's word; it may have to wait for a load."""
        patient = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        return self._call("POST", path, json=body or {}, timeout=patient)

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with _mapped(self.server):
            answer = self._http.request(method, path, **options)
            if answer.is_error:
                raise refusal(answer.status_code, answer.text, answer.headers)
            try:
                found = answer.json()
            except ValueError as error:
                raise CapyraError(f"{self.server}{path} answered no JSON") from error
            if not isinstance(found, dict):
                raise CapyraError(f"{self.server}{path} answered no JSON object")
            return found

    def _events(self, answer: httpx.Response) -> Iterator[ChatEvent]:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            raise CapyraError(f"{self.server} answered with something that is no event stream")
        parser = SseParser()
        for chunk in answer.iter_bytes():
            for event in parser.feed(chunk):
                if isinstance(event, Comment):
                    yield _waiting(event.text)
                elif event.text == "[DONE]":
                    return
                else:
                    yield from _pieces(event)
        raise CapacityError("the connection ended in the middle of the answer")


def refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> CapyraError:
    """The error that an HTTP answer tells: ours, OpenAI's, or whatever a proxy wrote."""
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    told = body.get("error") if isinstance(body, dict) else None
    if isinstance(told, dict) and told.get("message"):
        return _told(told, (headers or {}).get("retry-after"))
    if status == 401:
        return Unauthenticated("the server wants a key: set CAPYRA_API_KEY")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    what = lines[0][:200] if lines else "nothing else"
    return CapyraError(f"the server answered {status}: {what}")


def _told(error: Mapping[str, Any], retry_after: str | None = None) -> CapyraError:
    message = str(error["message"]).rstrip(".")
    code = str(error.get("code") or error.get("type") or "")
    param = error.get("param")
    later = float(retry_after) if retry_after and retry_after.isdecimal() else None
    if code not in BY_CODE:
        # Other servers have other codes; those that the caller can mend have this type.
        code = "invalid_request" if "invalid" in str(error.get("type")) else code
    return Failure(code, message, param if isinstance(param, str) else None, later).error()


def _waiting(comment: str) -> Waiting:
    if not comment.startswith(PROGRESS):
        return Waiting()
    try:
        facts = json.loads(comment.removeprefix(PROGRESS))
        return Waiting(str(facts["stage"]), float(facts["fraction"]), facts.get("eta_s"))
    except (ValueError, TypeError, KeyError):
        return Waiting()


def _pieces(event: Data) -> Iterator[ChatEvent]:
    try:
        chunk = json.loads(event.text)
    except ValueError as error:
        raise CapyraError("the server sent an event that is no JSON") from error
    if not isinstance(chunk, dict):
        raise CapyraError("the server sent an event that is no JSON object")
    if isinstance(told := chunk.get("error"), dict):
        raise _told({"message": "the answer failed on the server", **told})
    for choice in chunk.get("choices") or []:
        delta = choice.get("delta") or {}
        thinking = delta.get("reasoning_content") or delta.get("reasoning")
        if thinking:
            yield Text(thinking, thinking=True)
        if content := delta.get("content"):
            yield Text(content)
        for call in delta.get("tool_calls") or []:
            function = call.get("function") or {}
            name, arguments = function.get("name") or "", function.get("arguments") or ""
            yield CallPiece(int(call.get("index") or 0), name, arguments)
        if reason := choice.get("finish_reason"):
            yield Ended(reason)
    if usage := chunk.get("usage"):
        yield Counted(usage)


@contextmanager
def _mapped(server: str) -> Iterator[None]:
    """httpx's errors as ours."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Unreachable(
            f"nothing answers at {server}: `capyra serve` starts a server here, --server or "
            "CAPYRA_SERVER names another"
        ) from error
    except httpx.TimeoutException as error:
        raise DeadlineExceeded(f"{server} stayed silent for too long") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise InvalidValue(f"{server!r} is no address: {error}") from error
    except httpx.HTTPError as error:
        raise CapacityError(
            f"the connection to {server} broke ({str(error) or type(error).__name__})"
        ) from error
