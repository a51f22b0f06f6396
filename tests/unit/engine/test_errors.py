from __future__ import annotations

import pickle

import pytest

from capyra.engine import errors
from capyra.engine.errors import BY_CODE, CapyraError, Failure, InvalidValue, QueueFull


def classes() -> list[type[CapyraError]]:
    return [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, CapyraError)
    ]


def test_every_class_has_a_code_of_its_own() -> None:
    assert len({each.code for each in classes()}) == len(classes())
    assert set(BY_CODE.values()) == set(classes())


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    for each in classes():
        assert each.__name__ in errors.__doc__


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_a_failure_is_the_same_error_again(kind: type[CapyraError]) -> None:
    failure = Failure.of(kind("a sentence", param="top_k", retry_after_s=1.5))
    again = pickle.loads(pickle.dumps(failure)).error()
    assert type(again) is kind
    assert (again.message, again.param, again.retry_after_s) == ("a sentence", "top_k", 1.5)
    assert Failure.of(again) == failure


def test_an_unknown_code_is_still_an_error() -> None:
    assert type(Failure("from_the_future", "a sentence").error()) is CapyraError


def test_an_error_is_its_sentence() -> None:
    assert str(InvalidValue("too much", param="n")) == "too much"
    assert QueueFull("full").retry_after_s is None
