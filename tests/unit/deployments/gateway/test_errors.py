"""Every error of the tree has its place in HTTP."""

from __future__ import annotations

import asyncio

import pytest

from capyra.deployments.gateway.errors import KINDS, reply_to
from capyra.engine.errors import BY_CODE, EngineFault, QueueFull


def test_every_code_of_the_tree_is_mapped():
    assert set(BY_CODE) <= set(KINDS)


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=BY_CODE)
def test_an_error_keeps_its_sentence_unless_it_is_ours(kind):
    reply = reply_to(kind("the sentence", param="place"), "id-1")

    if reply.status == 500:
        assert "the sentence" not in reply.message
        assert "id-1" in reply.message
        assert reply.code == "internal_error"
    else:
        assert (reply.message, reply.param, reply.code) == ("the sentence", "place", kind.code)
    if reply.status in (429, 503):
        assert dict(reply.headers)[b"retry-after"].isdigit()


def test_retry_after_is_whole_seconds_and_never_zero():
    assert dict(reply_to(QueueFull("x", retry_after_s=0.01), "").headers)[b"retry-after"] == b"1"
    assert dict(reply_to(QueueFull("x", retry_after_s=7.2), "").headers)[b"retry-after"] == b"8"


@pytest.mark.parametrize(
    "error", [EngineFault("secret"), ZeroDivisionError("secret"), TimeoutError("secret")]
)
async def test_what_breaks_inside_is_logged_and_not_told(client, caplog, error):
    client.experts.script = [error]

    response = await client.chat()

    assert response.status == 500
    assert response.headers["x-request-id"] in response.error["message"]
    assert b"secret" not in response.body
    assert "secret" in caplog.text


async def test_the_server_ending_is_not_swallowed(client):
    client.experts.script = [asyncio.Event()]
    before = asyncio.all_tasks()
    request = asyncio.create_task(client.chat())
    await client.experts.waiting.wait()
    for task in asyncio.all_tasks() - before - {request}:
        task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await request
    assert client.app.in_flight == 0
    assert client.experts.open == 0
