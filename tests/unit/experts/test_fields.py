"""The data: seeded, split by content, and right by its own judgement."""

from __future__ import annotations

import re
from itertools import islice
from random import Random

import pytest
from experts.recipes.example import Example, held_out, held_out_set, last_line, stream
from experts.recipes.fields import arithmetic, code
from experts.recipes.fields.grammar import Meaning, say
from experts.recipes.fields.lexicon import ADJECTIVES, LANGUAGES, NOUNS, VERBS
from experts.recipes.recipes import FIELDS


def drawn(field: str, count: int, *, held: bool = False, seed: str = "test") -> list[Example]:
    return list(islice(stream(FIELDS[field], seed, held=held), count))


@pytest.mark.parametrize("field", FIELDS)
def test_the_same_seed_gives_the_same_examples(field: str) -> None:
    first, again = drawn(field, 40), drawn(field, 40)
    assert [(e.prompt, e.answer) for e in first] == [(e.prompt, e.answer) for e in again]
    assert all(example.field == field for example in first)
    assert drawn(field, 40, seed="other") != first


@pytest.mark.parametrize("field", FIELDS)
def test_nothing_held_out_is_ever_trained_on(field: str) -> None:
    """Neither a composition nor, where text alone tells it, a prompt is on both sides."""
    trained = drawn(field, 1500 if field == "shapes" else 3000)
    held = held_out_set(FIELDS[field], 150)
    assert len(held) >= 20
    assert not {example.key for example in held} & {example.key for example in trained}
    if field != "shapes":
        assert not {example.prompt for example in held} & {example.prompt for example in trained}


def test_what_has_no_parts_is_taught_whole() -> None:
    assert not held_out("")
    assert any(not example.key for example in drawn("chat", 50))


def test_a_sum_is_held_out_in_both_orders_and_in_every_story() -> None:
    trained = {
        frozenset(map(int, re.findall(r"\d+", example.prompt)))
        for example in drawn("arithmetic", 4000)
        if example.key.startswith("arithmetic add")
    }
    held = {
        frozenset(map(int, re.findall(r"\d+", example.prompt)))
        for example in held_out_set(FIELDS["arithmetic"], 300)
        if example.key.startswith("arithmetic add")
    }
    assert held
    assert not trained & held


def test_sums_are_right_at_every_step() -> None:
    for example in drawn("arithmetic", 1000):
        for left, right in re.findall(r"([\d+*/-]+)=(\d+)", example.answer):
            assert eval(left.replace("/", "//")) == int(right), example
        for left, right in re.findall(r"(\d+ [-+*/] \d+) = (\d+)", example.answer):
            assert int(eval(left)) == int(right), example


@pytest.mark.parametrize("a", range(0, 1000, 37))
def test_division_and_comparison_agree_with_python(a: int) -> None:
    for source in map(Random, range(a, a + 20)):
        example = arithmetic.divide(source)
        x, y, quotient, *rest = map(int, re.findall(r"\d+", example.result))
        assert divmod(x, y) == (quotient, rest[0] if rest else 0)
        compared = arithmetic.compare(source)
        numbers = [int(number) for number in re.findall(r"\d+", compared.prompt)]
        best = max(numbers) if "larger" in compared.prompt else min(numbers)
        assert int(re.findall(r"\d+", compared.result)[0]) == best


def test_days_and_months_are_counted_right() -> None:
    days = list(arithmetic.DAYS)
    for source in map(Random, range(200)):
        example = arithmetic.weekday(source)
        start = next(day for day in days if day in example.prompt)
        (count,) = re.findall(r"\d+", example.prompt)
        assert example.result == f"{days[(days.index(start) + int(count)) % 7]}."


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("English", "She sees a white house."),
        ("Spanish", "Ella ve una casa blanca."),
        ("Portuguese", "Ela vê uma casa branca."),
        ("French", "Elle voit une maison blanche."),
        ("German", "Sie sieht ein weißes Haus."),
    ],
)
def test_one_meaning_in_five_languages(language: str, text: str) -> None:
    house = next(i for i, noun in enumerate(NOUNS) if noun["English"].singular == "house")
    white = next(i for i, each in enumerate(ADJECTIVES) if each["English"][0] == "white")
    see = next(i for i, each in enumerate(VERBS) if each["English"][0] == "see")
    meaning = Meaning("does", house, definite=False, adjective=white, subject=3, verb=see)
    assert say(meaning, language) == text


def test_no_text_is_in_two_languages() -> None:
    said: dict[str, str] = {}
    for example in drawn("language", 1500):
        text = example.prompt
        assert said.setdefault(text, example.answer) == example.answer, text
    assert set(said.values()) == {f"{language}." for language in LANGUAGES}


@pytest.mark.parametrize("field", ["translation", "facts", "chat", "arithmetic", "code"])
def test_a_question_has_one_answer(field: str) -> None:
    """What two examples ask in the same words, they answer in the same words."""
    answers: dict[str, str] = {}
    for example in drawn(field, 4000):
        if example.prompt.startswith(("What is right?", "Fix this", "Mend the")):
            continue  # a mistake may be mended in more than one way
        assert answers.setdefault(example.prompt, example.answer) == example.answer


def test_functions_do_what_their_tests_say() -> None:
    for source in map(Random, range(300)):
        example = code.write(source)
        space: dict[str, object] = {}
        exec(example.answer, space)
        assert example.tests is not None
        exec(example.tests, space)


def test_a_result_is_the_last_line() -> None:
    assert last_line("2+2=4\n2 + 2 = 4\n") == "2 + 2 = 4"
    assert last_line("") == ""
