"""Chat templates render as the reference renders them, to the last blank."""

from __future__ import annotations

from typing import Any

import pytest

from capyra.engine.native.chat import ChatTemplate
from capyra.engine.types import ChatPrompt, Message, TextPart, Tool, ToolCall

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]

MESSAGES = (
    Message("system", (TextPart("Be <brief> & kind.\n"),)),
    Message("user", (TextPart("  What is 2 + 2?\n\n"),)),
    Message("assistant", tool_calls=(ToolCall("c1", "add", '{"a": 2, "b": [2, "é"]}'),)),
    Message("tool", (TextPart('{"sum": 4}'),), tool_call_id="c1", name="add"),
)
TOOLS = (Tool("add", "Adds.", {"type": "object", "properties": {"a": {"type": "number"}}}),)
TEMPLATES = [
    """{{ bos_token }}{% for message in messages %}
    {% if loop.first %}
[{{ message['role'] | upper }}]
    {% endif %}
    {{- message['content'] | trim + '\n' -}}
{% endfor %}
{% if add_generation_prompt %}ANSWER:{% endif %}
""",
    """{%- if tools %}
    {{- "Tools:\n" }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=2) }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if message.tool_calls %}
        {%- for call in message.tool_calls %}
            {{- '<call>' ~ call.function.name ~ ' ' ~ (call.function.arguments | tojson) }}
        {%- endfor %}
    {%- else %}
        {%- set text = message.content if message.content is string else '' %}
        {{- message.role + ': ' + text.split('\n')[0].lstrip() }}
        {%- if not loop.last %}{{ '\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
""",
    """{% set ns = namespace(count=0) %}
{% for message in messages %}
  {% if message.role == 'system' %}
    {% continue %}
  {% endif %}
  {% set ns.count = ns.count + 1 %}
{{ ns.count }}: {% generation %}{{ message.content }}{% endgeneration %}

{% endfor %}
""",
]


@pytest.mark.parametrize("source", TEMPLATES)
@pytest.mark.parametrize("answer", [True, False])
def test_renderings_equal_the_references(transformers: Any, source: str, answer: bool) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    conversation: list[dict[str, Any]] = [
        {"role": "system", "content": MESSAGES[0].text},
        {"role": "user", "content": MESSAGES[1].text},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "add", "arguments": {"a": 2, "b": [2, "é"]}},
                }
            ],
        },
        {"role": "tool", "content": '{"sum": 4}', "name": "add", "tool_call_id": "c1"},
    ]
    function = {"name": "add", "description": "Adds.", "parameters": dict(TOOLS[0].parameters)}
    (expected,), _ = render_jinja_template(
        conversations=[conversation],
        tools=[{"type": "function", "function": function}],
        chat_template=source,
        add_generation_prompt=answer,
        bos_token="<s>",
    )
    template = ChatTemplate(source, {"bos_token": "<s>"})
    pieces = template.render(ChatPrompt(MESSAGES, TOOLS), answer=answer)
    assert "".join(piece.text for piece in pieces) == expected
