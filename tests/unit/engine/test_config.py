"""An expert's settings: sizes, durations, and what may not be written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from capyra.engine.config import (
    FOREVER,
    Bytes,
    ExpertConfig,
    ExpertName,
    KeepAlive,
    License,
    Replicas,
    Seconds,
    Speculation,
    parse_duration,
    parse_size,
)

BYTES: TypeAdapter[int] = TypeAdapter(Bytes)
SECONDS: TypeAdapter[float] = TypeAdapter(Seconds)
KEEP_ALIVE: TypeAdapter[float] = TypeAdapter(KeepAlive)
NAME: TypeAdapter[str] = TypeAdapter(ExpertName)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (0, 0),
        (4096, 4096),
        (1e9, 10**9),
        ("7", 7),
        ("800MB", 800 * 10**6),
        ("800 mb", 800 * 10**6),
        ("1.5GiB", 3 * 2**29),
        ("1.5Gi", 3 * 2**29),
        (" 2k ", 2000),
        ("1TiB", 2**40),
    ],
)
def test_sizes(written: object, size: int) -> None:
    assert BYTES.validate_python(written) == size


@pytest.mark.parametrize(
    "written",
    ["", "GiB", "1.5.GiB", "5ib", "4 elephants", "1e9", "-1", "9" * 400, "٣MB", None, True, [],
     1.5, float("nan"), float("inf"), -1, 2**51],
)  # fmt: skip
def test_no_sizes(written: object) -> None:
    with pytest.raises(ValidationError):
        BYTES.validate_python(written)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0),
        (2.5, 2.5),
        ("90", 90),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("30s", 30),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2D", 172800),
        (timedelta(minutes=2), 120),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert SECONDS.validate_python(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "m", "5 minutes", "1h30", "30 s later", "-5m", "1_000", "nan", "inf", "9" * 400, "1e3",
     None, True, {}, -1, float("nan"), float("inf"), 10**12],
)  # fmt: skip
def test_no_durations(written: object) -> None:
    with pytest.raises(ValidationError):
        SECONDS.validate_python(written)


@pytest.mark.parametrize(
    ("written", "seconds"), [("-1", FOREVER), (-1, FOREVER), (0, 0), ("10m", 600)]
)
def test_keep_alives(written: object, seconds: float) -> None:
    assert KEEP_ALIVE.validate_python(written) == seconds


@pytest.mark.parametrize("written", [-2, -0.5, "-5", "-1s", "for ever"])
def test_no_keep_alives(written: object) -> None:
    with pytest.raises(ValidationError):
        KEEP_ALIVE.validate_python(written)


@given(st.integers(0, 2**50))
def test_a_size_in_bytes_is_itself(size: int) -> None:
    assert BYTES.validate_python(size) == BYTES.validate_python(f"{size}") == size


def refusal(parse: Callable[[object], float], value: object) -> str | None:
    """Why a parser refuses a value; None if it does not."""
    try:
        parse(value)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("parse", [parse_size, parse_duration])
@given(value=st.text(max_size=30) | st.floats() | st.integers() | st.none() | st.booleans())
def test_what_cannot_be_parsed_is_told_how_to_be_written(
    parse: Callable[[object], float], value: object
) -> None:
    why = refusal(parse, value)
    assert why is None or "; write " in why


@pytest.mark.parametrize("name", ["a", "7", "phi4_fast", "qwen2.5-coder", "a" * 63])
def test_names(name: str) -> None:
    assert NAME.validate_python(name) == name


@pytest.mark.parametrize("name", ["", "A", "_a", "a b", "a/b", "ä", "a\n", "a" * 64])
def test_no_names(name: str) -> None:
    with pytest.raises(ValidationError):
        NAME.validate_python(name)


def test_settings_are_frozen() -> None:
    config = ExpertConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.pin = True
    with pytest.raises(ValidationError, match="frozen"):
        config.queue.running = 1


@pytest.mark.parametrize(
    "settings", [{"modle": "x"}, {"queue": {"runing": 1}}, {"skills": [{"name": "a", "x": 1}]}]
)
def test_unknown_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        ExpertConfig.model_validate(settings)


def test_settings_come_back_from_json() -> None:
    config = ExpertConfig.model_validate(
        {
            "model": "org/name",
            "license": {"id": "MIT"},
            "keep_alive": -1,
            "queue": {"deadline": "2m"},
            "resources": {"memory": "1.5GiB"},
            "skills": [{"name": "code", "examples": ["a", "b"]}],
            "options": {"load_seconds": "1s"},
        }
    )
    assert ExpertConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("terms", "usable"),
    [
        ({}, True),
        ({"commercial": False}, False),
        ({"gated": True}, False),
        ({"commercial": False, "accepted": True}, True),
        ({"gated": True, "accepted": True}, True),
    ],
)
def test_an_expert_is_active_when_its_licence_permits(terms: dict[str, bool], usable: bool) -> None:
    license_ = License.model_validate({"id": "X"} | terms)
    assert ExpertConfig(license=license_).active is usable
    assert ExpertConfig(license=license_, enabled=False).active is False


def test_no_licence_named_is_no_obstacle() -> None:
    assert ExpertConfig().active


def test_replicas_start_within_their_bound() -> None:
    assert Replicas(initial=2, max=2).initial == 2
    with pytest.raises(ValidationError, match="lower one"):
        Replicas(initial=3, max=2)


def test_a_draft_model_goes_with_its_method() -> None:
    assert Speculation(method="draft", draft="org/small").draft == "org/small"
    with pytest.raises(ValidationError, match="needs a model"):
        Speculation(method="draft")
    with pytest.raises(ValidationError, match="has no effect"):
        Speculation(method="ngram", draft="org/small")
