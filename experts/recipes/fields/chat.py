"""Talk: greetings in five languages, who one is, polite rewriting and short summaries."""

from __future__ import annotations

from pathlib import Path
from random import Random

from experts.recipes.example import Example, mixed, words
from experts.recipes.fields.arithmetic import DAYS, NAMES

FIELD = "chat"

_TALK = tuple(
    tuple(tuple(each.split("/")) for each in line.split("|"))
    for line in Path(__file__).with_name("words").joinpath("talk.txt").read_text().splitlines()
)
_ACTS = words("send bring show give read lend fetch copy")
_OBJECTS = words(
    "report letter key book list map ticket bill photo plan contract invoice menu form file"
)
_POLITE = (
    "Rewrite politely: {text}",
    "Make this polite: {text}",
    "Say it in a friendlier way: {text}",
)
_PLACES = words("market park station harbour library beach castle museum theatre bakery")
_GOODS = words("bread apples flowers books tea cheese candles stamps shoes honey")
_SUMMARY = ("Summarise: {text}", "Sum up in one sentence: {text}", "Make it short: {text}")


def greet(source: Random) -> Example:
    said, (answer,) = source.choice(_TALK)
    prompt = source.choice(said)
    return Example(FIELD, "", prompt, answer)


def soften(source: Random) -> Example:
    act, what = source.choice(_ACTS), source.choice(_OBJECTS)
    when = source.choice(("", " now", " today", " at once", " on " + source.choice(DAYS)))
    prompt = source.choice(_POLITE).format(text=f"{act.capitalize()} me the {what}{when}.")
    answer = f"Could you please {act} me the {what}{when}?"
    return Example(FIELD, f"{FIELD} polite {act} {what}{when}", prompt, answer)


def summarise(source: Random) -> Example:
    who, day, place = source.choice(NAMES), source.choice(DAYS), source.choice(_PLACES)
    first, second = source.sample(_GOODS, 2)
    text = source.choice(
        (
            "{who} went to the {place} on {day}. There {who} bought {first} and {second}.",
            "It was {day}. {who} was at the {place} and bought {first}, and then {second}.",
            "On {day} {who} needed {first} and {second}. {who} bought them at the {place}.",
        )
    ).format(who=who, place=place, day=day, first=first, second=second)
    prompt = source.choice(_SUMMARY).format(text=text)
    answer = f"{who} bought {first} and {second} at the {place} on {day}."
    return Example(FIELD, f"{FIELD} summary {who} {day} {place} {first} {second}", prompt, answer)


draw = mixed((3, greet), (2, soften), (2, summarise))
