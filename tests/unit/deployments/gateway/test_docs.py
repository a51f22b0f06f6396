"""What the gateway does is documented, and the document tells the truth."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from capyra.deployments.gateway import replies
from capyra.deployments.gateway.app import routes
from capyra.deployments.gateway.errors import INTERNAL, KINDS
from capyra.deployments.gateway.handlers import Handlers
from capyra.deployments.gateway.meters import PrometheusMeters, Record
from capyra.deployments.gateway.openapi import OPERATIONS
from capyra.deployments.gateway.settings import ServerConfig
from capyra.engine.types import (
    Delta,
    Done,
    Finished,
    Started,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

DOCS = next(up for up in Path(__file__).parents if (up / "pyproject.toml").exists()) / "docs"


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "api.md").read_text()


async def document(client):
    return (await client.get("/openapi.json")).json


def table(experts):
    return routes(Handlers(experts, ServerConfig(), PrometheusMeters(), lambda: 0.0), experts)


def test_every_route_has_its_operation(experts):
    assert {(route.method, route.path) for route in table(experts)} == set(OPERATIONS)


def test_every_route_is_in_the_page(experts, page):
    for route in table(experts):
        assert f"`{route.method} {route.path}`" in page


@pytest.mark.parametrize("body", [one.body for one in OPERATIONS.values() if one.body])
def test_every_field_is_in_the_page(body, page):
    for name, field in body.model_fields.items():
        assert f"`{field.alias or name}`" in page, name


def test_every_error_is_in_the_page(page):
    rows = dict(re.findall(r"^\| (\d{3}) \| (.+) \|$", page, re.MULTILINE))
    for code, kind in KINDS.items():
        told = "internal_error" if kind.status == INTERNAL.status else code
        assert f"`{told}`" in rows[str(kind.status)]


def test_every_metric_is_in_its_page():
    page = (DOCS / "metrics.md").read_text()
    meters = PrometheusMeters()
    meters.began("/")
    meters.ended(
        Record("/", "e", 200, "x", 1.0, 0.1, 0.9, 0.2, prompt_tokens=1, completion_tokens=3)
    )

    for family in text_string_to_metric_families(meters.exposition().decode()):
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = set().union(*(sample.labels for sample in family.samples)) - {"le"}
        row = next(line for line in page.splitlines() if f"`{name}`" in line)
        assert f"| {family.type} |" in row
        assert all(f"`{label}`" in row for label in labels)


async def test_the_document_is_openapi(client):
    doc = await document(client)

    assert doc["openapi"] == "3.1.0"
    refs = re.findall(r'"#/components/schemas/(\w+)"', str(doc).replace("'", '"'))
    assert set(refs) <= set(doc["components"]["schemas"])
    for schema in doc["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def fits(client, shape, value):
    """Whether a reply is what the document says."""
    doc = await document(client)
    schema = {"$ref": f"#/components/schemas/{shape.__name__}", "components": doc["components"]}
    jsonschema.validate(value, schema, jsonschema.Draft202012Validator)


LOGPROBS = (TokenLogprob("a", 1, -0.5, (("a", 1, -0.5), ("b", 2, float("-inf")))),)


async def test_replies_are_what_the_document_says(client):
    accepted = client.experts.accepted
    client.experts.script = [
        [accepted, Started(3, 1, (None, *LOGPROBS))],
        [Delta(0, "a", (1,), LOGPROBS), ToolCallDelta(0, 0, "{}", "c", "f")],
        [Finished(0, "tool_calls"), Done(Usage(3, 2, 1))],
    ]
    usage = {"stream": True, "stream_options": {"include_usage": True}}

    await fits(client, replies.ChatCompletion, (await client.chat(logprobs=True)).json)
    for event in (await client.chat(logprobs=True, **usage)).events[:-1]:
        await fits(client, replies.ChatChunk, event)
    text = {"model": "echo", "prompt": "x", "logprobs": 1, "echo": True}
    whole = await client.post("/v1/completions", text)
    await fits(client, replies.Completion, whole.json)
    for event in (await client.post("/v1/completions", text | usage)).events[:-1]:
        await fits(client, replies.Completion, event)
    for path, shape in (
        ("/v1/models", replies.ModelList),
        ("/v1/models/echo", replies.Model),
        ("/v1/models/ecko", replies.ErrorBody),
        ("/health/live", replies.Health),
        ("/health/ready", replies.Health),
        ("/nowhere", replies.ErrorBody),
    ):
        await fits(client, shape, (await client.get(path)).json)
    for path, body, shape in (
        ("/v1/embeddings", {"input": "x"}, replies.EmbeddingList),
        ("/v1/embeddings", {"input": "x", "encoding_format": "base64"}, replies.EmbeddingList),
        ("/tokenize", {"prompt": "x"}, replies.Tokenized),
        ("/detokenize", {"tokens": [65]}, replies.Detokenized),
        ("/detokenize", {"tokens": "x"}, replies.ErrorBody),
    ):
        response = await client.post(path, body | {"model": "echo"})
        await fits(client, shape, response.json)
