"""From a request to the work that answers it."""

from __future__ import annotations

from capyra.engine import checks, toolcalls
from capyra.engine.delivery import Delivery
from capyra.engine.echo import model, vocabulary
from capyra.engine.echo.answer import Answer, prompt_logprobs
from capyra.engine.echo.batch import Job
from capyra.engine.echo.options import EchoOptions
from capyra.engine.echo.template import render
from capyra.engine.echo.tools import forced_call
from capyra.engine.types import Capabilities, ChatPrompt, GenerateRequest, Prompt, TextPrompt


def job(request: GenerateRequest, capabilities: Capabilities, options: EchoOptions) -> Job:
    """The request as work, or what is wrong with it."""
    checks.check(request, capabilities)
    prompt = render(request.prompt)
    limit = checks.check_context(len(prompt), request.limits, capabilities.context)
    echo = _answer(request.prompt, prompt)
    answers = [
        Answer(
            request,
            index,
            prompt,
            echo,
            delivery=Delivery(request, index, _parser(request.prompt)),
            limit=limit,
            breaks_after=options.fail_after_tokens,
        )
        for index in range(request.n)
    ]
    count = request.prompt_logprobs
    return Job(
        id=request.id,
        salt=request.cache_salt,
        prompt=prompt,
        answers=answers,
        preamble=_text(request.prompt, prompt) if request.echo else "",
        prompt_logprobs=None if count is None else lambda: prompt_logprobs(prompt, count),
        priority=request.priority,
    )


def _answer(prompt: Prompt, tokens: list[int]) -> model.Echo:
    echo = model.begin(tokens)
    if isinstance(prompt, ChatPrompt):
        call = forced_call(prompt, echo.source.decode(errors="replace"))
        if call is not None:
            return model.Echo(call.encode())
    return echo


def _parser(prompt: Prompt) -> toolcalls.ToolCallParser | None:
    if isinstance(prompt, ChatPrompt) and prompt.tools and prompt.tool_choice.mode != "none":
        return toolcalls.parser("hermes", [tool.name for tool in prompt.tools])
    return None


def _text(prompt: Prompt, tokens: list[int]) -> str:
    return prompt.text if isinstance(prompt, TextPrompt) else vocabulary.detokenize(tokens)
