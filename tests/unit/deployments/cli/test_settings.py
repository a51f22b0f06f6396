from __future__ import annotations

from typing import Any

import pytest

from capyra.deployments.cli.settings import SETTINGS, parse, parse_pair
from capyra.deployments.gateway.chat import ChatBody
from capyra.engine.errors import InvalidValue


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("temperature=0.2", 0.2),
        ("seed = 7", 7),
        ("keep_alive=10m", "10m"),
        ("keep_alive=-1", -1),
        ('stop="two words" END', ["two words", "END"]),
    ],
)
def test_values_get_their_type(pair: str, value: Any) -> None:
    assert parse_pair(pair)[1] == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("temp", "1", "did you mean temperature"),
        ("max_token", "1", "did you mean max_tokens"),
        ("zzz", "1", "there is frequency_penalty"),
        ("temperature", "hot", "a number, not 'hot'"),
        ("seed", "1.5", "a whole number"),
        ("stop", '"open', "even quotes"),
    ],
)
def test_mistakes_are_told(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        parse(name, text)


def test_a_pair_needs_both_sides() -> None:
    with pytest.raises(InvalidValue, match="NAME=VALUE"):
        parse_pair("temperature")


def test_every_setting_is_a_field_of_the_api() -> None:
    assert set(SETTINGS) <= set(ChatBody.model_fields)
