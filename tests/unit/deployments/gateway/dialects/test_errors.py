"""Each client's errors in its own shape, wherever they come from; and its way to send a key."""

from __future__ import annotations

import pytest

from capyra.deployments.gateway.dialects.names import naming
from capyra.deployments.gateway.errors import KINDS
from capyra.engine.errors import BY_CODE, ContextTooLong, InvalidValue, QueueFull

SAID = [{"role": "user", "content": "Hi"}]
ASKED = {
    "/v1/messages": {"max_tokens": 5, "messages": SAID},
    "/v1/messages/count_tokens": {"messages": SAID},
    "/v1/responses": {"input": "Hi"},
    "/api/chat": {"messages": SAID},
    "/api/generate": {"prompt": "Hi"},
    "/api/embed": {"input": "Hi"},
}
ROUTES = sorted(ASKED)


def message(path, response):
    """The sentence, from the shape that this path's clients know."""
    told = response.json
    if path.startswith("/api"):
        assert set(told) == {"error"}
        return told["error"]
    if path.startswith("/v1/messages"):
        assert set(told) == {"type", "error"}
        assert told["type"] == "error"
        assert set(told["error"]) == {"type", "message"}
    else:
        assert set(told["error"]) == {"message", "type", "param", "code"}
    return told["error"]["message"]


@pytest.mark.parametrize("path", ROUTES)
async def test_an_expert_that_nobody_knows(client, path):
    response = await client.post(path, {"model": "ecko"} | ASKED[path])

    assert response.status == 404
    assert message(path, response) == "there is no model 'ecko': did you mean 'echo'?"


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("body", "status"), [(b"{oops", 400), (b"[]", 400), (b"{}", 400), (b'{"a":"\\u0000"}', 400)]
)
async def test_a_body_that_is_none(client, path, body, status):
    response = await client.post(path, body)

    assert response.status == status
    assert message(path, response)


@pytest.mark.parametrize("path", ROUTES)
async def test_a_body_of_another_kind(client, path):
    response = await client.post(path, b"{}", {"content-type": "text/plain"})

    assert response.status == 415
    assert "content-type: application/json" in message(path, response)


@pytest.mark.parametrize("path", [*ROUTES, "/api/tags"])
async def test_a_wrong_method(client, path):
    response = await client.request("DELETE", path)

    assert response.status == 405
    assert "is not allowed here" in message(path, response)


@pytest.mark.parametrize("path", ["/api/pull", "/api", "/v1/messages/batches", "/v1/responses/r"])
async def test_a_route_that_is_none(client, path):
    response = await client.get(path)

    assert response.status == 404
    assert path in message(path, response)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/api/chat", "/api/generate"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_full_queue_is_told_before_headers(client, path, stream):
    client.experts.script = [QueueFull("no room", retry_after_s=2.5)]

    response = await client.post(path, {"model": "echo", "stream": stream} | ASKED[path])

    assert response.status == 429
    assert response.headers["retry-after"] == "3"
    assert response.headers["content-type"] == "application/json"
    assert message(path, response) == "no room"


@pytest.mark.parametrize("path", ROUTES)
async def test_without_the_key_nothing_is_told(client_of, path):
    client = client_of("secret")
    body = {"model": "echo"} | ASKED[path]

    response = await client.post(path, body)
    wrong = await client.post(path, body, {"x-api-key": "other"})
    right = await client.post(path, body, {"x-api-key": "secret"})
    bearer = await client.post(path, body, {"authorization": "Bearer secret"})
    both = await client.post(path, body, {"authorization": "Bearer other", "x-api-key": "secret"})

    assert [one.status for one in (response, wrong, right, bearer, both)] == [
        401,
        401,
        200,
        200,
        401,
    ]
    assert message(path, response).startswith("no API key came")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/api/chat", "/api/generate"])
async def test_our_own_mistakes_are_told_without_their_reasons(client, path):
    client.experts.script = [RuntimeError("secret")]

    response = await client.post(path, {"model": "echo"} | ASKED[path])

    assert response.status == 500
    assert "secret" not in response.body.decode()
    assert "request id" in message(path, response)


@pytest.mark.parametrize("code", sorted(KINDS.keys() & BY_CODE.keys()))
async def test_every_error_has_a_type_that_anthropics_clients_know(client, code):
    kind = BY_CODE[code]
    client.experts.script = [kind("why")]

    response = await client.post("/v1/messages", {"model": "echo"} | ASKED["/v1/messages"])

    assert response.json["error"]["type"] in {
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "timeout_error",
        "api_error",
        "overloaded_error",
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/messages", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
        ("/api/chat", "options.num_predict"),
    ],
)
async def test_parameters_have_the_names_that_the_client_gave_them(client, path, name):
    client.experts.script = [ContextTooLong("send a smaller `max_tokens`", param="max_tokens")]

    response = await client.post(path, {"model": "echo"} | ASKED[path])

    assert message(path, response) == f"send a smaller `{name}`"
    if path == "/v1/responses":
        assert response.error["param"] == name


def test_a_place_keeps_its_numbers():
    error = InvalidValue("`a` or `b`", param="messages[2].content[0]")

    with pytest.raises(InvalidValue) as raised, naming({"messages": "input", "a": "x.a"}):
        raise error

    assert raised.value.param == "input[2].content[0]"
    assert raised.value.message == "`x.a` or `b`"


async def test_what_a_client_wrote_itself_keeps_its_name(client):
    response = await client.post("/v1/responses", {"model": "echo", "input": "x", "max_tokens": 1})

    assert response.error["param"] == "max_tokens"
