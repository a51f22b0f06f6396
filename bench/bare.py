"""The baseline of `bench.gateway`: the least that Serve needs to answer the same request.

A FastAPI ingress that parses the body, calls a generator through a handle, and writes OpenAI's
answer: no checks, no errors, no cancellation, no metrics.
"""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

app = FastAPI()


class Message(BaseModel):
    role: str
    content: str


class Body(BaseModel):
    model: str
    messages: list[Message]
    max_tokens: int
    stream: bool = False
    temperature: float = 1.0
    stream_options: dict[str, bool] = {}


@serve.deployment(name="Words", max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0})
class Words:
    async def generate(self, text: str, count: int) -> AsyncIterator[str]:
        for place in range(count):
            yield text[place % len(text)]


@serve.deployment(name="Bare", max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0})
@serve.ingress(app)
class Bare:
    def __init__(self, words: DeploymentHandle[Any]) -> None:
        self._words = words.options(stream=True)

    @app.post("/v1/chat/completions")
    async def chat(self, body: Body) -> Any:
        tokens = self._words.generate.remote(body.messages[-1].content, body.max_tokens)
        if body.stream:
            return StreamingResponse(self._events(tokens, body), media_type="text/event-stream")
        text = "".join([token async for token in tokens])
        return {
            "id": "chatcmpl-bare",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": body.max_tokens, "total_tokens": 1},
        }

    async def _events(self, tokens: AsyncIterator[str], body: Body) -> AsyncIterator[str]:
        def event(choices: list[dict[str, Any]], **more: Any) -> str:
            chunk = {
                "id": "chatcmpl-bare",
                "object": "chat.completion.chunk",
                "created": int(time.time()),
                "model": body.model,
                "choices": choices,
                **more,
            }
            return f"data: {json.dumps(chunk)}\n\n"

        async for token in tokens:
            yield event([{"index": 0, "delta": {"content": token}, "finish_reason": None}])
        yield event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        yield event([], usage={"prompt_tokens": 1, "completion_tokens": body.max_tokens})
        yield "data: [DONE]\n\n"


def build(_: dict[str, str]) -> Application:
    return Bare.bind(Words.bind())
