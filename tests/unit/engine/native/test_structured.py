"""Answers that must have a shape have it, whatever the model would rather write."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capyra.engine.errors import InvalidValue
from capyra.engine.native.sampler import Row, choose
from capyra.engine.native.structured import Grammars
from capyra.engine.types import OutputFormat, Sampling

END = 256
SIZE = 320
"""More than there are tokens: models pad their vocabulary."""


class Bytes:
    """A vocabulary of bytes, an end, and a token of several bytes."""

    def token_bytes(self) -> list[bytes]:
        return [*(bytes([value]) for value in range(256)), b"<|end|>", b'{"']

    def control_ids(self) -> list[int]:
        return [END]

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


@pytest.fixture(scope="module")
def grammars() -> Any:
    made = Grammars(Bytes(), SIZE, {END})
    yield made
    made.close()


async def write(
    grammars: Grammars, wanted: OutputFormat, seed: int = 0, most: int = 4000
) -> str | None:
    """What a model without any sense writes under the grammar; None if it finds no end."""
    guide = await grammars.guide(wanted)
    row = Row(Sampling(seed=seed), 0)
    generator = torch.Generator().manual_seed(seed)
    table = Bytes().token_bytes()
    text = b""
    for _ in range(most):
        row.allowed = guide.allowed()
        # It would like to close what it has opened, or no string would ever end.
        logits = torch.randn(1, SIZE, generator=generator)
        logits[:, [END, *b'"}]']] += 3
        (token,) = choose(logits, [row])
        row.wrote(token)
        if token == END:
            return text.decode()
        assert token < len(table), "a token without bytes"
        text += table[token]
        guide.accept(token)
        if guide.over:
            return text.decode()
    return None


names = st.text("abcxyz ä\"'", min_size=1, max_size=6)
bounds = st.integers(0, 6)
leaves: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-1000, 1000),
        st.integers(0, 5000),
    ),
    st.just({"type": "number"}),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        bounds,
        bounds,
    ),
    st.builds(
        lambda values: {"enum": values},
        st.lists(
            st.one_of(names, st.integers(-9, 9), st.booleans(), st.none()),
            min_size=1,
            max_size=4,
            unique_by=repr,
        ),
    ),
    st.builds(lambda value: {"const": value}, names),
    st.sampled_from(
        [{"type": "string", "pattern": "^[a-c]{2,4}$"}, {"type": "string", "format": "date"}]
    ),
)


def _branches(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def build(properties: dict[str, Any], needed: int) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": sorted(properties)[:needed],
            "additionalProperties": False,
        }

    objects = st.builds(build, st.dictionaries(names, inner, max_size=4), bounds)
    arrays = st.builds(
        lambda items, low, more: {
            "type": "array",
            "items": items,
            "minItems": low,
            "maxItems": low + more,
        },
        inner,
        st.integers(0, 2),
        st.integers(0, 3),
    )
    return st.one_of(
        objects,
        arrays,
        st.builds(lambda any_of: {"anyOf": any_of}, st.lists(inner, min_size=1, max_size=3)),
    )


schemas = st.recursive(leaves, _branches, max_leaves=8)


def check_schemas(examples: int) -> Callable[..., Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )(given(schema=schemas, seed=st.integers(0, 2**16))(_check_schema))


async def _check_schema(schema: dict[str, Any], seed: int, grammars: Grammars) -> None:
    text = await write(grammars, OutputFormat("json_schema", json.dumps(schema)), seed)
    assert text is not None, "no end in sight"
    jsonschema.validate(json.loads(text), schema)


test_answers_validate = check_schemas(40)
test_a_thousand_answers_validate = pytest.mark.slow(pytest.mark.timeout(900)(check_schemas(1000)))


@pytest.mark.parametrize("seed", range(5))
async def test_json_objects(seed: int, grammars: Grammars) -> None:
    text = await write(grammars, OutputFormat("json_object"), seed)
    assert text is not None
    assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("pattern", [r"[0-9]{3}-[a-f]+", r"(yes|no)( indeed)?", r"ä+|\d\.\d"])
async def test_regex(pattern: str, grammars: Grammars) -> None:
    for seed in range(5):
        text = await write(grammars, OutputFormat("regex", pattern), seed)
        assert text is not None
        assert re.fullmatch(pattern, text)


async def test_grammar(grammars: Grammars) -> None:
    lark = 'start: "(" start ")" | "x"'
    for seed in range(5):
        text = await write(grammars, OutputFormat("grammar", lark), seed)
        assert text is not None
        depth = text.count("(")
        assert text == "(" * depth + "x" + ")" * depth


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (OutputFormat("json_schema", "{"), "no JSON"),
        (OutputFormat("json_schema", "[]"), "an object"),
        (OutputFormat("json_schema", '{"type": "thing"}'), "thing"),
        (OutputFormat("json_schema", '{"$ref": "http://elsewhere/"}'), "elsewhere"),
        (OutputFormat("json_schema", "[" * 100_000), "nested|JSON"),
        (OutputFormat("json_schema", " " * 300_000), "300000 characters"),
        (OutputFormat("regex", "(("), "unclosed group"),
        (OutputFormat("regex", "(?=x)"), "look-ahead"),
        (OutputFormat("grammar", "start: nobody"), "nobody"),
    ],
    ids=lambda value: value.kind if isinstance(value, OutputFormat) else "",
)
async def test_what_is_wrong_is_said(wanted: OutputFormat, says: str, grammars: Grammars) -> None:
    with pytest.raises(InvalidValue, match=says) as refused:
        await grammars.guide(wanted)
    assert refused.value.param == "response_format"


async def test_a_fork_goes_its_own_way(grammars: Grammars) -> None:
    guide = await grammars.guide(OutputFormat("regex", "ab|cd"))
    fork = guide.fork()
    guide.accept(ord("a"))
    fork.accept(ord("c"))
    assert [
        np.flatnonzero(np.unpackbits(one.allowed(), bitorder="little")).tolist()
        for one in (guide, fork)
    ] == [[ord("b")], [ord("d")]]


async def test_what_the_grammar_forbids_cannot_be_accepted(grammars: Grammars) -> None:
    guide = await grammars.guide(OutputFormat("regex", "a"))
    with pytest.raises(InvalidValue):
        guide.accept(ord("b"))
