"""`POST /v1/embeddings`."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from capyra.deployments.gateway.completions import Prompts, prompts
from capyra.deployments.gateway.fields import Handling, ModelName, Plain
from capyra.deployments.gateway.sse import compact
from capyra.engine.errors import InvalidValue
from capyra.engine.types import Embeddings, EmbedRequest


class EmbeddingBody(Handling):
    """What a client may say."""

    model: ModelName
    input: Prompts = Field(description="Text or token ids, or a list of either")
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None, description="base64: little-endian 32-bit floats"
    )
    user: Plain | None = Field(default=None, description="Accepted, without effect")

    def request(self, *, id_: str, salt: str, seconds: float, most: int) -> EmbedRequest:
        inputs = prompts(self.input)
        if len(inputs) > most:
            raise InvalidValue(
                f"there are {len(inputs)} inputs; {most} are the most", param="input"
            )
        return EmbedRequest(id=id_, inputs=inputs, cache_salt=salt, deadline_s=seconds)


def reply(body: EmbeddingBody, found: Embeddings) -> bytes:
    write = _base64 if body.encoding_format == "base64" else list
    return compact(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": write(vector)}
                for index, vector in enumerate(found.vectors)
            ],
            "model": body.model,
            "usage": {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens},
        }
    ).encode("ascii")


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
