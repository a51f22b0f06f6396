"""Answers of a given shape: which tokens a grammar allows next. The library is llguidance.

Compiling is bounded: by the size of what is sent, by the library's own limits, and by a deadline.
It happens on a thread of its own, because a large schema takes longer than a step may wait.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from capyra.engine.errors import InvalidValue
from capyra.engine.types import OutputFormat

_PARAM = "response_format"
_LONGEST = 256 * 2**10
"""Characters of a schema, a pattern or a grammar."""
_COMPILE_S = 10.0
_NAMES = {"json_object": "format", "json_schema": "schema", "regex": "regex", "grammar": "grammar"}
_JSON: Any = {
    # Any whitespace, but not without end: a model that is at a loss writes nothing else.
    "whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,40}",
}


class Vocabulary(Protocol):
    """What grammars need to know of a tokenizer."""

    def token_bytes(self) -> Sequence[bytes]:
        """Every token's bytes by id; a control token's name."""

    def control_ids(self) -> Collection[int]: ...

    def encode(self, text: str) -> list[int]: ...


class Guide:
    """One answer's place in its grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def fork(self) -> Guide:
        """Another answer at the same place."""
        return Guide(self._matcher.deep_copy())

    def allowed(self) -> NDArray[np.uint8]:
        """One bit for each token, the lowest first."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        return mask

    def accept(self, token: int) -> None:
        """The token is part of the answer."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def over(self) -> bool:
        """Whether the answer is complete, and nothing can follow."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InvalidValue(
                f"the answer's format cannot be followed here: {_reason(self._matcher)}",
                param=_PARAM,
            )


class Grammars:
    """Compiles formats for one vocabulary, one after the other."""

    def __init__(self, vocabulary: Vocabulary, size: int, ends: Collection[int]) -> None:
        self._vocabulary = vocabulary
        self._size = size
        self._ends = sorted(ends)
        self._tokenizer: LLTokenizer | None = None
        self._limits = LLParserLimits(verbose_errors=False)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grammar")

    async def guide(self, wanted: OutputFormat) -> Guide:
        """A guide of that format; `InvalidValue` if it is none."""
        if len(wanted.spec) > _LONGEST:
            raise InvalidValue(
                f"the format has {len(wanted.spec)} characters: at most {_LONGEST} are taken",
                param=_PARAM,
            )
        compiling = asyncio.get_running_loop().run_in_executor(self._thread, self._compile, wanted)
        try:
            return await asyncio.wait_for(compiling, _COMPILE_S)
        except TimeoutError as error:
            raise InvalidValue(
                f"the format takes longer than {_COMPILE_S:g} s to understand: send a simpler one",
                param=_PARAM,
            ) from error

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _compile(self, wanted: OutputFormat) -> Guide:
        if self._tokenizer is None:
            tokens = _Tokens(self._vocabulary, self._size, self._ends[0])
            self._tokenizer = LLTokenizer(tokens, eos_token=self._ends)
        matcher = LLMatcher(self._tokenizer, _grammar(wanted), log_level=0, limits=self._limits)
        if matcher.is_error():
            raise InvalidValue(
                f"the {_NAMES[wanted.kind]} cannot be followed: {_reason(matcher)}", param=_PARAM
            )
        return Guide(matcher)


class _Tokens(TokenizerWrapper):
    """A vocabulary as llguidance wants it: its own wrapper begins by trying what it is given."""

    def __init__(self, vocabulary: Vocabulary, size: int, end: int) -> None:
        self.is_tokenizer_wrapper = True
        self.bos_token_id = None
        tokens = list(vocabulary.token_bytes())
        # Models pad their vocabulary: what has no bytes is never allowed.
        self.tokens = tokens + [b""] * (size - len(tokens))
        self.special_token_ids = sorted(vocabulary.control_ids())
        self.eos_token_id = end
        self._encode = vocabulary.encode

    def __call__(self, s: str) -> list[int]:
        return self._encode(s)


def _grammar(wanted: OutputFormat) -> str:
    if wanted.kind == "json_object":
        return _json_grammar({"type": "object"})
    if wanted.kind == "json_schema":
        try:
            schema = json.loads(wanted.spec)
        except ValueError as error:
            raise InvalidValue(f"the schema is no JSON: {error}", param=_PARAM) from error
        except RecursionError as error:
            raise InvalidValue("the schema is nested too deeply", param=_PARAM) from error
        if not isinstance(schema, dict):
            raise InvalidValue("the schema must be an object", param=_PARAM)
        return _json_grammar(schema)
    if wanted.kind == "regex":
        return str(LLMatcher.grammar_from_regex(wanted.spec))
    return str(LLMatcher.grammar_from_lark(wanted.spec))


def _json_grammar(schema: dict[str, object]) -> str:
    return str(LLMatcher.grammar_from_json_schema(schema, overrides=_JSON))


def _reason(matcher: LLMatcher) -> str:
    """The library's error in a line: what a regex error says comes last."""
    lines = [line.strip() for line in str(matcher.get_error()).splitlines() if line.strip()]
    named = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (named or lines or ["the library does not say why"])[0][:300]
