"""Arithmetic as it is done on paper: the work, column by column, then the result.

Columns stand least digit first, so that every carry is known when it is needed and no step needs
more than a small table.
"""

from __future__ import annotations

from random import Random

from experts.recipes.example import Example, mixed, words

FIELD = "arithmetic"

NAMES = words(
    "Ann Bob Carl Dora Emil Fay Gus Hana Ivo Jane Kim Leo Mia Ned Olga Paul Rosa Sam Tina Uma Vic "
    "Will Yara Zoe"
)
THINGS = words("apples books coins pens stones cards shells stamps eggs keys cups nuts")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words(
    "January February March April May June July August September October November December"
)

_ADD = (
    "What is {a} + {b}?",
    "{a} + {b} = ?",
    "Calculate {a} plus {b}.",
    "Add {a} and {b}.",
    "How much is {a} plus {b}?",
    "{a}+{b}",
)
_SUBTRACT = (
    "What is {a} - {b}?",
    "{a} - {b} = ?",
    "Calculate {a} minus {b}.",
    "Subtract {b} from {a}.",
    "How much is {a} minus {b}?",
    "{a}-{b}",
)
_MULTIPLY = (
    "What is {a} * {b}?",
    "{a} * {b} = ?",
    "Calculate {a} times {b}.",
    "Multiply {a} by {b}.",
    "How much is {a} times {b}?",
    "{a}*{b}",
)
_DIVIDE = (
    "What is {a} / {b}?",
    "{a} / {b} = ?",
    "Calculate {a} divided by {b}.",
    "Divide {a} by {b}.",
    "How much is {a} divided by {b}?",
    "{a}/{b}",
)
_UNITS = (
    ("hour", "minutes", 60),
    ("minute", "seconds", 60),
    ("week", "days", 7),
    ("metre", "centimetres", 100),
    ("kilometre", "metres", 1000),
    ("kilogram", "grams", 1000),
    ("centimetre", "millimetres", 10),
    ("euro", "cents", 100),
)
_ORDERS = (
    ("taller", "tallest", "shortest"),
    ("older", "oldest", "youngest"),
    ("faster", "fastest", "slowest"),
    ("richer", "richest", "poorest"),
)


def _number(source: Random, most: int = 3) -> int:
    digits = source.choices(range(1, most + 1), [1, 3, 4][:most])[0]
    return source.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def add(source: Random) -> Example:
    a, b = _number(source), _number(source)
    prompt = source.choice(_ADD).format(a=a, b=b)
    return _example(f"add {min(a, b)} {max(a, b)}", prompt, *_added(a, b))


def subtract(source: Random) -> Example:
    b, a = sorted((_number(source), _number(source)))
    prompt = source.choice(_SUBTRACT).format(a=a, b=b)
    return _example(f"subtract {a} {b}", prompt, *_subtracted(a, b))


def multiply(source: Random) -> Example:
    a = source.randrange(2, 10) if source.random() < 0.2 else source.randrange(10, 100)
    b = source.randrange(2, 10)
    prompt = source.choice(_MULTIPLY).format(a=a, b=b)
    work = _multiplied(a, b)
    return _example(f"multiply {a} {b}", prompt, work, f"{a} * {b} = {a * b}")


def divide(source: Random) -> Example:
    b = source.randrange(2, 10)
    a = source.randrange(b, 10 * b) if source.random() < 0.2 else source.randrange(10 * b, 100 * b)
    if source.random() < 0.6:
        a -= a % b
    prompt = source.choice(_DIVIDE).format(a=a, b=b)
    rest = f" remainder {a % b}" if a % b else ""
    return _example(f"divide {a} {b}", prompt, _divided(a, b), f"{a} / {b} = {a // b}{rest}")


def compare(source: Random) -> Example:
    a = _number(source)
    b = source.choice((_number(source), _swapped(a, source)))
    if a == b:
        b = a + 1
    word, best = source.choice((("larger", max(a, b)), ("smaller", min(a, b))))
    prompt = source.choice(
        (
            "Which is {word}, {a} or {b}?",
            "Which number is {word}: {a} or {b}?",
            "{a} or {b}: {word}?",
        )
    ).format(word=word, a=a, b=b)
    return _example(
        f"compare {min(a, b)} {max(a, b)}", prompt, _compared(a, b, word), f"{best} is {word}."
    )


def parity(source: Random) -> Example:
    a = _number(source)
    prompt = source.choice(("Is {a} even or odd?", "Is the number {a} odd or even?")).format(a=a)
    kind = "odd" if a % 2 else "even"
    return _example(f"parity {a}", prompt, f"{a} ends in {a % 10}.", f"{a} is {kind}.")


def units(source: Random) -> Example:
    one, many, factor = source.choice(_UNITS)
    a = source.randrange(2, 100)
    prompt = source.choice(
        (
            "How many {many} are {a} {one}s?",
            "Convert {a} {one}s to {many}.",
            "{a} {one}s in {many}?",
        )
    ).format(many=many, one=one, a=a)
    figure = int(str(factor).rstrip("0"))
    work = f"1 {one} = {factor} {many}"
    if figure > 1:
        work += f", {_multiplied(a, figure)}"
    return _example(f"units {one} {a}", prompt, work, f"{a} {one}s = {a * factor} {many}")


def weekday(source: Random) -> Example:
    start, count = source.randrange(7), source.randrange(1, 30)
    prompt = source.choice(
        (
            "What day is {count} days after {day}?",
            "Today is {day}. What day is it in {count} days?",
            "Which weekday comes {count} days after {day}?",
        )
    ).format(count=count, day=DAYS[start])
    weeks, days = divmod(count, 7)
    passed = "".join(f", {step} {DAYS[(start + step) % 7]}" for step in range(1, days + 1))
    work = f"{count} days = {weeks} weeks + {days} days{passed}"
    return _example(f"weekday {start} {count}", prompt, work, f"{DAYS[(start + count) % 7]}.")


