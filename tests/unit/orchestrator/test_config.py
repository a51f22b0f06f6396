"""What an operator decides for all experts together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from capyra.orchestrator.config import Panel, Residency, Routing, Rule, VirtualModel


def test_defaults_are_those_of_the_design() -> None:
    residency = Residency()
    assert (residency.max_resident, residency.parked, residency.warm) == (5, 5, 2)
    assert residency.keep_alive == 300
    assert Panel().size == 3
    assert Routing().rules == ()


def test_a_small_machine_needs_no_word_about_its_warm_set() -> None:
    assert Residency(max_resident=1).max_resident == 1
    with pytest.raises(ValidationError, match="lower one"):
        Residency(max_resident=1, warm=2)


def test_one_node_is_not_larger_than_all() -> None:
    even = Residency.model_validate({"node_memory": "8GiB", "total_memory": "8GiB"})
    assert even.node_memory == even.total_memory == 2**33
    with pytest.raises(ValidationError, match="node_memory is more"):
        Residency.model_validate({"node_memory": "9GiB", "total_memory": "8GiB"})


@pytest.mark.parametrize("rule", [{}, {"allow": ["a"], "deny": ["b"]}])
def test_a_rule_has_one_effect(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="either `allow` or `deny`"):
        Rule.model_validate({"pattern": "code", **rule})


def test_a_rule_has_a_pattern_that_compiles() -> None:
    assert Rule(pattern=r"\bSQL\b", allow=("coder",)).allow == ("coder",)
    with pytest.raises(ValidationError, match="no regular expression"):
        Rule(pattern="(", allow=("coder",))


@pytest.mark.parametrize(
    ("panel", "why"),
    [
        ({"members": ["a", "a"]}, "named twice"),
        ({"members": ["a", "b"], "quorum": 3}, "more than are asked"),
        ({"size": 2, "quorum": 3}, "more than are asked"),
    ],
)
def test_a_panel_can_reach_its_quorum(panel: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Panel.model_validate(panel)


@pytest.mark.parametrize("model", [{}, {"route": {}, "panel": {}}])
def test_a_virtual_model_is_a_route_or_a_panel(model: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="write `route` or `panel`"):
        VirtualModel.model_validate(model)
    assert VirtualModel.model_validate({"route": {"strategy": "fast"}}).panel is None
