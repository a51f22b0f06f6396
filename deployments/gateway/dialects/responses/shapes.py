"""The shapes of what clients of the Responses API are answered. They document, as `replies.py`
does."""

from __future__ import annotations

from typing import Any, Literal

from capyra.deployments.gateway.replies import ChatToken, ErrorFields, Reply

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputPart(Reply):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[ChatToken]


class OutputMessage(Reply):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: ItemStatus
    content: list[OutputPart]


class OutputCall(Reply):
    id: str
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class InputDetails(Reply):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Reply):
    reasoning_tokens: int


class ResponseUsage(Reply):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseFault(Reply):
    code: str
    message: str


class Incomplete(Reply):
    reason: Literal["max_output_tokens"]


class ResponseObject(Reply):
    id: str
    object: Literal["response"]
    created_at: int
    model: str
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: ResponseFault | None
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    output: list[OutputMessage | OutputCall]
    parallel_tool_calls: bool
    previous_response_id: None
    store: Literal[False]
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int | None = None
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage | None


class ResponseEvent(Reply):
    """One event of a stream. The stream ends with `response.completed`, `response.incomplete`, or
    `response.failed` and `error`."""

    type: str
    sequence_number: int
    response: ResponseObject | None = None
    item: OutputMessage | OutputCall | None = None
    part: OutputPart | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    delta: str | None = None
    text: str | None = None
    arguments: str | None = None
    logprobs: list[ChatToken] | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None
    error: ErrorFields | None = None
