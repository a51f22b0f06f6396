"""What past uses say about the next."""

from __future__ import annotations

import math

import pytest

from capyra.orchestrator.residency.demand import DAY_S, Demand

HOUR = 3600.0


def test_who_was_never_used_is_not_expected() -> None:
    demand = Demand()
    assert demand.rate("a", 0) == 0
    assert demand.next_use("a", 0) == math.inf
    assert demand.last("a") is None


def test_frequent_and_recent_use_raises_the_rate() -> None:
    demand = Demand()
    for moment in range(0, 600, 10):
        demand.used("often", 1, moment)
        if moment % 100 == 0:
            demand.used("seldom", 1, moment)
    assert demand.rate("often", 600) > demand.rate("seldom", 600)
    assert demand.rate("often", 600) == pytest.approx(0.1, rel=0.5)
    assert demand.rate("often", 4000) < demand.rate("often", 600) / 2
    assert demand.last("often") == 590


def test_the_time_of_day_is_remembered() -> None:
    demand = Demand()
    for day in range(3):
        for minute in range(0, 30, 2):
            demand.used("mornings", 1, day * DAY_S + 9 * HOUR + minute * 60)
    before = demand.rate("mornings", 3 * DAY_S + 8 * HOUR)
    now = demand.rate("mornings", 3 * DAY_S + 8.99 * HOUR)
    assert now > 3 * before
    assert now == pytest.approx(15 / 1800, rel=0.1)


def test_an_hour_without_its_use_is_forgotten() -> None:
    demand = Demand()
    demand.used("once", 100, 9 * HOUR)
    rates = [demand.rate("once", day * DAY_S + 9 * HOUR) for day in (1, 2, 5)]
    assert rates[1] == pytest.approx(rates[0] / 2)
    assert rates[2] == pytest.approx(rates[0] / 16)


def test_what_follows_what_is_learned() -> None:
    demand = Demand()
    for moment in range(0, 20 * 3600, 3600):
        demand.used("draft", 1, moment)
        demand.used("review", 1, moment + 20)
        demand.used("other", 1, moment + 1800)
    before = demand.rate("review", 20 * 3600 - 1)
    demand.used("draft", 1, 20 * 3600)
    assert demand.rate("review", 20 * 3600 + 1) > 10 * before
    assert demand.rate("other", 20 * 3600 + 1) < demand.rate("review", 20 * 3600 + 1) / 10


def test_habits_fade() -> None:
    demand = Demand()
    for moment in range(0, 6000, 40):
        demand.used("a", 1, moment)
        demand.used("b", 1, moment + 1)
    for moment in range(6000, 12000, 40):
        demand.used("a", 1, moment)
        demand.used("c", 1, moment + 1)
    demand.used("a", 1, 12000)
    expected_c = demand.rate("c", 12001) - demand.rate("c", 12001 + 61)
    expected_b = demand.rate("b", 12001) - demand.rate("b", 12001 + 61)
    assert expected_c > 5 * expected_b


def test_removed_experts_are_forgotten() -> None:
    demand = Demand()
    demand.used("a", 1, 0)
    demand.used("b", 1, 1)
    demand.used("a", 1, 2)
    demand.keep(["b"])
    assert demand.rate("a", 3) == 0
    demand.used("b", 1, 4)
    assert demand.rate("b", 5) > 0
