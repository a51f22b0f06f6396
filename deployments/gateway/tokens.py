"""`POST /tokenize` and `/detokenize`: what a prompt is to the model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from capyra.deployments.experts import ExpertView
from capyra.deployments.gateway.fields import Body, ModelName, Text, TokenId
from capyra.deployments.gateway.messages import FunctionTool, Messages, chat_prompt
from capyra.deployments.gateway.settings import ServerConfig
from capyra.deployments.gateway.sse import compact
from capyra.engine.errors import InvalidValue
from capyra.engine.types import Prompt, Rendered, TextPrompt


class TokenizeBody(Body):
    """What a client may say: `prompt` or `messages`."""

    model: ModelName
    prompt: Text | None = None
    messages: Messages | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=256)] | None = None

    def rendered(self, config: ServerConfig) -> Prompt:
        """What is to be rendered."""
        if (self.prompt is None) == (self.messages is None):
            raise InvalidValue("send either prompt or messages", param="prompt")
        if self.messages is not None:
            return chat_prompt(self.messages, self.tools, None, None, False, config)
        if self.tools:
            raise InvalidValue("tools need messages", param="tools")
        return TextPrompt(self.prompt or "")


class DetokenizeBody(Body):
    """What a client may say."""

    model: ModelName
    tokens: Annotated[list[TokenId], Field(max_length=2**20)]


def tokenized(view: ExpertView, found: Rendered) -> bytes:
    context = view.capabilities.context if view.capabilities else view.config.context
    return compact(
        {
            "count": len(found.token_ids),
            "max_model_len": context,
            "tokens": found.token_ids,
            "text": found.text,
        }
    ).encode("ascii")


def detokenized(text: str) -> bytes:
    return compact({"prompt": text}).encode("ascii")
