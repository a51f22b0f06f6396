"""What clients of the Responses API are told: whole responses, the events of a stream, errors."""

from __future__ import annotations

from typing import Any

from capyra.deployments.gateway.answers import Answer
from capyra.deployments.gateway.dialects.responses.request import ResponsesBody
from capyra.deployments.gateway.errors import ErrorReply
from capyra.deployments.gateway.flow import EVENTS
from capyra.deployments.gateway.sse import chat_logprobs, compact
from capyra.engine.types import (
    Delta,
    Done,
    Finished,
    GenerateRequest,
    Started,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

NAMES = {
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "response_format": "text.format",
}
Item = dict[str, Any]


class ResponsesDialect:
    """One response: a message, and the calls beside it."""

    manner = EVENTS

    def __init__(
        self, *, id_: str, model: str, created: int, body: ResponsesBody, request: GenerateRequest
    ) -> None:
        self._id = id_
        self._shell = _shell(id_, model, created, body, request)
        self._sequence = 0
        self._output: list[Item] = []
        """Every item so far; the last one is being written while `_open`."""
        self._open = False
        self._call: int | None = None
        """The number of the call being written; None while it is text."""
        self._pieces: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._held: list[TokenLogprob] = []
        """Of tokens that left no text yet: they may belong to a call."""
        self._cut = False

    def started(self, _: Started, /) -> str:
        response = self._response("in_progress", [])
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def delta(self, event: Delta, /) -> str:
        self._held += event.logprobs or ()
        if not event.text:
            return ""
        told = ""
        if not self._open or self._call is not None:
            told = self._begin_text()
        self._pieces.append(event.text)
        logprobs, self._held = self._held, []
        self._logprobs += logprobs
        return told + self._event(
            "response.output_text.delta",
            **self._place(),
            delta=event.text,
            logprobs=chat_logprobs(logprobs)["content"],
        )

    def tool_call(self, event: ToolCallDelta, /) -> str:
        # The call's own: they have no place in a response.
        self._held = []
        told = ""
        if not self._open or self._call != event.call:
            told = self._begin_call(event)
        if not event.arguments:
            return told
        self._pieces.append(event.arguments)
        return told + self._event(
            "response.function_call_arguments.delta",
            **self._place(part=False),
            delta=event.arguments,
        )

    def finished(self, event: Finished, /) -> str:
        self._cut = event.reason == "length"
        told = "" if self._output else self._begin_text()
        return told + self._end(last=True)

    def done(self, event: Done, /) -> str:
        status = "incomplete" if self._cut else "completed"
        response = self._response(status, self._output, event.usage)
        return self._event(f"response.{status}", response=response)

    def failed(self, error: ErrorReply, /) -> bytes:
        """Whoever follows the response's state learns that it failed; then comes what makes
        official clients raise."""
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        response = self._response("failed", self._output)
        response["error"] = {"code": code, "message": error.message}
        fields = {"type": error.type, "code": error.code, "message": error.message}
        ended = self._event("response.failed", response=response) + self._event(
            "error",
            code=error.code,
            message=error.message,
            param=error.param,
            error={**fields, "param": error.param},
        )
        return ended.encode("ascii")

    def whole(self, answer: Answer, /) -> bytes:
        (choice,) = answer.choices
        self._cut = choice.reason == "length"
        items = [
            self._call_item(1 + at, id_, name, arguments)
            for at, (_, (id_, name, arguments)) in enumerate(sorted(choice.calls.items()))
        ]
        if choice.text or not items:
            items = [self._text_item(0, choice.text, choice.logprobs), *items]
        if self._cut:
            items[-1]["status"] = "incomplete"
        status = "incomplete" if self._cut else "completed"
        return compact(self._response(status, items, answer.usage)).encode("ascii")

    def _begin_text(self) -> str:
        told = self._end()
        self._call = None
        number = len(self._output)
        told += self._begin({**self._text_item(number, "", ()), "content": []})
        return told + self._event(
            "response.content_part.added", **self._place(), part=_part("", ())
        )

    def _begin_call(self, event: ToolCallDelta) -> str:
        told = self._end()
        self._call = event.call
        item = self._call_item(len(self._output), event.id or "", event.name or "", "")
        return told + self._begin(item)

    def _begin(self, item: Item) -> str:
        self._output.append({**item, "status": "in_progress"})
        self._open = True
        self._pieces, self._logprobs = [], []
        return self._item_event("added")

    def _end(self, *, last: bool = False) -> str:
        """Close the item that is being written; only the last one can have been cut."""
        if not self._open:
            return ""
        text, item = "".join(self._pieces), self._output[-1]
        item["status"] = "incomplete" if last and self._cut else "completed"
        if self._call is None:
            part = _part(text, self._logprobs + self._held)
            item["content"] = [part]
            told = self._event(
                "response.output_text.done",
                **self._place(),
                text=text,
                logprobs=part["logprobs"],
            ) + self._event("response.content_part.done", **self._place(), part=part)
        else:
            item["arguments"] = text
            told = self._event(
                "response.function_call_arguments.done",
                **self._place(part=False),
                arguments=text,
            )
        self._open = False
        return told + self._item_event("done")

    def _item_event(self, what: str) -> str:
        at = len(self._output) - 1
        return self._event(f"response.output_item.{what}", output_index=at, item=self._output[-1])

    def _place(self, *, part: bool = True) -> dict[str, Any]:
        at = len(self._output) - 1
        place = {"item_id": self._output[-1]["id"], "output_index": at}
        return {**place, "content_index": 0} if part else place

    def _event(self, name: str, **fields: Any) -> str:
        event = {"type": name, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return f"event: {name}\ndata: {compact(event)}\n\n"

    def _text_item(
        self, number: int, text: str, logprobs: list[TokenLogprob] | tuple[TokenLogprob, ...]
    ) -> Item:
        return {
            "id": f"msg_{self._id}_{number}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [_part(text, logprobs)],
        }

    def _call_item(self, number: int, id_: str, name: str, arguments: str) -> Item:
        return {
            "id": f"fc_{self._id}_{number}",
            "type": "function_call",
            "call_id": id_,
            "name": name,
            "arguments": arguments,
            "status": "completed",
        }

    def _response(self, status: str, output: list[Item], usage: Usage | None = None) -> Item:
        return {
            **self._shell,
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if self._cut else None,
            "output": output,
            "usage": None if usage is None else _usage(usage),
        }


def _part(text: str, logprobs: list[TokenLogprob] | tuple[TokenLogprob, ...]) -> Item:
    told = chat_logprobs(logprobs)["content"]
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": told}


def _shell(
    id_: str, model: str, created: int, body: ResponsesBody, request: GenerateRequest
) -> Item:
    """What does not change from the first event to the last."""
    told = body.model_dump(by_alias=True, exclude_none=True, include=_TOLD_BACK)
    return {
        "id": f"resp_{id_}",
        "object": "response",
        "created_at": created,
        "model": model,
        "error": None,
        "instructions": body.instructions,
        "max_output_tokens": request.limits.max_tokens,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": request.sampling.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": request.sampling.top_p,
        "truncation": "disabled",
        **told,
    }


_TOLD_BACK = {"metadata", "parallel_tool_calls", "text", "tool_choice", "tools", "top_logprobs"}


def _usage(usage: Usage) -> Item:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
