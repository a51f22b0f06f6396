"""An expert without room says so to each client in its own words, before anything else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import anthropic
import ollama
import openai
import pytest

from serving import Server

pytestmark = pytest.mark.cluster

LONG = [{"role": "user", "content": "x" * 400}]
SHORT = [{"role": "user", "content": "x"}]


@pytest.fixture
def full(server: Server) -> Iterator[Server]:
    """A server whose `tiny` is busy: one request runs, one waits."""
    with ExitStack() as stack:
        client = stack.enter_context(
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        )
        for _ in range(2):
            # It returns with the headers: the request has its place.
            stream = client.chat.completions.create(model="tiny", messages=LONG, stream=True)
            stack.enter_context(stream)
        yield server


def test_a_full_queue(full: Server) -> None:
    with (
        anthropic.Anthropic(base_url=full.url, api_key="none", max_retries=0) as client,
        pytest.raises(anthropic.RateLimitError) as refused,
    ):
        client.messages.create(model="tiny", max_tokens=5, messages=SHORT, stream=True)
    assert refused.value.body["error"]["type"] == "rate_limit_error"
    assert int(refused.value.response.headers["retry-after"]) > 0

    with (
        openai.OpenAI(base_url=f"{full.url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as refused,
    ):
        client.responses.create(model="tiny", input="x", stream=True)
    assert refused.value.code == "queue_full"

    with ollama.Client(host=full.url) as client, pytest.raises(ollama.ResponseError) as refused:
        list(client.chat("tiny", SHORT, stream=True))
    assert refused.value.status_code == 429