def month(source: Random) -> Example:
    start, count = source.randrange(12), source.randrange(1, 10)
    prompt = source.choice(
        (
            "Which month is {count} months after {month}?",
            "What month comes {count} months after {month}?",
        )
    ).format(count=count, month=MONTHS[start])
    number = start + 1 + count
    work = f"{MONTHS[start]} is month {start + 1}, {start + 1}+{count}={number}"
    if number > 12:
        work += f", {number}-12={number - 12}"
    return _example(f"month {start} {count}", prompt, work, f"{MONTHS[(start + count) % 12]}.")


def order(source: Random) -> Example:
    """Who is the most, of three whose order two sentences tell."""
    first, second, third = source.sample(NAMES, 3)
    more, most, least = source.choice(_ORDERS)
    facts = [f"{first} is {more} than {second}.", f"{second} is {more} than {third}."]
    source.shuffle(facts)
    asked, answer, place = source.choice(((most, first, "first"), (least, third, "last")))
    prompt = f"{' '.join(facts)} Who is the {asked}?"
    work = f"{first} > {second} > {third}, {asked}: {place}"
    return _example(
        f"order {first} {second} {third} {more}", prompt, work, f"{answer} is the {asked}."
    )


def story(source: Random) -> Example:
    who, what = source.choice(NAMES), source.choice(THINGS)
    a, b = _number(source, 2), _number(source, 2)
    if source.random() < 0.5:
        prompt = source.choice(
            (
                "{who} has {a} {what} and buys {b} more. How many {what} does {who} have now?",
                "{who} finds {a} {what}, then {b} more. How many {what} are there?",
            )
        )
        work, result = _added(a, b)
        key = f"add {min(a, b)} {max(a, b)}"
    else:
        b, a = sorted((a, b))
        prompt = source.choice(
            (
                "{who} has {a} {what} and loses {b}. How many {what} are left?",
                "{who} had {a} {what} and gave away {b}. How many {what} does {who} have now?",
            )
        )
        work, result = _subtracted(a, b)
        key = f"subtract {a} {b}"
    asked = prompt.format(who=who, what=what, a=a, b=b)
    return _example(key, asked, f"{work}\n{result}", f"{result.rpartition(' ')[2]} {what}.")


draw = mixed(
    (18, add),
    (20, subtract),
    (14, multiply),
    (15, divide),
    (8, compare),
    (2, parity),
    (6, units),
    (5, weekday),
    (4, month),
    (7, order),
    (8, story),
)


def _example(key: str, prompt: str, work: str, result: str) -> Example:
    return Example(FIELD, f"{FIELD} {key}", prompt, f"{work}\n{result}")


def _added(a: int, b: int) -> tuple[str, str]:
    """Steps, and the sum written out."""
    steps: list[str] = []
    carry, x, y = 0, a, b
    while x or y or not steps:
        total = x % 10 + y % 10 + carry
        steps.append(f"{x % 10}+{y % 10}{'+1' if carry else ''}={total}")
        carry, x, y = total // 10, x // 10, y // 10
    return ", ".join(steps), f"{a} + {b} = {a + b}"


def _subtracted(a: int, b: int) -> tuple[str, str]:
    """Whether ten must be borrowed is decided when both digits stand there, not before."""
    steps: list[str] = []
    borrowed, x, y = 0, a, b
    while x or not steps:
        top, rest = x % 10, f"-{y % 10}{'-1' if borrowed else ''}"
        left = top - y % 10 - borrowed
        borrowed = int(left < 0)
        steps.append(
            f"{top}{rest}<0, {top + 10}{rest}={left + 10}" if borrowed else f"{top}{rest}={left}"
        )
        x, y = x // 10, y // 10
    return ", ".join(steps), f"{a} - {b} = {a - b}"


def _multiplied(a: int, b: int) -> str:
    """A carry is added as in a sum: digit by digit."""
    steps: list[str] = []
    carry, x = 0, a
    while x:
        product = x % 10 * b
        steps.append(f"{x % 10}*{b}={product}")
        if carry:
            ones = product % 10 + carry
            steps.append(f"{product % 10}+{carry}={ones}")
            if product >= 10:
                steps.append(
                    f"{product // 10}{'+1' if ones >= 10 else '+0'}={(product + carry) // 10}"
                )
        carry, x = (product + carry) // 10, x // 10
    return ", ".join(steps)


def _divided(a: int, b: int) -> str:
    """Long division, digit by digit from the first: no step depends on how long another is."""
    steps: list[str] = []
    rest = 0
    for digit in str(a):
        part = 10 * rest + int(digit)
        rest = part % b
        steps.append(f"{part}/{b}={part // b}, {part // b}*{b}={part - rest}, rest {rest}")
    return ", ".join(steps)


def _compared(a: int, b: int, word: str) -> str:
    """Digit by digit to where they differ; then which of the two it is."""
    place = "first" if (a > b) == (word == "larger") else "second"
    if len(str(a)) != len(str(b)):
        sign = ">" if a > b else "<"
        return f"{len(str(a))} digits {sign} {len(str(b))} digits, {word}: {place}"
    steps: list[str] = []
    for x, y in zip(str(a), str(b), strict=True):
        steps.append(f"{x}{'=' if x == y else '<' if x < y else '>'}{y}")
        if x != y:
            break
    return f"{', '.join(steps)}, {word}: {place}"


def _swapped(a: int, source: Random) -> int:
    """The same number with one digit changed: the hard case of a comparison."""
    digits = list(str(a))
    digits[source.randrange(len(digits))] = str(source.randrange(1, 10))
    return int("".join(digits))
