"""What other APIs' clients are told is what the document says."""

from __future__ import annotations

import json

import jsonschema
import pytest

from capyra.deployments.gateway.openapi import OPERATIONS
from capyra.engine.errors import ExpertLost, Failure
from capyra.engine.types import (
    Delta,
    Done,
    Failed,
    Finished,
    Started,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from streams import json_lines, named_events

SAID = [{"role": "user", "content": "Hi"}]
FUNCTION = {"type": "function", "name": "f"}
LOGPROBS = {"logprobs": True}
INCLUDED = {
    "include": ["message.output_text.logprobs"],
    "tools": [{"type": "function", "name": "f"}],
}
CASES = {
    "/v1/messages": {"max_tokens": 5, "messages": SAID},
    "/v1/messages/count_tokens": {"messages": SAID},
    "/v1/responses": {"input": "Hi"} | INCLUDED,
    "/api/chat": {"messages": SAID} | LOGPROBS,
    "/api/generate": {"prompt": "Hi"} | LOGPROBS,
    "/api/embed": {"input": "Hi"},
    "/api/show": {},
}
STREAMS = ["/v1/messages", "/v1/responses", "/api/chat", "/api/generate"]
TOKEN = (TokenLogprob("a", 1, -0.5, (("a", 1, -0.5), ("b", 2, float("-inf")))),)


@pytest.fixture
async def fits(client):
    document = (await client.get("/openapi.json")).json

    def check(shapes, value):
        refs = [{"$ref": f"#/components/schemas/{one.__name__}"} for one in shapes]
        schema = {"anyOf": refs, "components": document["components"]}
        jsonschema.validate(value, schema, jsonschema.Draft202012Validator)

    return check


def says_all(experts, end):
    return [
        [experts.accepted, Started(3, 1)],
        [Delta(0, "a", (1,), TOKEN), ToolCallDelta(0, 0, "{}", "c", "f")],
        end,
    ]


@pytest.mark.parametrize("path", sorted(CASES))
async def test_whole_answers_and_errors(client, fits, path):
    operation = OPERATIONS["POST", path]
    client.experts.script = says_all(
        client.experts, [Finished(0, "tool_calls"), Done(Usage(3, 2, 1))]
    )
    body = {"model": "echo"} | CASES[path]
    if path in STREAMS:
        body["stream"] = False

    answer = await client.post(path, body)

    assert answer.status == 200
    fits([operation.reply], answer.json)
    fits([operation.error], (await client.post(path, body | {"model": "ecko"})).json)


@pytest.mark.parametrize("path", STREAMS)
@pytest.mark.parametrize("whole", [True, False])
async def test_streams(client, fits, path, whole):
    operation = OPERATIONS["POST", path]
    end = [Failed(Failure.of(ExpertLost("it died")))]
    if whole:
        end = [Finished(0, "length"), Done(Usage(3, 2, 1))]
    client.experts.script = says_all(client.experts, end)

    body = (await client.post(path, {"model": "echo", "stream": True} | CASES[path])).body

    told = json_lines(body) if operation.lines else [data for _, data in named_events(body)]
    assert len(told) > 1
    for each in told[:-1]:
        fits([operation.event], each)
    fits([operation.event if whole else operation.error, operation.event], told[-1])


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps", "/api/version"])
async def test_lists(client, fits, path):
    fits([OPERATIONS["GET", path].reply], (await client.get(path)).json)


async def test_streams_are_ascii_whatever_is_said(client):
    text = 'Grüße 👋🏽 "\\\u2028\x7f'
    for path in STREAMS:
        client.experts.script = client.experts.says(text)
        body = (await client.post(path, {"model": "echo", "stream": True} | CASES[path])).body
        assert body.isascii()
        assert json.dumps(text) in body.decode()
