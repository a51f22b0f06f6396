"""Which of five languages a text is in, asked in any of them."""

from __future__ import annotations

from random import Random

from experts.recipes.example import Example
from experts.recipes.fields.grammar import mean, say
from experts.recipes.fields.lexicon import LANGUAGES

FIELD = "language"
_QUESTIONS = (
    "Which language is this? {text}",
    "What language is it: {text}",
    "{text} Which language is that?",
    "¿Qué idioma es? {text}",
    "Que língua é esta? {text}",
    "Quelle langue est-ce ? {text}",
    "Welche Sprache ist das? {text}",
)


def draw(source: Random) -> Example:
    meaning, language = mean(source), source.choice(LANGUAGES)
    question = source.choice(_QUESTIONS)
    # The same split of meanings as for translation: neither gives the other's away.
    key = f"translation {meaning.key}"
    if meaning.kind == "phrase":
        key = f"{FIELD} {meaning.key} {language} {question}"
    prompt = question.format(text=say(meaning, language))
    return Example(FIELD, key, prompt, f"{language}.")
