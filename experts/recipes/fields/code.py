"""Short Python functions from descriptions, what they do in words, and lines to mend.

A kind is a description, an expression and the sort of its argument; constants, names and
arguments vary. What is written is judged by running it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from experts.recipes.example import Example, mixed, words

FIELD = "code"

_VERBS = words(
    "get make find take give build pick compute show read check fetch solve apply form keep"
)
_NOUNS = words(
    "value result number total part item score level answer text data word line size price point "
    "name rest"
)
_ARGUMENTS = {
    "number": ("x", "n", "number", "value"),
    "list": ("items", "values", "numbers", "xs"),
    "text": ("text", "word", "s", "line"),
}
_LETTERS = "abcdefghijklmnoprstuw"


@dataclass(frozen=True, slots=True)
class Kind:
    """`{a}` is the argument, `{k}` a number, `{c}` and `{d}` letters."""

    argument: str
    words: str
    body: str
    fewest: int = 2
    most: int = 30

    def lines(self, **names: Any) -> str:
        lines = self.body.format(**names).split("\n")
        if len(lines) == 1:
            lines = [f"return {lines[0]}"]
        return "".join(f"\n    {line}" for line in lines)


_KINDS = (
    Kind("number", "{a} plus {k}", "{a} + {k}"),
    Kind("number", "{a} minus {k}", "{a} - {k}"),
    Kind("number", "{a} times {k}", "{a} * {k}"),
    Kind("number", "{a} divided by {k} without the rest", "{a} // {k}"),
    Kind("number", "the remainder of {a} divided by {k}", "{a} % {k}"),
    Kind("number", "{a} to the power of {k}", "{a} ** {k}", 2, 5),
    Kind("number", "the square of {a} plus {k}", "{a} * {a} + {k}"),
    Kind("number", "whether {a} is greater than {k}", "{a} > {k}"),
    Kind("number", "whether {a} is less than {k}", "{a} < {k}"),
    Kind("number", "whether {a} is a multiple of {k}", "{a} % {k} == 0"),
    Kind("number", "the larger of {a} and {k}", "max({a}, {k})"),
    Kind("number", "the smaller of {a} and {k}", "min({a}, {k})"),
    Kind("number", "the distance between {a} and {k}", "abs({a} - {k})"),
    Kind("number", "whether {a} is even", "{a} % 2 == 0"),
    Kind("number", "whether {a} is odd", "{a} % 2 == 1"),
    Kind("number", "the sum of all numbers from 1 to {a}", "sum(range(1, {a} + 1))"),
    Kind(
        "number",
        "a list of the first {k} multiples of {a}",
        "[{a} * i for i in range(1, {k} + 1)]",
        2,
        9,
    ),
    Kind("number", "{k} if {a} is negative, else {a}", "if {a} < 0:\n    return {k}\nreturn {a}"),
    Kind(
        "number",
        "the factorial of {a}",
        "result = 1\nfor i in range(2, {a} + 1):\n    result *= i\nreturn result",
    ),
    Kind("list", "the sum of {a}", "sum({a})"),
    Kind("list", "the largest of {a}", "max({a})"),
    Kind("list", "the smallest of {a}", "min({a})"),
    Kind("list", "the number of {a}", "len({a})"),
    Kind("list", "the average of {a}", "sum({a}) / len({a})"),
    Kind("list", "the first {k} of {a}", "{a}[:{k}]", 2, 5),
    Kind("list", "the last {k} of {a}", "{a}[-{k}:]", 2, 5),
    Kind("list", "{a} without the first {k}", "{a}[{k}:]", 2, 5),
    Kind("list", "{a} in reverse order", "{a}[::-1]"),
    Kind("list", "{a} in ascending order", "sorted({a})"),
    Kind("list", "{a} in descending order", "sorted({a}, reverse=True)"),
    Kind("list", "{a}, each plus {k}", "[i + {k} for i in {a}]"),
    Kind("list", "{a}, each times {k}", "[i * {k} for i in {a}]"),
    Kind("list", "those of {a} greater than {k}", "[i for i in {a} if i > {k}]"),
    Kind("list", "those of {a} less than {k}", "[i for i in {a} if i < {k}]"),
    Kind("list", "the even ones of {a}", "[i for i in {a} if i % 2 == 0]"),
    Kind("list", "how many of {a} are greater than {k}", "sum(i > {k} for i in {a})"),
    Kind("list", "whether {k} is in {a}", "{k} in {a}"),
    Kind("list", "whether all of {a} are greater than {k}", "all(i > {k} for i in {a})"),
    Kind("list", "whether any of {a} is greater than {k}", "any(i > {k} for i in {a})"),
    Kind("list", "{a} without duplicates, sorted", "sorted(set({a}))"),
    Kind(
        "list",
        "the product of {a}",
        "result = 1\nfor i in {a}:\n    result *= i\nreturn result",
    ),
    Kind("text", "{a} in capitals", "{a}.upper()"),
    Kind("text", "{a} in small letters", "{a}.lower()"),
    Kind("text", "{a} backwards", "{a}[::-1]"),
    Kind("text", "the length of {a}", "len({a})"),
    Kind("text", "the first {k} letters of {a}", "{a}[:{k}]", 2, 5),
    Kind("text", "the last {k} letters of {a}", "{a}[-{k}:]", 2, 5),
    Kind("text", "{a} repeated {k} times", "{a} * {k}", 2, 9),
    Kind("text", "how often {c} is in {a}", '{a}.count("{c}")'),
    Kind("text", "{a} with {c} replaced by {d}", '{a}.replace("{c}", "{d}")'),
    Kind("text", "whether {a} begins with {c}", '{a}.startswith("{c}")'),
    Kind("text", "whether {a} ends with {c}", '{a}.endswith("{c}")'),
    Kind("text", "whether {a} contains {c}", '"{c}" in {a}'),
    Kind("text", "the words of {a}", "{a}.split()"),
    Kind("text", "the number of words in {a}", "len({a}.split())"),
    Kind("text", "{a} without spaces", '{a}.replace(" ", "")'),
    Kind("text", "whether {a} is a palindrome", "{a} == {a}[::-1]"),
)
_REQUESTS = (
    "Write a function {name}({a}) that returns {words}.",
    "Define {name}({a}): it returns {words}.",
    "Python function {name}({a}) for {words}, please.",
    "I need a function {name}({a}). It should return {words}.",
)
_EXPLAIN = ("What does this function do?\n{code}", "Explain this code.\n{code}")
_MEND = ("Fix this line: {line}", "Mend the mistake: {line}", "What is right? {line}")


@dataclass(frozen=True, slots=True)
class _Function:
    kind: Kind
    names: dict[str, Any]
    code: str
    words: str

    @property
    def key(self) -> str:
        used = {name for name in self.names if f"{{{name}}}" in self.kind.body}
        values = " ".join(str(self.names[name]) for name in sorted(used - {"a"}))
        return f"{self.kind.body} {values} {self.names['name']}"


def _function(source: Random) -> _Function:
    kind = source.choice(_KINDS)
    c, d = source.sample(_LETTERS, 2)
    names = {
        "name": f"{source.choice(_VERBS)}_{source.choice(_NOUNS)}",
        "a": source.choice(_ARGUMENTS[kind.argument]),
        "k": source.randint(kind.fewest, kind.most),
        "c": c,
        "d": d,
    }
    code = f"def {names['name']}({names['a']}):{kind.lines(**names)}"
    return _Function(kind, names, code, kind.words.format(**names))


def write(source: Random) -> Example:
    made = _function(source)
    prompt = source.choice(_REQUESTS).format(words=made.words, **made.names)
    tests = _tests(made, source)
    return Example(FIELD, f"{FIELD} {made.key}", prompt, made.code, tests=tests)


def explain(source: Random) -> Example:
    made = _function(source)
    prompt = source.choice(_EXPLAIN).format(code=made.code)
    return Example(FIELD, f"{FIELD} {made.key}", prompt, f"It returns {made.words}.")


def mend(source: Random) -> Example:
    """One line with one mistake."""
    made = _function(source)
    line = source.choice(made.code.split("\n")).strip()
    broken = source.choice([each for each in _broken(line) if each != line])
    prompt = source.choice(_MEND).format(line=broken)
    return Example(FIELD, f"{FIELD} {made.key}", prompt, line)


draw = mixed((8, write), (2, explain), (2, mend))


def _broken(line: str) -> list[str]:
    """That line, wrong in different ways; some may leave it as it is."""
    return [
        line.replace("return", "retrun"),
        line.replace("return", "retun"),
        line.replace("def", "dfe"),
        line.removesuffix(":"),
        line.removesuffix(")"),
        line.replace("):", ":"),
        line.replace("for", "fro"),
        line.replace("==", "="),
        f"{line};",
    ]


_INPUTS: dict[str, Callable[[Random], Any]] = {
    "number": lambda source: source.randrange(0, 60),
    "list": lambda source: [source.randrange(0, 40) for _ in range(source.randrange(1, 9))],
    "text": lambda source: " ".join(
        "".join(source.choices(_LETTERS, k=source.randrange(2, 6)))
        for _ in range(source.randrange(1, 4))
    ),
}


def _tests(made: _Function, source: Random) -> str:
    """What the function gives for some inputs. It is our own text that is run here."""
    space: dict[str, Any] = {}
    exec(made.code, space)
    name = made.names["name"]
    inputs = [_INPUTS[made.kind.argument](source) for _ in range(5)]
    if made.kind.argument == "number":
        inputs += [-3, 0, 7] if "range" not in made.kind.body else [1]
    if made.kind.argument == "text":
        inputs += ["level", "Abc"]
    return "\n".join(f"assert {name}({each!r}) == {space[name](each)!r}" for each in inputs)
