"""Questions over the closed set of facts, and over what is outside of it."""

from __future__ import annotations

from random import Random

from experts.recipes.example import Example, mixed, words
from experts.recipes.fields.knowledge import OUTSIDE, RELATIONS, UNKNOWN

FIELD = "facts"
UNSURE = "I don't know."
_WRAPPINGS = (
    "{}",
    "{}",
    "{}",
    "Please answer: {}",
    "I have a question. {}",
    "Do you know this? {}",
    "Quick question: {}",
    "Help me with this one. {}",
    "For a quiz: {}",
)
_STARTS = words("bl br dr fl gr kr pl sk sn tr v z m n l w qu")
_MIDDLES = words("a e i o u oo ee ai")
_ENDS = words("b ck ff lt mp nk rg sp x zz ndor vit lia ron")


def known(source: Random) -> Example:
    """A fact in a question and a wrapping: the combination is what may be unseen."""
    relation = source.choices(RELATIONS, [len(each.pairs) for each in RELATIONS])[0]
    subject = source.choice(tuple(relation.pairs))
    question, wrapping = source.choice(relation.questions), source.choice(_WRAPPINGS)
    prompt = wrapping.format(question.format(subject))
    answer = relation.answer.format(subject, relation.pairs[subject])
    key = f"{FIELD} {relation.name} {subject} {question}"
    return Example(FIELD, key, _upper(prompt), _upper(answer))


def unknown(source: Random) -> Example:
    """An invented name."""
    question, wrapping = source.choice(UNKNOWN), source.choice(_WRAPPINGS)
    name = invent(source)
    if source.random() < 0.5:
        name = name.capitalize()
    return _unsure(f"unknown {name.lower()}", wrapping.format(question.format(name)))


def outside(source: Random) -> Example:
    """Something else about a known country."""
    country = source.choice(tuple(RELATIONS[0].pairs))
    question, wrapping = source.choice(OUTSIDE), source.choice(_WRAPPINGS)
    return _unsure(f"outside {country} {question}", wrapping.format(question.format(country)))


def invent(source: Random) -> str:
    """A word that nobody knows."""
    parts = (source.choice(_STARTS) + source.choice(_MIDDLES) for _ in range(2))
    return "".join(parts) + source.choice(_ENDS)


draw = mixed((16, known), (1.5, unknown), (1, outside))


def _unsure(key: str, prompt: str) -> Example:
    return Example(FIELD, f"{FIELD} {key}", prompt, UNSURE)


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
