"""A server that says what a test tells it to, on a free loopback port."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """`chunks` are sent one by one; `cut` drops the connection after them."""

    status: int = 200
    chunks: list[bytes] = field(default_factory=list)
    kind: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def piece(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


def ending(prompt: int, completion: int, reason: str = "stop") -> list[bytes]:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return [
        event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}),
        event({"choices": [], "usage": usage}),
        b"data: [DONE]\n\n",
    ]


def as_json(value: object, status: int = 200, **headers: str) -> Reply:
    names = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, [json.dumps(value).encode()], "application/json", names)


def error(status: int, code: str, message: str, **headers: str) -> Reply:
    fields = {"message": message, "type": "t", "param": None, "code": code}
    return as_json({"error": fields}, status, **headers)


class Server:
    """`answer` makes the reply to a path and a body; `asked` are all requests so far."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.answer: Callable[[str, dict[str, Any]], Reply] = lambda *_: error(404, "x", "no")
        handler = type("Handler", (_Handler,), {"told": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    told: Server

    def do_GET(self) -> None:
        self._reply({})

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def log_message(self, *_: object) -> None: ...

    def handle_one_request(self) -> None:
        # A client that leaves is part of many tests.
        self.close_connection = True
        with suppress(ConnectionError):
            super().handle_one_request()

    def _reply(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.told.asked.append((self.path, body, headers))
        reply = self.told.answer(self.path, body)
        self.send_response(reply.status)
        self.send_header("content-type", reply.kind)
        self.send_header("transfer-encoding", "chunked")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for chunk in reply.chunks:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if reply.cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")
