"""Where errors become HTTP: the only place that knows statuses."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from capyra.engine.errors import CapyraError, RequestError


class UnknownRoute(RequestError):
    code = "unknown_route"


class WrongMethod(RequestError):
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class SlowBody(RequestError):
    code = "request_timeout"


class WrongMediaType(RequestError):
    code = "unsupported_media_type"


class ClientGone(Exception):
    """The client went away: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one code of the tree looks in HTTP."""

    status: int
    type: str
    retry_after_s: float | None = None
    """For errors of this kind that do not say themselves when to come back."""
    retry: bool | None = None
    """What official clients are told with `x-should-retry`; None leaves it to them."""


_INVALID = "invalid_request_error"
_SERVER = "server_error"

KINDS: dict[str, Kind] = {
    "invalid_request": Kind(400, _INVALID),
    "invalid_value": Kind(400, _INVALID),
    "unsupported": Kind(400, _INVALID),
    "context_length_exceeded": Kind(400, _INVALID),
    "invalid_api_key": Kind(401, "authentication_error"),
    "forbidden": Kind(403, "permission_error"),
    "model_not_found": Kind(404, _INVALID),
    "unknown_route": Kind(404, _INVALID),
    "method_not_allowed": Kind(405, _INVALID),
    "request_timeout": Kind(408, "timeout_error"),
    "too_large": Kind(413, _INVALID),
    "unsupported_media_type": Kind(415, _INVALID),
    "queue_full": Kind(429, "rate_limit_error", 1),
    "unavailable": Kind(503, _SERVER, 1),
    # Retrying by itself would only make the client hang until the operator acts.
    "expert_stopped": Kind(503, _SERVER, 30, retry=False),
    "load_failed": Kind(503, _SERVER, 10),
    "expert_lost": Kind(503, _SERVER, 1),
    # Seen here only if somebody else ended the answer: a client that left gets none.
    "cancelled": Kind(503, _SERVER, 1),
    # A second try would take as long again.
    "deadline_exceeded": Kind(504, "timeout_error", retry=False),
    "internal_error": Kind(500, _SERVER),
    "config_error": Kind(500, _SERVER),
    "model_error": Kind(500, _SERVER),
    "engine_fault": Kind(500, _SERVER),
}
INTERNAL = KINDS["internal_error"]


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error as HTTP knows it. Each API has its own shape for it."""

    status: int
    type: str
    code: str
    message: str
    param: str | None
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def openai(self) -> bytes:
        """OpenAI's shape."""
        fields = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": fields}, separators=(",", ":")).encode()


def reply_to(error: BaseException, request_id: str) -> ErrorReply:
    """What the client is told. Of our own mistakes it learns the request id and no more."""
    if not isinstance(error, CapyraError):
        return _internal(request_id)
    kind = KINDS.get(error.code, INTERNAL)
    if kind.status == INTERNAL.status:
        return _internal(request_id)
    headers: list[tuple[bytes, bytes]] = []
    retry_after = error.retry_after_s if error.retry_after_s is not None else kind.retry_after_s
    if kind.status in (429, 503) and retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(retry_after))).encode()))
    if kind.retry is not None:
        headers.append((b"x-should-retry", b"true" if kind.retry else b"false"))
    if isinstance(error, WrongMethod):
        headers.append((b"allow", error.allow.encode()))
    if kind.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if kind.status in (408, 413):
        # The rest of the body is still on its way, and nobody will read it.
        headers.append((b"connection", b"close"))
    return ErrorReply(
        kind.status, kind.type, error.code, error.message, error.param, tuple(headers)
    )


def _internal(request_id: str) -> ErrorReply:
    message = f"the server made a mistake: its log tells more under request id {request_id}"
    return ErrorReply(INTERNAL.status, INTERNAL.type, "internal_error", message, None)
